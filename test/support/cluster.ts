/**
 * @file A whole cluster in memory: the real run (coordinator/round/run.ts), the real sessions and the real compute of workers, real
 * frames, real θ; only the network, the clock, the disk and the model are replaced (support/sim/). After every event
 * the invariants of support/sim/invariants.ts are checked; the first one that is broken ends {@link Cluster.clock}'s run.
 */
import { writeParams } from "../../shared/codec/paramsFile.ts";
import { checkPayload, encodedBytes } from "../../shared/codec/codec.ts";
import type { Codec } from "../../shared/codec/codec.ts";
import { randomUniform, streamKey } from "../../shared/numerics/rng.ts";
import { decodeFrame } from "../../shared/wire/frame.ts";
import type { Transport, TransportHandlers } from "../../shared/wire/transport.ts";
import { validateCoordinatorMessage, validateWorkerMessage } from "../../shared/wire/validate.ts";
import type { RunningSession } from "../../shared/worker/run.ts";
import type { ContributionRow, EvaluationRow, RoundRow } from "../../coordinator/store/ledger.ts";
import { createMetrics } from "../../coordinator/observe/metrics.ts";
import { describeNorm, weigh } from "../../coordinator/round/normGuard.ts";
import { createPublisher } from "../../coordinator/optimizer/publish.ts";
import { roundStep } from "../../coordinator/round/round.ts";
import type { RoundConfig } from "../../coordinator/round/roundState.ts";
import { createRun } from "../../coordinator/round/run.ts";
import type { Run, RunPorts } from "../../coordinator/round/run.ts";
import { createGate } from "./sim/gate.ts";
import type { Gate, GateConnection } from "./sim/gate.ts";
import { checkI1Evaluation, checkI1OneBigBatch, checkI2Account, checkI2ExactlyOnce, checkI2Ledger, checkI3OneTheta, checkI5Bounded, checkI5Session } from "./sim/invariants.ts"; // prettier-ignore
import { createLiar } from "./sim/liar.ts";
import { CALM, createLane, LATENCY_MS } from "./sim/network.ts";
import type { FaultCounts, FaultRates, Lane } from "./sim/network.ts";
import { emptyDisk, openSimOptimizer } from "./sim/optimizer.ts";
import type { SimOptimizer } from "./sim/optimizer.ts";
import type { Reference } from "./sim/reference.ts";
import { referenceOf } from "./sim/reference.ts";
import { Violation } from "./sim/violation.ts";
import { startSimWorker } from "./sim/worker.ts";
import type { Behaviour, SimProcess, SimWorkerOptions as ProcessOptions } from "./sim/worker.ts";
import { createWorld } from "./sim/world.ts";
import { virtualClock } from "./virtualClock.ts";
import type { VirtualClock } from "./virtualClock.ts";

export type SimWorkerOptions = ProcessOptions & {
  /** The part of its frames that are lies. */
  readonly lies?: number;
};

export type SimWorker = {
  readonly name: string;
  readonly session: () => RunningSession;
  readonly alive: () => boolean;
  /** The process dies: its connection closes, its work is gone. */
  readonly kill: () => void;
  /** The network goes silent without closing anything: both ways, or one. */
  readonly partition: (cut: boolean | { up: boolean; down: boolean }) => void;
  /** What happens when it begins a unit on this version. */
  readonly failAt: (version: number, how: Behaviour) => void;
};

/** Where the coordinator dies: now, or when the next step is in its journal, or in its ledger and not yet published. */
export type CrashPoint = "now" | "journal" | "ledger";

export type Cluster = {
  readonly clock: VirtualClock;
  readonly run: () => Run;
  readonly add: (options: SimWorkerOptions) => SimWorker;
  /** The coordinator dies and comes back, `downMs` later, from what it wrote. */
  readonly restart: (options?: { at?: CrashPoint; downMs?: number }) => void;
  /** Of every frame from now on, both ways. */
  readonly setFaults: (rates: FaultRates) => void;
  /** Nothing can be written until there is room again. */
  readonly fillDisk: (full: boolean) => void;
  readonly finished: () => boolean;
  readonly rounds: readonly RoundRow[];
  readonly contributions: ReadonlyMap<number, readonly ContributionRow[]>;
  readonly evaluations: readonly EvaluationRow[];
  readonly hash: () => string;
  readonly reference: Reference;
  /** Contributions that the merge refused. */
  readonly garbageRefused: () => number;
  /** The coordinator is gone for good: what still happens are leftovers. */
  readonly end: () => void;
  readonly counts: FaultCounts & { restarts: number; refused: number; events: number };
};

