/**
 * @file The compute side of a worker: holds θ, the engine and the shards, and carries out the session's commands in order.
 * Runs in a thread of its own, so that heartbeats never wait for a step.
 */
import { decodeApply, elementsOf, encode, encodedBytes } from "../codec/codec.ts";
import { readParams } from "../codec/paramsFile.ts";
import type { Batch, Engine, Loss } from "../engine/engine.ts";
import { examine, examinationSamples } from "../engine/examination.ts";
import { gptTensors } from "../model/gptTensors.ts";
import { hashParams } from "../numerics/hash.ts";
import { layoutOf } from "../numerics/layout.ts";
import type { ParamLayout } from "../numerics/layout.ts";
import { allocatePayload } from "../wire/frame.ts";
import type { Fallback, Lease, RunDescription, SnapshotReference, Version } from "../wire/protocol.ts";
import type { ComputeCommand, ComputeEvent } from "./commands.ts";
import { createTask } from "./task.ts";
import type { Task } from "./task.ts";

export type ComputePorts = {
  readonly createEngine: (
    run: RunDescription,
    layout: ParamLayout,
    /** Backends that computed wrong numbers here. */
    avoid: readonly Fallback[],
    /** The coordinator's, for what is served besides the corpus. */
    url: string,
  ) => Promise<{ engine: Engine; fallbacks: readonly Fallback[] }>;
  /** Bytes of an absolute URL, whole or [start, end). Rejects when it is not there or not all there. */
  readonly fetchBytes: (url: string, range?: { start: number; end: number }) => Promise<Uint8Array>;
  readonly emit: (event: ComputeEvent, transfer?: ArrayBuffer[]) => void;
  readonly nowMs: () => number;
  /** Resolves after about `ms`, at the soonest when commands that were posted meanwhile have arrived. */
  readonly pause: (ms: number) => Promise<void>;
};

/** While resting, a newer version or another pace is noticed this soon. */
const REST_SLICE_MS = 100;

/** One being sent, one being filled, and some that wait for a slow network. */
const MAX_SPARE_BUFFERS = 4;

/** A message of this size was put together from several reads of the socket, in a buffer of its own; smaller ones share one. */
const OWN_BUFFER_BYTES = 128 * 1024;

/** What exists once a run is prepared. */
type Prepared = {
  readonly run: RunDescription;
  readonly url: string;
  readonly layout: ParamLayout;
  readonly engine: Engine;
  readonly task: Task;
  readonly params: Float32Array;
  readonly gradient: Float32Array;
};

