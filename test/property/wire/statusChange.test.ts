/** Laws of a status told as what became different: however it went, whoever follows it has the status itself. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Status, WorkerStatus } from "../../../shared/wire/status.ts";
import { applyChange, changeOf, type StatusChange } from "../../../shared/wire/statusChange.ts";

/** Few values of each, so that two in a row often are the same. */
const worker: fc.Arbitrary<WorkerStatus> = fc.record({
  worker: fc.constantFrom("a", "b", "c", "d", "e", "f", "g"),
  name: fc.constantFrom("", "Mei"),
  kind: fc.constantFrom("node", "browser"),
  device: fc.constantFrom("", "a toaster, 1 core"),
  state: fc.constantFrom("joining", "ready"),
  backend: fc.constantFrom(null, "onnx", "webgpu"),
  fallbacks: fc.subarray([
    { backend: "webgpu", reason: "no adapter" },
    { backend: "webgl", reason: "too small" },
  ]),
  tokens: fc.nat(3),
  tokensPerSecond: fc.constantFrom(0, 0.5, 1234.5),
  share: fc.constantFrom(0, 0.25, 1),
  refused: fc.nat(1),
  waitingReason: fc.constantFrom("", "every unit of this round is handed out"),
  behind: fc.constantFrom(null, 0, 1),
  leases: fc.nat(2),
  strikes: fc.nat(1),
});

const status: fc.Arbitrary<Status> = fc.record({
  run: fc.constant("r"),
  about: fc.constantFrom(null, "for the class of 4b"),
  corpus: fc.constant("a text"),
  phase: fc.constantFrom("working", "paused"),
  paused: fc.constantFrom({}, { operator: "lunch" }),
  reason: fc.constantFrom("round 1", "round 2"),
  version: fc.nat(3),
  steps: fc.constant(10),
  hash: fc.constantFrom("00", "ff"),
  parameters: fc.constant(100),
  tokens: fc.nat(3),
  tokensPerSecond: fc.constantFrom(0, 61_000),
  trainLoss: fc.constantFrom(null, 1.9),
  validationLoss: fc.constantFrom(null, 2),
  learningRate: fc.constantFrom(0, 1e-3),
  gradientNorm: fc.constantFrom(null, 0.6),
  codec: fc.constant("i8"),
  strict: fc.boolean(),
  counts: fc.constantFrom({}, { joined: 1 }),
  refusals: fc.constantFrom({}, { "stale-version": 2 }),
  workers: fc.uniqueArray(worker, { selector: ({ worker: id }) => id, maxLength: 7 }),
});

/** As it arrives: through JSON. */
function sent(change: StatusChange): StatusChange {
  return JSON.parse(JSON.stringify(change)) as StatusChange;
}

test("who is told each change has each status; who begins anywhere and is told the changes from there has it too", () => {
  fc.assert(
    fc.property(fc.array(status, { minLength: 2, maxLength: 6 }), fc.nat(), (told, somewhere) => {
      const begins = somewhere % told.length;
      let follower = told[begins]!;
      for (let i = begins + 1; i < told.length; i++) {
        follower = applyChange(follower, sent(changeOf(told[i - 1]!, told[i]!)));
        expect(follower).toEqual(told[i]);
      }
    }),
  );
});

test("a change that skips some in between leads to the same", () => {
  fc.assert(
    fc.property(status, status, status, (first, between, last) => {
      const steps = applyChange(applyChange(first, sent(changeOf(first, between))), sent(changeOf(between, last)));
      expect(applyChange(first, sent(changeOf(first, last)))).toEqual(steps);
    }),
  );
});

test("of who is as before nothing is told, and the object stays the same", () => {
  fc.assert(
    fc.property(status, worker, (before, other) => {
      const workers = before.workers.filter(({ worker: id }) => id !== other.worker);
      const nothing = changeOf(before, structuredClone(before));
      expect(nothing).toEqual({ run: {}, left: [], fields: {}, joined: [] });
      const joined = applyChange({ ...before, workers }, changeOf({ ...before, workers }, { ...before, workers: [...workers, other] })); // prettier-ignore
      expect(joined.workers.map((one) => workers.indexOf(one))).toEqual([...workers.keys(), -1]);
    }),
  );
});

test("of 500 workers whose speed changes no more is sent than the speeds", () => {
  const one: WorkerStatus = { worker: "", name: "", kind: "node", device: "", state: "ready", backend: "onnx", fallbacks: [], tokens: 0, tokensPerSecond: 1, share: 0, refused: 0, waitingReason: "", behind: 0, leases: 1, strikes: 0 }; // prettier-ignore
  const before = { ...fc.sample(status, 1)[0]!, workers: Array.from({ length: 500 }, (_, i) => ({ ...one, worker: `worker-${i}` })) }; // prettier-ignore
  const after = { ...before, workers: before.workers.map((each, i) => ({ ...each, tokensPerSecond: 100 + i })) };
  const change = changeOf(before, after);
  expect(change.fields).toEqual({ tokensPerSecond: { at: null, to: after.workers.map(({ tokensPerSecond }) => tokensPerSecond) } }); // prettier-ignore
  const [first, ...rest] = after.workers;
  const few = changeOf(after, { ...after, workers: [{ ...first!, leases: 2 }, ...rest.slice(1)] });
  expect(few).toMatchObject({ left: [1], fields: { leases: { at: [0], to: [2] } }, joined: [] });
});
