/**
 * @file A whole cluster in memory: the real run (coordinator/run.ts), the real worker sessions, real frames; only the
 * network, the clock and the arithmetic are replaced. The arithmetic is a hash chain over exactly the units that were
 * merged, so that a unit counted twice, left out or computed on another θ changes the final hash.
 */
import { createMetrics } from "../../coordinator/metrics.ts";
import type { RoundRow, ContributionRow, EvaluationRow } from "../../coordinator/ledger.ts";
import { createPublisher } from "../../coordinator/publish.ts";
import type { RoundConfig } from "../../coordinator/roundState.ts";
import { createRun } from "../../coordinator/run.ts";
import type { Run } from "../../coordinator/run.ts";
import { sketchLength } from "../../shared/engine/examination.ts";
import type { Answer } from "../../shared/engine/examination.ts";
import { gptTensors } from "../../shared/model/gpt.ts";
import type { ModelSpec } from "../../shared/model/spec.ts";
import { layoutOf } from "../../shared/numerics/layout.ts";
import { mix32, randomUniform, streamKey } from "../../shared/numerics/rng.ts";
import { allocatePayload, decodeFrame, encodeFrame } from "../../shared/wire/frame.ts";
import type { CoordinatorMessage, Fallback, Lease, RunDescription, WorkerId } from "../../shared/wire/protocol.ts";
import type { Transport, TransportHandlers } from "../../shared/wire/transport.ts";
import { validateWorkerMessage } from "../../shared/wire/validate.ts";
import type { ComputeCommand, ComputeEvent } from "../../shared/worker/commands.ts";
import { runSession } from "../../shared/worker/run.ts";
import type { SessionState } from "../../shared/worker/session.ts";
import type { RunningSession } from "../../shared/worker/run.ts";
import { virtualClock } from "./virtualClock.ts";
import type { VirtualClock } from "./virtualClock.ts";

export type SimWorkerOptions = {
  readonly name: string;
  /** Virtual time of one training unit. */
  readonly unitMs: number;
  /** What this worker does with a lease, by its version: compute it (default), never answer, or send garbage. */
  /** What its engines compute in the examination, best engine first; one that is right by default. */
  readonly engines?: readonly ("right" | "wrong")[];
  /** Of an earlier life; null (default) for a new worker. */
  readonly identity?: SessionState["identity"];
  readonly behaviour?: (lease: Lease) => "compute" | "hang" | "garbage";
};

export type SimWorker = {
  readonly name: string;
  readonly session: () => RunningSession;
  /** The process dies: its connection closes, its work is gone. */
  readonly kill: () => void;
  /** The network goes silent without closing anything. */
  readonly partition: (cut: boolean) => void;
};

export type Cluster = {
  readonly clock: VirtualClock;
  readonly run: () => Run;
  readonly add: (options: SimWorkerOptions) => SimWorker;
  /** The coordinator dies and comes back from its ledger. */
  readonly restart: () => void;
  readonly finished: () => boolean;
  readonly rounds: readonly RoundRow[];
  readonly contributions: ReadonlyMap<number, readonly ContributionRow[]>;
  readonly evaluations: readonly EvaluationRow[];
  readonly hash: () => string;
  /** Contributions that the merge refused. */
  readonly garbageRefused: () => number;
};

const LATENCY_MS = 1;
const HEARTBEAT_MS = 1000;
const PAYLOAD_BYTES = 16;

const MODEL: ModelSpec = { kind: "gpt", layers: 1, heads: 1, width: 1, context: 4, vocabulary: 2, bias: false, dropout: 0 }; // prettier-ignore
const LAYOUT = layoutOf(gptTensors(MODEL));

/** An answer to the examination: in this world there is nothing behind it. */
function answerOf(engine: "right" | "wrong"): Answer {
  const value = engine === "right" ? 1 : 9;
  return { lossSum: 5, tokens: 7, sketch: new Float64Array(sketchLength(LAYOUT)).fill(value) };
}

/** What a unit's gradient is in this world. */
function unitValue(hash: string, position: number): number {
  return mix32(Number.parseInt(hash.slice(0, 8), 16) ^ mix32(position + 1));
}

function nextHash(hash: string, sum: number, tokens: number): string {
  const mixed = streamKey(Number.parseInt(hash.slice(0, 8), 16), sum, tokens);
  return (
    mixed.toString(16).padStart(8, "0") +
    mix32(mixed ^ sum)
      .toString(16)
      .padStart(8, "0")
  );
}

export const FIRST_HASH = "0123456789abcdef";