/** A bug to be planted; each must be caught by the invariant that it breaks. */
export type Mutation = {
  readonly reduce?: (reduce: typeof roundStep) => typeof roundStep;
  readonly ports?: (ports: RunPorts, optimizer: SimOptimizer) => RunPorts;
  readonly worker?: (options: SimWorkerOptions, index: number) => SimWorkerOptions;
};

export type ClusterOptions = {
  readonly codec?: Codec;
  /** The part of the training units whose gradients are truly far above the others; 0 by default. */
  readonly oddUnits?: number;
  readonly mutation?: Mutation;
};

const HEARTBEAT_MS = 1000;
const TICK_MS = 100;
const PROGRESS_MS = 1000;
/** Virtual time between a step's journal and its ledger. */
const STEP_MS = 2;
/** A payload's way through the merge. */
const MERGE_MS = 3;
const SNAPSHOT_EVERY = 3;

export async function createCluster(
  config: RoundConfig,
  seed: number,
  { codec = "f32", oddUnits = 0, mutation = {} }: ClusterOptions = {},
): Promise<Cluster> {
  const clock = virtualClock();
  const world = createWorld(config, codec);
  const reference = await referenceOf(world);
  const disk = emptyDisk();
  const counts = {
    frames: 0,
    delay: 0,
    drop: 0,
    duplicate: 0,
    reorder: 0,
    corrupt: 0,
    restarts: 0,
    refused: 0,
    events: 0,
  };
  const maxPayloadBytes = encodedBytes(codec, world.layout.length);
  let rates = CALM;
  let finished = false;
  let garbage = 0;
  let nextWorker = 1;
  let added = 0;
  let drawn = 0;
  const key = streamKey(seed, 0xfa17);
  const uniform = (): number => randomUniform(key, drawn++);

  let diskFull = false;
  const needSpace = (): void => {
    if (diskFull) throw new DiskFull("no space left on the disk");
  };

  const oddKey = streamKey(seed, 0x0dd);
  /** The gradients of this world are made up, and so are their norms: about one a token, and fifteen in odd units. */
  const normOf = (version: number, firstUnit: number, units: number): number => {
    let norm = 0;
    for (let unit = firstUnit; unit < firstUnit + units; unit++) {
      const samples = Math.min(config.batch, (unit + 1) * config.unit) - unit * config.unit;
      const position = version * config.batch + unit;
      const size =
        randomUniform(oddKey, 2 * position) < oddUnits ? 15 : 0.8 + 0.4 * randomUniform(oddKey, 2 * position + 1);
      norm += size * samples * config.tokensPerSample;
    }
    return norm;
  };

  let violation: Error | null = null;
  const broken = (error: unknown): void => {
    violation ??= error instanceof Error ? error : new Error(String(error));
  };
  const checked = (check: () => void): void => {
    try {
      check();
    } catch (error) {
      broken(error);
    }
  };

  type Life = { readonly run: Run; readonly gate: Gate; readonly snapshot: (name: string) => Uint8Array | null; crashAt: CrashPoint | null; downMs: number }; // prettier-ignore
  let life: Life | null = null;
  let lastRun: Run;

  const published = (version: number): string | undefined =>
    version === 0 ? reference.firstHash : disk.rounds[version - 1]?.hash;

  function startCoordinator(): void {
    let mine: Life | null = null;
    const alive = (): boolean => mine === null || mine === life;
    /** Nothing after it happens in a process that is gone. */
    const sleep = (ms: number): Promise<void> =>
      new Promise((resolve) => ms < Infinity && clock.after(ms, () => alive() && resolve()));
    const crash = (at: CrashPoint): boolean => {
      if (mine?.crashAt !== at || !alive()) return false;
      end(mine.downMs);
      return true;
    };
    const publisher = createPublisher({ maxUpdateBytes: 64 * maxPayloadBytes });
    const optimizer = openSimOptimizer(world, disk, (update) => publisher.add(update));
    const last = disk.rounds.at(-1);
    if (last !== undefined && last.hash !== optimizer.hash()) {
      broken(new Violation("I4", `recovered θ ${optimizer.hash()} at version ${last.version}, committed ${last.hash}`));
    }
    const gate = createGate({
      maxPayloadBytes,
      heartbeatMs: HEARTBEAT_MS,
      nowMs: clock.nowMs,
      run: () => guarded,
      secrets: disk.secrets,
      newWorker: () => `w${nextWorker++}`,
    });
    const ports: RunPorts = {
      nowMs: clock.nowMs,
      send: gate.send,
      broadcast: (workers, message, payload) => [...workers].forEach((worker) => gate.send(worker, message, payload)),
      refuse: gate.refuse,
      merge: async ({ firstUnit, units, payload, bounds }) => {
        const copy = payload.slice();
        await sleep(uniform() * MERGE_MS);
        const norm = normOf(optimizer.version(), firstUnit, units);
        let refusal = optimizer.check(copy);
        if (refusal === null && weigh(bounds, norm) === null) {
          return { norm, refusal: { code: "norm-outlier", message: describeNorm(norm, bounds.limit) } };
        }
        refusal ??= optimizer.add({ firstUnit, units, payload: copy });
        if (refusal !== null) garbage += 1;
        return { norm, refusal };
      },
      step: async (round) => {
        needSpace();
        optimizer.journalStep(round);
        if (crash("journal")) await sleep(Infinity);
        await sleep(STEP_MS);
        return optimizer.step();
      },
      rememberBan: (worker, ban) => {
        if (!alive()) return;
        needSpace();
        if (ban === null) disk.bans.delete(worker);
        else disk.bans.set(worker, ban);
      },
      rememberPause: (reason) => {
        disk.paused = reason;
      },
      commitRound: (row, parts, account) => {
        if (!alive()) return;
        needSpace();
        checked(() => checkI2Account(account, config));
        disk.rounds.push(row);
        disk.contributions.set(row.version, parts);
        checked(() => checkI2Ledger(disk, config));
        checked(() => checkI1OneBigBatch(row, reference));
        crash("ledger");
      },
      recordEvaluation: (row) => {
        if (!alive()) return;
        needSpace();
        disk.evaluations.push(row);
        checked(() => checkI1Evaluation(row, reference));
      },
      logEvent: () => {},
      flush: () => {},
      diskProblem: (error) => (error instanceof DiskFull ? error.message : null),
      creditOf: () => ({ tokens: 0, rounds: 0, rank: null, contributors: 0 }),
      snapshot: async () => {
        if (!alive()) return;
        needSpace();
        optimizer.snapshot();
      },
      rememberWorker: ({ secret }, id) => void disk.secrets.set(id, secret),
      publisher,
      offerSnapshot: (version, hash) =>
        publisher.offer(version, hash, () => writeParams(world.layout, optimizer.params())),
      metrics: createMetrics(),
      trace: null,
      socketBytes: () => ({ in: 0, out: 0 }),
      onCommitted: () => {},
      onEvaluated: () => {},
      onFinished: () => {
        if (alive()) finished = true;
      },
      onFailed: broken,
    };
    const reduce = mutation.reduce?.(roundStep) ?? roundStep;
    const run = createRun(
      {
        description: world.description,
        round: config,
        schedule: world.schedule,
        about: null,
        corpus: "sim",
        snapshotEvery: SNAPSHOT_EVERY,
        layout: world.layout,
        expected: Promise.resolve({ answer: reference.answer, firstUnit: { norm: 1, tokens: 1 } }),
        references: [],
        heartbeatMs: HEARTBEAT_MS,
        version: optimizer.version(),
        hash: optimizer.hash(),
        origin: last === undefined ? 0 : last.origin + last.samples,
        tokens: 0,
        lastEvaluation: disk.evaluations.at(-1) ?? null,
        paused: disk.paused,
        bans: [...disk.bans.values()],
      },
      mutation.ports?.(ports, optimizer) ?? ports,
      (state, event, round, nowMs) => {
        const step = reduce(state, event, round, nowMs);
        counts.events += 1;
        checked(() => checkI2ExactlyOnce(step.state));
        return step;
      },
    );
    const after =
      <Args extends readonly unknown[], Result>(call: (...args: Args) => Result) =>
      (...args: Args): Result => {
        const result = call(...args);
        // A finished run hears nobody any more, and is about to be gone as a whole.
        if (alive() && !finished) checked(() => checkI5Bounded(run, gate.size(), config));
        return result;
      };
    const guarded: Run = {
      ...run,
      joined: after(run.joined),
      received: after(run.received),
      gone: after(run.gone),
      refused: (worker, code, message) => {
        counts.refused += 1;
        run.refused(worker, code, message);
      },
      tick: after(run.tick),
    };
    mine = { run: guarded, gate, snapshot: (name) => publisher.snapshot(name), crashAt: null, downMs: 0 };
    life = mine;
    lastRun = guarded;
  }

  function end(downMs: number): void {
    const ending = life;
    if (ending === null) return;
    life = null;
    counts.restarts += 1;
    if (downMs === 0) startCoordinator();
    else clock.after(downMs, () => checked(startCoordinator));
    ending.gate.die("the coordinator restarted");
  }

  startCoordinator();
  const timers = [
    clock.every(TICK_MS, () => {
      life?.run.tick();
      life?.gate.watch();
    }),
    clock.every(PROGRESS_MS, () => life?.run.reportProgress()),
  ];

  /** One socket as seen by a worker: two lanes, and the coordinator's connection at the far end. */
  function connect(
    handlers: TransportHandlers,
    wires: Wires,
    liar: ((honest: Uint8Array) => Uint8Array[]) | null,
  ): Transport {
    let open = true;
    /** The worker closed: what is on its way to it is not read any more. */
    let deaf = false;
    let far: GateConnection | null = null;
    const endNear = (reason: string): void => {
      if (!open) return;
      open = false;
      down.signal(() => {
        wires.lanes.delete(up);
        wires.lanes.delete(down);
        handlers.onClose(reason);
      });
    };
    const breakBoth = (): void => {
      endNear("the transport's checksum failed");
      clock.after(LATENCY_MS, () => far?.closed("the transport's checksum failed"));
    };
    const shared = { clock, uniform, rates: () => rates, counts, onBroken: breakBoth };
    const up = createLane({ ...shared, isCut: () => wires.up, noticeable: noticedByCoordinator });
    const down = createLane({ ...shared, isCut: () => wires.down, noticeable: noticedByWorker });
    wires.lanes.add(up);
    wires.lanes.add(down);
    up.signal(() => {
      if (life === null) return endNear("nothing listens");
      far = life.gate.accept({
        send: (bytes) => down.send(bytes, (frame) => !deaf && handlers.onFrame(frame)),
        close: endNear,
      });
      down.signal(handlers.onOpen);
    });
    wires.hangUp = (reason) => far?.closed(reason);
    return {
      send(bytes, onSent) {
        if (!open) return;
        const frame = bytes.slice();
        for (const one of liar?.(frame) ?? [frame]) up.send(one, (arrived) => far?.receive(arrived));
        if (onSent !== undefined) clock.after(LATENCY_MS, onSent);
      },
      close(reason) {
        if (!open) return;
        deaf = true;
        endNear(reason);
        up.signal(() => far?.closed(reason));
      },
    };
  }

  function noticedByCoordinator(sent: Uint8Array, damaged: Uint8Array): boolean {
    const frame = understood(damaged, validateWorkerMessage);
    if (frame === null) return true;
    if (JSON.stringify(frame.header) !== JSON.stringify(decodeFrame(sent).header)) return false;
    if (frame.payload.length === 0 || Buffer.compare(frame.payload, decodeFrame(sent).payload) === 0) return true;
    // Not noticed as damage, but taken for what the engine computes.
    if ((frame.header as { type: string }).type === "examination") return false;
    return checkPayload(codec, frame.payload, world.layout.length).problem !== undefined;
  }

  async function fetchBytes(
    url: string,
    range: { start: number; end: number } | undefined,
    wires: Wires,
  ): Promise<Uint8Array> {
    const path = url.slice("http://sim".length);
    if (life === null || wires.up || wires.down || uniform() < rates.drop) throw new Error(`${path}: no answer`);
    const snapshot = path.startsWith("/snapshots/");
    const bytes = snapshot ? life.snapshot(path.slice("/snapshots/".length)) : world.files.get(path);
    if (bytes === null || bytes === undefined) throw new Error(`${path}: HTTP status 404`);
    const part = (range === undefined ? bytes : bytes.subarray(range.start, range.end)).slice();
    // The manifest is not hashed; everything else is.
    if (!path.endsWith(".json") && uniform() < rates.corrupt) part[Math.floor(uniform() * part.length)]! ^= 1 << Math.floor(uniform() * 8); // prettier-ignore
    return part;
  }

  return {
    clock: {
      ...clock,
      runUntil: (done, limitMs) =>
        clock.runUntil(() => {
          if (violation !== null) throw violation;
          return done();
        }, limitMs),
    },
    run: () => life?.run ?? lastRun,
    rounds: disk.rounds,
    contributions: disk.contributions,
    evaluations: disk.evaluations,
    fillDisk(full) {
      diskFull = full;
    },
    finished: () => finished,
    hash: () => disk.rounds.at(-1)?.hash ?? reference.firstHash,
    reference,
    garbageRefused: () => garbage,
    counts,
    setFaults(next) {
      rates = next;
    },
    restart({ at = "now", downMs = 0 } = {}) {
      if (life === null) return;
      if (at === "now") end(downMs);
      else Object.assign(life, { crashAt: at, downMs });
    },
    end() {
      for (const stop of timers) stop();
      life?.gate.die("the run is over");
      life = null;
    },
    add(given) {
      const options = mutation.worker?.(given, added) ?? given;
      added += 1;
      const wires: Wires = { up: false, down: false, lanes: new Set(), hangUp: () => {} };
      const script = new Map<number, Behaviour>();
      const liar = options.lies === undefined ? null : createLiar(uniform, options.lies);
      let alive = true;
      const kill = (): void => {
        if (!alive) return;
        alive = false;
        program.end();
        // Its sockets are closed by its system, if the network lets the news through.
        if (!wires.up) wires.hangUp("killed");
      };
      const program: SimProcess = startSimWorker(
        {
          ...options,
          behaviour: (version) => {
            const scripted = script.get(version);
            script.delete(version);
            return scripted ?? options.behaviour?.(version) ?? "compute";
          },
        },
        {
          clock,
          world,
          seed: streamKey(seed, added),
          connect: (handlers) => connect(handlers, wires, liar),
          fetchBytes: (url, range) => fetchBytes(url, range, wires),
          onCompute: (version, hash) => checked(() => checkI3OneTheta(options.name, version, hash, published)),
          onSession: (state) => checked(() => checkI5Session(options.name, state)),
          onDeath: kill,
        },
      );
      return {
        name: options.name,
        session: () => program.session,
        alive: () => alive,
        kill,
        partition(cut) {
          const { up, down } = typeof cut === "boolean" ? { up: cut, down: cut } : cut;
          Object.assign(wires, { up, down });
          for (const lane of wires.lanes) lane.healed();
        },
        failAt: (version, how) => void script.set(version, how),
      };
    },
  };
}

class DiskFull extends Error {}

/** A worker's network: what is cut, and what waits. */
type Wires = { up: boolean; down: boolean; readonly lanes: Set<Lane>; hangUp: (reason: string) => void };

function noticedByWorker(sent: Uint8Array, damaged: Uint8Array): boolean {
  const frame = understood(damaged, validateCoordinatorMessage);
  // An update's bytes are checked by the hash of the θ that they lead to.
  return frame === null || JSON.stringify(frame.header) === JSON.stringify(decodeFrame(sent).header);
}

function understood(
  bytes: Uint8Array,
  validate: (header: unknown, payloadBytes: number) => unknown,
): { header: unknown; payload: Uint8Array } | null {
  // prettier-ignore
  try {
    const frame = decodeFrame(bytes);
    validate(frame.header, frame.payload.length);
    return frame;
  } catch {
    return null;
  }
}

/** A seeded choice, for schedules of faults. */
export function chooser(seed: number): (limit: number) => number {
  let counter = 0;
  return (limit) => Math.floor(randomUniform(seed, counter++) * limit);
}