export function createCompute(ports: ComputePorts): { command: (command: ComputeCommand) => void } {
  const queue: ComputeCommand[] = [];
  let draining = false;
  /** Snapshots on their way: one that is asked for while an engine is being made need not wait for it. */
  const coming = new WeakMap<ComputeCommand, Promise<Uint8Array>>();
  let newestUrl = "";
  let prepared: Prepared | null = null;
  let held: { version: Version; hash: string } | null = null;
  /** Of this thread, whatever the run. */
  const avoid: Fallback[] = [];
  /** Of payloads that were sent: a fresh allocation for each would keep the garbage collector busy. */
  const spare: ArrayBuffer[] = [];
  /** The newest version that was announced, applied or not: leases on older ones are not worth starting. */
  let announced = -1;
  /** Leases with smaller ids are not wanted any more. */
  let wantedFrom = 0;
  let dutyCycle = 1;
  /** The last piece of computing, which is rested from before the next one; the examination is not: it comes once. */
  let busy = { endedMs: -Infinity, ms: 0 };

  async function drain(): Promise<void> {
    draining = true;
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      try {
        await carryOut(next);
      } catch (error) {
        queue.length = 0;
        held = null;
        ports.emit({
          type: "failed",
          during: next.type,
          message: error instanceof Error ? error.message : String(error),
        });
      }
    }
    draining = false;
  }

  async function carryOut(command: ComputeCommand): Promise<void> {
    switch (command.type) {
      case "prepare":
        return prepare(command.run, command.url);
      case "replaceEngine":
        return replaceEngine(command.reason);
      case "load":
        return load(command.snapshot, coming.get(command));
      case "apply":
        return applyUpdate(command.version, command.hash, command.payload);
      case "work":
        return work(command.lease);
      case "recycle":
        if (spare.length < MAX_SPARE_BUFFERS) spare.push(command.buffer);
        return;
      case "pace":
      case "drop":
        return;
      case "forget":
        announced = held?.version ?? -1;
        return;
      default:
        return command satisfies never;
    }
  }

  async function prepare(run: RunDescription, url: string): Promise<void> {
    await prepared?.engine.dispose();
    prepared = null;
    held = null;
    const layout = layoutOf(gptTensors(run.model));
    const readFile = (path: string, range?: { start: number; end: number }): Promise<Uint8Array> =>
      ports.fetchBytes(url + path, range);
    const [{ engine, fallbacks }, task] = await Promise.all([
      ports.createEngine(run, layout, avoid, url),
      createTask(run, readFile),
    ]);
    const [params, gradient] = [new Float32Array(layout.length), new Float32Array(layout.length)];
    prepared = { run, url, layout, engine, task, params, gradient };
    await examineEngine(fallbacks);
  }

  /** Most of what is built once, shaders above all, is built here and not in the first lease, so that its deadline is honest. */
  async function examineEngine(fallbacks: readonly Fallback[]): Promise<void> {
    const { engine, run, layout, gradient } = need(prepared);
    const batchSize = examinationSamples(run.unit);
    const { nowMs } = ports;
    const { answer, stepMs } = await examine({ engine, spec: run.model, layout, batchSize, gradient, nowMs });
    const unitMs = (stepMs * run.unit) / batchSize;
    ports.emit({ type: "prepared", backend: engine.backend, fallbacks, unitMs, answer });
  }

  async function replaceEngine(reason: string): Promise<void> {
    const refused = need(prepared);
    avoid.push({ backend: refused.engine.backend, reason });
    await refused.engine.dispose();
    try {
      const { engine, fallbacks } = await ports.createEngine(refused.run, refused.layout, avoid, refused.url);
      prepared = { ...refused, engine };
      await examineEngine(fallbacks);
      if (held !== null) await engine.load(refused.params);
    } catch (error) {
      prepared = null;
      ports.emit({ type: "unable", reason: error instanceof Error ? error.message : String(error) });
    }
  }

  async function load(snapshot: SnapshotReference, bytes: Promise<Uint8Array> | undefined): Promise<void> {
    const { url, layout, engine, params } = need(prepared);
    readParams(await (bytes ?? ports.fetchBytes(url + snapshot.path)), layout, params);
    const hash = hashParams(params);
    if (hash !== snapshot.hash) throw new Error(`snapshot ${snapshot.path} has θ hash ${hash}, not ${snapshot.hash}`);
    await engine.load(params);
    held = { version: snapshot.version, hash };
    announced = snapshot.version;
    ports.emit({ type: "loaded", version: snapshot.version, hash });
  }

  /** How long it took; to be rested from. */
  function wasBusySince(startMs: number): number {
    const endedMs = ports.nowMs();
    busy = { endedMs, ms: endedMs - startMs };
    return busy.ms;
  }

  /** Until the last piece of computing is `dutyCycle` of the time since it began, or the lease is no longer wanted. */
  async function rest(lease: Lease): Promise<void> {
    for (;;) {
      const owedMs = busy.ms * (1 / dutyCycle - 1) - (ports.nowMs() - busy.endedMs);
      await ports.pause(Math.min(Math.max(owedMs, 0), REST_SLICE_MS));
      if (owedMs <= REST_SLICE_MS || isStale(lease)) return;
    }
  }

  async function applyUpdate(version: Version, expected: string, payload: Uint8Array): Promise<void> {
    const { engine, params, run, layout } = need(prepared);
    // Also after "forget": the connection it belonged to is gone, the next one starts with what is held.
    if (held === null) return;
    if (version !== held.version + 1) {
      ports.emit({ type: "diverged", version: held.version, reason: `update ${version} on version ${held.version}` });
      held = null;
      return;
    }
    const wrongSize = payload.length !== encodedBytes(run.codec, layout.length);
    if (!wrongSize) decodeApply(run.codec, payload, params);
    letGo(payload);
    const hash = wrongSize ? "" : hashParams(params);
    if (hash !== expected) {
      ports.emit({ type: "diverged", version, reason: `version ${version} has θ hash ${hash}, not ${expected}` });
      held = null;
      return;
    }
    await engine.load(params);
    held = { version, hash };
    ports.emit({ type: "applied", version, hash });
  }

  async function work(lease: Lease): Promise<void> {
    if (held?.version === lease.base && !isStale(lease)) {
      if (lease.kind === "evaluate") await evaluate(lease, held.hash);
      else await train(lease, held.hash);
    } else {
      ports.emit({ type: "leaseDone", lease: lease.lease, dropped: lease.units });
    }
  }

  /** Whether its results would be refused. */
  function isStale({ lease, base }: Lease): boolean {
    return announced > base || lease < wantedFrom;
  }

  async function train(lease: Lease, hash: string): Promise<void> {
    const { run, gradient, layout, engine } = need(prepared);
    const folded = run.strict || lease.units === 1 ? null : new Float32Array(layout.length);
    let [tokens, lossSum, computeMs] = [0, 0, 0];
    for (let index = 0; index < lease.units; index++) {
      if (!(await mayStart(lease, index))) return;
      const firstUnit = lease.firstUnit + index;
      if (folded === null) {
        const payload = newPayload();
        const result = await encodeUnit(lease, firstUnit, payload);
        contribute(lease, hash, { firstUnit, units: 1, ...result }, payload);
        continue;
      }
      const result = await computeUnit(lease, firstUnit, (batch) => engine.gradient(batch, gradient));
      addInto(folded, gradient);
      tokens += result.tokens;
      lossSum += result.lossSum;
      computeMs += result.computeMs;
    }
    if (folded !== null) {
      const { firstUnit, units } = lease;
      const payload = newPayload();
      encode(run.codec, folded, payload);
      contribute(lease, hash, { firstUnit, units, tokens, lossSum, computeMs }, payload);
    }
    ports.emit({ type: "leaseDone", lease: lease.lease, dropped: 0 });
  }

  /** The sum of one unit's gradients, in the codec's bytes. */
  async function encodeUnit(lease: Lease, unit: number, payload: Uint8Array): ReturnType<typeof computeUnit> {
    const { run, gradient, engine } = need(prepared);
    // Where the codec's bytes are the values, the engine writes into the frame itself; another one may encode them where they are.
    const elements = elementsOf(run.codec, payload);
    if (elements === null && run.codec === "i8" && engine.encodedGradient) {
      return computeUnit(lease, unit, (batch) => engine.encodedGradient!(batch, payload));
    }
    const result = await computeUnit(lease, unit, (batch) => engine.gradient(batch, elements ?? gradient));
    if (elements === null) encode(run.codec, gradient, payload);
    return result;
  }

  /** `step` takes the unit's batch. */
  async function computeUnit(
    { origin, samples, base }: Lease,
    unit: number,
    step: (batch: Batch) => Promise<Loss>,
  ): Promise<{ tokens: number; lossSum: number; computeMs: number }> {
    const { task } = need(prepared);
    const batch = await task.trainingBatch({ origin, samples, unit, version: base });
    const startMs = ports.nowMs();
    const loss = await step(batch);
    return { ...loss, computeMs: wasBusySince(startMs) };
  }

  function newPayload(): Uint8Array<ArrayBuffer> {
    const { run, layout } = need(prepared);
    return allocatePayload(encodedBytes(run.codec, layout.length), spare.pop());
  }

  function contribute(
    { lease, base }: Lease,
    hash: string,
    result: { firstUnit: number; units: number; tokens: number; lossSum: number; computeMs: number },
    payload: Uint8Array<ArrayBuffer>,
  ): void {
    if (announced > base) spare.push(payload.buffer);
    else ports.emit({ type: "contribution", lease, base, hash, ...result, payload }, [payload.buffer]);
  }

  async function evaluate(lease: Lease, hash: string): Promise<void> {
    const { engine, task } = need(prepared);
    for (let index = 0; index < lease.units; index++) {
      if (!(await mayStart(lease, index))) return;
      const unit = lease.firstUnit + index;
      const startMs = ports.nowMs();
      const loss = await engine.loss(await task.evaluationBatch({ samples: lease.samples, unit }));
      const { base } = lease;
      const computeMs = wasBusySince(startMs);
      ports.emit({ type: "evaluation", lease: lease.lease, base, hash, firstUnit: unit, units: 1, ...loss, computeMs });
    }
    ports.emit({ type: "leaseDone", lease: lease.lease, dropped: 0 });
  }

  /** Whether unit `index` of the lease is still wanted; if not, the lease is over. */
  async function mayStart(lease: Lease, index: number): Promise<boolean> {
    await rest(lease);
    if (isStale(lease)) {
      ports.emit({ type: "leaseDone", lease: lease.lease, dropped: lease.units - index });
      return false;
    }
    const isLast = index === lease.units - 1 && !queue.some(({ type }) => type === "work");
    if (isLast) ports.emit({ type: "nearlyIdle" });
    return true;
  }

  return {
    command(command) {
      if (command.type === "forget") {
        // What the lost connection asked for; the run and θ stay for the next one.
        for (let index = queue.length - 1; index >= 0; index--) {
          const { type } = queue[index]!;
          if (type === "work" || type === "apply") queue.splice(index, 1);
        }
        // Ends the lease in work at its next unit.
        announced = Infinity;
        // A coordinator that was restarted counts its leases anew.
        wantedFrom = 0;
        queue.push(command);
      } else if (command.type === "pace") {
        dutyCycle = command.dutyCycle;
        return;
      } else if (command.type === "drop") {
        wantedFrom = command.before;
        return;
      } else {
        if (command.type === "apply") announced = Math.max(announced, command.version);
        if (command.type === "prepare") newestUrl = command.url;
        if (command.type === "load" && draining) {
          const bytes = ports.fetchBytes(newestUrl + command.snapshot.path);
          // Who waits for it hears of it; before that it is nobody's failure.
          bytes.catch(() => {});
          coming.set(command, bytes);
        }
        queue.push(command);
      }
      if (!draining) void drain();
    },
  };
}

/** total[i] += values[i]. A function of its own: inside the async loop it would not be optimised. */
function addInto(total: Float32Array, values: Float32Array): void {
  for (let i = 0; i < total.length; i++) total[i]! += values[i]!;
}

/**
 * Frees an update, which is applied by now, at once: the garbage collector would let some 60 MB of them pile up. One of its own
 * memory came alone and is nobody else's; small ones share memory with others.
 */
function letGo({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength >= OWN_BUFFER_BYTES) buffer.transfer(0);
}

function need<T>(value: T | null): T {
  if (value === null) throw new Error("a command before the run was prepared");
  return value;
}