/** The hash after `steps` undisturbed rounds: what every disturbed run must reach. */
export function undisturbedHash(config: RoundConfig): string {
  let hash = FIRST_HASH;
  for (let version = 0; version < config.steps; version++) {
    let sum = 0;
    for (let unit = 0; unit < Math.ceil(config.batch / config.unit); unit++) sum += unitValue(hash, version * config.batch + unit * config.unit); // prettier-ignore
    hash = nextHash(hash, sum, config.batch * config.tokensPerSample);
  }
  return hash;
}

export function createCluster(config: RoundConfig, seed: number): Cluster {
  const clock = virtualClock();
  const rounds: RoundRow[] = [];
  const contributions = new Map<number, readonly ContributionRow[]>();
  const evaluations: EvaluationRow[] = [];
  const identities = new Map<string, string>();
  const banned = new Set<string>();
  let paused: string | null = null;
  let finished = false;
  let garbage = 0;
  /** Raised at each restart of the coordinator: links to an earlier life are dead. */
  let life = 0;
  let nextWorker = 1;
  const links = new Map<WorkerId, (message: CoordinatorMessage, payload?: Uint8Array) => void>();
  const cuts = new Map<WorkerId, (reason: string) => void>();
  const heard = new Map<WorkerId, number>();

  const description: RunDescription = {
    name: "sim",
    model: MODEL,
    seed,
    sampling: "shuffled",
    batch: config.batch,
    unit: config.unit,
    evaluationUnit: config.evaluationUnit,
    steps: config.steps,
    codec: "f32",
    strict: config.strict,
    manifestPath: "/corpus/manifest.json",
  };

  function startCoordinator(): Run {
    life += 1;
    const mine = life;
    const last = rounds.at(-1);
    let hash = last?.hash ?? FIRST_HASH;
    let sum = 0;
    const merged = new Set<number>();
    const publisher = createPublisher({ maxUpdateBytes: 1000 });
    const send = (worker: WorkerId, message: CoordinatorMessage, payload?: Uint8Array): void => {
      if (mine === life) links.get(worker)?.(message, payload);
    };
    return createRun(
      {
        description,
        round: config,
        schedule: { kind: "cosine", learningRate: 1, minLearningRate: 0.1, warmupSteps: 0, totalSteps: config.steps },
        about: null,
        corpus: "sim",
        snapshotEvery: 5,
        layout: LAYOUT,
        expected: Promise.resolve(answerOf("right")),
        heartbeatMs: HEARTBEAT_MS,
        version: last?.version ?? 0,
        hash,
        origin: last === undefined ? 0 : last.origin + last.samples,
        tokens: 0,
        lastEvaluation: evaluations.at(-1) ?? null,
        paused,
      },
      {
        nowMs: clock.nowMs,
        send,
        broadcast: (workers, message, payload) => [...workers].forEach((worker) => send(worker, message, payload)),
        refuse: (worker, code, message, { fatal, version }) => {
          send(worker, { type: "refused", code, message, fatal, ...(version === undefined ? {} : { accept: { version } }) }); // prettier-ignore
          if (fatal && mine === life) hangUp(worker, code);
        },
        merge: async ({ firstUnit, units, payload }) => {
          const values = new Float64Array(payload.slice().buffer);
          if (!Number.isFinite(values[0])) {
            garbage += 1;
            return { code: "not-finite", message: "not finite" };
          }
          for (let unit = firstUnit; unit < firstUnit + units; unit++) {
            if (merged.has(unit)) throw new Error(`[I2] unit ${unit} merged twice`);
            merged.add(unit);
          }
          sum += values[0]!;
          return null;
        },
        step: async ({ tokens }) => {
          hash = nextHash(hash, sum, tokens);
          sum = 0;
          merged.clear();
          return { applied: true, gradientNorm: 1, update: new Uint8Array(8), hash, journal: 0, record: 0 };
        },
        rememberBan: (worker) => void banned.add(worker),
        rememberPause: (reason) => {
          paused = reason;
        },
        commitRound: (round, parts) => {
          if (mine !== life) return;
          rounds.push(round);
          contributions.set(round.version, parts);
        },
        creditOf: () => ({ tokens: 0, rounds: 0, rank: null, contributors: 0 }),
        recordEvaluation: (row) => void evaluations.push(row),
        logEvent: () => {},
        diskProblem: () => null,
        flush: () => {},
        snapshot: async () => {},
        rememberWorker: (worker, id) => void identities.set(id, worker.secret),
        publisher,
        offerSnapshot: (version, current) => publisher.offer(version, current, () => new Uint8Array(8)),
        metrics: createMetrics(),
        socketBytes: () => ({ in: 0, out: 0 }),
        onCommitted: () => {},
        onEvaluated: () => {},
        onFinished: () => {
          finished = true;
        },
        onFailed: (error) => {
          throw error;
        },
      },
    );
  }

  let run = startCoordinator();
  clock.every(100, () => {
    run.tick();
    for (const [worker, atMs] of heard) {
      if (clock.nowMs() - atMs > 3 * HEARTBEAT_MS) disconnect(worker, "heartbeats stopped");
    }
  });
  clock.every(1000, () => run.reportProgress());

  function disconnect(worker: WorkerId, reason: string): void {
    hangUp(worker, reason);
    run.gone(worker, reason);
  }

  function hangUp(worker: WorkerId, reason: string): void {
    heard.delete(worker);
    links.delete(worker);
    cuts.get(worker)?.(reason);
    cuts.delete(worker);
  }

  /** One socket as seen by a worker. */
  function connect(handlers: TransportHandlers, isCut: () => boolean): Transport {
    const mine = life;
    let open = true;
    /** The worker closed: what is on its way to it is not read any more. What was sent before a close by the other side is. */
    let deaf = false;
    let worker: WorkerId | null = null;
    const deliver = (callback: () => void): void => void clock.after(LATENCY_MS, () => !isCut() && callback());
    const closeBoth = (reason: string): void => {
      if (!open) return;
      open = false;
      clock.after(LATENCY_MS, () => handlers.onClose(reason));
    };
    deliver(() => handlers.onOpen());
    return {
      send(bytes) {
        if (!open) return;
        deliver(() => {
          if (mine !== life) return closeBoth("the coordinator restarted");
          const frame = decodeFrame(bytes);
          const message = validateWorkerMessage(frame.header, frame.payload.length);
          if (worker !== null) heard.set(worker, clock.nowMs());
          if (message.type !== "hello") {
            if (worker !== null && links.has(worker)) run.received(worker, message, frame.payload);
            return;
          }
          const known = message.resume !== undefined && identities.get(message.resume.worker) === message.resume.secret;
          if (known && banned.has(message.resume.worker)) {
            const refusal = encodeFrame({
              type: "refused",
              code: "banned",
              message: "banned by the operator",
              fatal: true,
            });
            deliver(() => handlers.onFrame(refusal));
            return closeBoth("banned");
          }
          worker = known ? message.resume.worker : `w${nextWorker++}`;
          heard.set(worker, clock.nowMs());
          cuts.set(worker, closeBoth);
          links.set(worker, (reply, payload) => {
            const replyBytes = encodeFrame(reply, payload);
            if (open) deliver(() => !deaf && handlers.onFrame(replyBytes));
          });
          run.joined(worker, { kind: message.kind, name: message.name, secret: `s${worker}` });
        });
      },
      close(reason) {
        if (!open) return;
        deaf = true;
        closeBoth(reason);
        const gone = worker;
        if (gone !== null) deliver(() => mine === life && links.has(gone) && disconnect(gone, reason));
      },
    };
  }

  return {
    clock,
    run: () => run,
    rounds,
    contributions,
    evaluations,
    finished: () => finished,
    hash: () => rounds.at(-1)?.hash ?? FIRST_HASH,
    garbageRefused: () => garbage,
    restart() {
      for (const worker of [...heard.keys()]) heard.delete(worker);
      links.clear();
      const closing = [...cuts.values()];
      cuts.clear();
      run = startCoordinator();
      for (const close of closing) close("the coordinator restarted");
    },
    add(options) {
      let dead = false;
      let cut = false;
      const compute = simCompute(options, config, clock, (event) => !dead && session.computed(event));
      const session = runSession(
        { kind: "node", name: options.name, token: null, url: "http://sim", seed: streamKey(seed, mix32(options.name.length)) }, // prettier-ignore
        {
          connect: (handlers) => connect({ ...handlers, onOpen: () => !dead && handlers.onOpen(), onFrame: (bytes) => !dead && handlers.onFrame(bytes), onClose: (reason) => !dead && handlers.onClose(reason) }, () => cut), // prettier-ignore
          compute: (command) => compute.command(command),
          nowMs: clock.nowMs,
          every: (ms, callback) => clock.every(ms, () => !dead && callback()),
          remember: () => {},
          onChange: () => {},
        },
        options.identity ?? null,
      );
      return {
        name: options.name,
        session: () => session,
        partition: (value) => {
          cut = value;
        },
        kill: () => {
          const identity = session.state().identity;
          dead = true;
          if (identity !== null && links.has(identity.worker)) disconnect(identity.worker, "killed");
        },
      };
    },
  };
}

