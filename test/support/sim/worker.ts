/**
 * @file A worker of the simulator: the real session and the real compute thread's code, on a clock of its own speed and
 * offset, with an engine that takes virtual time and may misbehave.
 */
import type { Engine } from "../../../shared/engine/engine.ts";
import { hashParams } from "../../../shared/numerics/hash.ts";
import type { Transport, TransportHandlers } from "../../../shared/wire/transport.ts";
import { createCompute } from "../../../shared/worker/compute.ts";
import { runSession } from "../../../shared/worker/run.ts";
import type { RunningSession } from "../../../shared/worker/run.ts";
import type { SessionState } from "../../../shared/worker/session.ts";
import type { VirtualClock } from "../virtualClock.ts";
import { createPureEngine } from "./world.ts";
import type { World } from "./world.ts";

/** What the engine does with a unit: compute it, never answer, answer NaN, or take a hundred times as long. */
export type Behaviour = "compute" | "hang" | "garbage" | "slow" | "die";

export type SimWorkerOptions = {
  readonly name: string;
  /** Virtual time of one training unit. */
  readonly unitMs: number;
  /** By the version that a unit is computed on; "compute" by default. */
  readonly behaviour?: (version: number) => Behaviour;
  /** What its engines compute, best engine first; one that is right by default. */
  readonly engines?: readonly ("right" | "wrong")[];
  /** Of an earlier life; null (default) for a new worker. */
  readonly identity?: SessionState["identity"];
  /** Its clock: how fast it runs, and how far it is off. */
  readonly clockRate?: number;
  readonly clockOffsetMs?: number;
  /** Planted: changes θ behind the back of whoever checked its hash. */
  readonly spoilTheta?: (params: Float32Array) => void;
};

export type SimWorkerPorts = {
  readonly clock: VirtualClock;
  readonly world: World;
  readonly seed: number;
  readonly connect: (handlers: TransportHandlers) => Transport;
  readonly fetchBytes: (url: string, range?: { start: number; end: number }) => Promise<Uint8Array>;
  /** θ as the engine has it, before each unit. */
  readonly onCompute: (version: number, hash: string) => void;
  readonly onSession: (state: SessionState) => void;
  /** The engine killed its own process. */
  readonly onDeath: () => void;
};

export type SimProcess = {
  readonly session: RunningSession;
  /** As SIGKILL: nothing of it runs or answers any more. */
  readonly end: () => void;
};

const PREPARE_MS = 5;
const SLOW = 100;

export function startSimWorker(options: SimWorkerOptions, ports: SimWorkerPorts): SimProcess {
  const { clock, world } = ports;
  const { unitMs, behaviour = () => "compute", engines = ["right"], clockRate = 1, clockOffsetMs = 0 } = options;
  const timers = new Set<() => void>();
  let alive = true;
  let version = -1;
  const nowMs = (): number => clockOffsetMs + clock.nowMs() * clockRate;
  /** Never resolves in a process that has ended. */
  const busy = (ms: number): Promise<void> =>
    new Promise((resolve) => ms < Infinity && clock.after(ms, () => alive && resolve()));

  const unitTime = async (work: number, hash: string, examining: boolean): Promise<Behaviour> => {
    if (examining) {
      await busy(unitMs * work);
      return "compute";
    }
    const how = behaviour(version);
    ports.onCompute(version, hash);
    if (how === "die") ports.onDeath();
    await busy(how === "hang" ? Infinity : unitMs * work * (how === "slow" ? SLOW : 1));
    return how;
  };
  const createEngine = (kind: "right" | "wrong"): Engine => {
    const pure = createPureEngine(world);
    let hash = "";
    /** What is loaded first is the examination's θ. */
    let loads = 0;
    return {
      ...pure,
      async load(params) {
        loads += 1;
        if (loads > 1) options.spoilTheta?.(params);
        hash = hashParams(params);
        await pure.load(params);
      },
      async gradient(batch, gradient) {
        const how = await unitTime(1, hash, loads === 1);
        const loss = await pure.gradient(batch, gradient);
        if (kind === "wrong") for (let i = 0; i < gradient.length; i++) gradient[i] = -gradient[i]!;
        if (how === "garbage") gradient.fill(NaN);
        return loss;
      },
      async loss(batch) {
        const how = await unitTime(1 / 3, hash, loads === 1);
        const loss = await pure.loss(batch);
        return how === "garbage" ? { ...loss, lossSum: NaN } : loss;
      },
    };
  };
  const compute = createCompute({
    createEngine: async (_, __, avoid) => {
      await busy(PREPARE_MS);
      const kind = engines[avoid.length];
      if (kind === undefined) throw new Error(`no engine left: ${avoid.at(-1)?.reason}`);
      return { engine: createEngine(kind), fallbacks: avoid };
    },
    fetchBytes: async (url, range) => {
      await busy(2);
      const bytes = await ports.fetchBytes(url, range);
      await busy(2);
      return bytes;
    },
    emit: (event) => {
      if (!alive) return;
      if (event.type === "loaded" || event.type === "applied") version = event.version;
      session.computed(event);
    },
    nowMs,
    pause: (ms) => (ms > 0 ? busy(ms) : Promise.resolve()),
  });
  const session = runSession(
    { kind: "node", name: options.name, token: null, url: "http://sim", seed: ports.seed },
    {
      connect: (handlers) =>
        ports.connect({
          onOpen: () => alive && handlers.onOpen(),
          onFrame: (bytes) => alive && handlers.onFrame(bytes),
          onClose: (reason) => alive && handlers.onClose(reason),
        }),
      compute: (command) => compute.command(command),
      nowMs,
      every: (ms, callback) => {
        const stop = clock.every(ms / clockRate, callback);
        timers.add(stop);
        return () => {
          timers.delete(stop);
          stop();
        };
      },
      remember: () => {},
      onChange: ports.onSession,
    },
    options.identity ?? null,
  );
  return {
    session,
    end() {
      alive = false;
      for (const stop of timers) stop();
      timers.clear();
    },
  };
}