/** A compute thread that takes virtual time: the same order of commands and events as shared/worker/compute.ts. */
function simCompute(
  { unitMs, behaviour = () => "compute", engines = ["right"] }: SimWorkerOptions,
  config: RoundConfig,
  clock: VirtualClock,
  emit: (event: ComputeEvent) => void,
): { command: (command: ComputeCommand) => void } {
  let held: { version: number; hash: string } | null = null;
  let announced = -1;
  let busyUntil = 0;
  let generation = 0;
  let engine = 0;
  const fallbacks: Fallback[] = [];
  const later = (ms: number, callback: () => void): void => {
    busyUntil = Math.max(busyUntil, clock.nowMs()) + ms;
    const mine = generation;
    clock.after(busyUntil - clock.nowMs(), () => mine === generation && callback());
  };
  /** What `forget` leaves alone. */
  const surely = (ms: number, callback: () => void): void => {
    busyUntil = Math.max(busyUntil, clock.nowMs()) + ms;
    clock.after(busyUntil - clock.nowMs(), callback);
  };
  const prepared = (): void => emit({ type: "prepared", backend: "cpu", fallbacks: [...fallbacks], unitMs, answer: answerOf(engines[engine] ?? "wrong") }); // prettier-ignore
  return {
    command(command) {
      switch (command.type) {
        case "prepare":
          surely(5 + 2 * unitMs, prepared);
          return;
        case "replaceEngine":
          fallbacks.push({ backend: "cpu", reason: command.reason });
          engine += 1;
          if (engine < engines.length) surely(5 + 2 * unitMs, prepared);
          else emit({ type: "unable", reason: `no engine left: ${command.reason}` });
          return;
        case "load": {
          const { version, hash } = command.snapshot;
          surely(1, () => {
            held = { version, hash };
            announced = version;
            emit({ type: "loaded", version, hash });
          });
          return;
        }
        case "apply":
          announced = Math.max(announced, command.version);
          later(0, () => {
            if (held === null) return;
            if (held.version + 1 !== command.version) {
              emit({ type: "diverged", version: held.version, reason: "a gap" });
              return;
            }
            held = { version: command.version, hash: command.hash };
            emit({ type: "applied", ...held });
          });
          return;
        case "recycle":
        case "pace":
          return;
        case "forget":
          generation += 1;
          busyUntil = clock.nowMs();
          announced = held?.version ?? -1;
          return;
        case "work":
          later(0, () => unit(command.lease, 0, []));
          return;
        default:
          command satisfies never;
      }
    },
  };

  function unit(lease: Lease, index: number, folded: number[]): void {
    const done = (dropped: number): void => emit({ type: "leaseDone", lease: lease.lease, dropped });
    if (held?.version !== lease.base || announced > lease.base) return done(lease.units - index);
    if (index === lease.units) return done(0);
    const how = behaviour(lease);
    if (how === "hang") return;
    if (index === lease.units - 1) emit({ type: "nearlyIdle" });
    const { hash } = held;
    const cost = lease.kind === "train" ? unitMs : unitMs / 3;
    later(cost, () => {
      const firstUnit = lease.firstUnit + index;
      const unitSamples = lease.kind === "train" ? config.unit : config.evaluationUnit;
      const samplesUpTo = (end: number): number => Math.min(lease.samples, end * unitSamples);
      const tokensOf = (first: number, count: number): number => (samplesUpTo(first + count) - samplesUpTo(first)) * config.tokensPerSample; // prettier-ignore
      const base = { lease: lease.lease, base: lease.base, hash, lossSum: 1, computeMs: cost };
      const bad = how === "garbage";
      if (lease.kind === "evaluate") {
        emit({ type: "evaluation", ...base, firstUnit, units: 1, tokens: tokensOf(firstUnit, 1) });
      } else {
        folded.push(unitValue(hash, lease.origin + firstUnit * config.unit));
        const whole = !config.strict && index === lease.units - 1;
        if (config.strict || whole) {
          const payload = allocatePayload(PAYLOAD_BYTES);
          new Float64Array(payload.buffer, payload.byteOffset)[0] = bad ? NaN : folded.reduce((a, b) => a + b, 0);
          const first = config.strict ? firstUnit : lease.firstUnit;
          const units = config.strict ? 1 : lease.units;
          emit({ type: "contribution", ...base, firstUnit: first, units, tokens: tokensOf(first, units), payload });
          folded.length = 0;
        }
      }
      unit(lease, index + 1, folded);
    });
  }
}

/** A seeded choice, for schedules of faults. */
export function chooser(seed: number): (limit: number) => number {
  let counter = 0;
  return (limit) => Math.floor(randomUniform(seed, counter++) * limit);
}
