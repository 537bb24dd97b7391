/**
 * @file One run, alive: feeds what happens (messages, time, finished work) to the round reducer and carries its effects out.
 * Everything that touches the world comes in as a port, so that the simulator runs this very file.
 */
import type { ParamLayout } from "../../shared/numerics/layout.ts";
import { learningRateAt } from "../../shared/numerics/schedule.ts";
import type { Schedule } from "../../shared/numerics/schedule.ts";
import type { Acceptable, CoordinatorMessage, Fallback, RefusalCode, RunDescription, SnapshotReference, Version, WorkerId, WorkerMessage } from "../../shared/wire/protocol.ts"; // prettier-ignore
import type { Backend } from "../../shared/engine/engine.ts";
import { judge } from "./admission.ts";
import type { KnownAnswer } from "./knownAnswer.ts";
import type { LeaseAccount } from "./leaseAccount.ts";
import type { Metrics } from "../observe/metrics.ts";
import type { BanRow, ContributionRow, Credit, EvaluationRow, RoundRow } from "../store/ledger.ts";
import { createObserver } from "../observe/observe.ts";
import type { RunTrace } from "../observe/tracing.ts";
import type { NormBounds, NormReference } from "./normGuard.ts";
import type { Publisher } from "../optimizer/publish.ts";
import { DISK_RETRY_MS, roundStep } from "./round.ts";
import { initialRound } from "./roundState.ts";
import type { MergeResult, PauseCause, RoundConfig, RoundEffect, RoundEvent, RoundState } from "./roundState.ts";
import type { Status, WorkerStatus } from "../../shared/wire/status.ts";
import { createRate } from "./rate.ts";
import type { Rate } from "./rate.ts";
import { PROTOCOL_VERSION } from "../../shared/wire/protocol.ts";

export type StepResult =
  | {
      readonly applied: true;
      readonly gradientNorm: number;
      readonly update: Uint8Array<ArrayBuffer>;
      readonly hash: string;
      /** Where the gradient lies. */
      readonly journal: number;
      readonly record: number;
    }
  /** The merged gradient is not finite: θ is as before. */
  | { readonly applied: false };

export type RunPorts = {
  readonly nowMs: () => number;
  readonly send: (worker: WorkerId, message: CoordinatorMessage, payload?: Uint8Array) => void;
  /** To all of them the same bytes; a payload's frame may be made around it, where it lies. */
  readonly broadcast: (workers: Iterable<WorkerId>, message: CoordinatorMessage, payload?: Uint8Array<ArrayBuffer>) => void; // prettier-ignore
  readonly refuse: (
    worker: WorkerId,
    code: RefusalCode,
    message: string,
    options: { fatal: boolean; accept?: Acceptable | undefined },
  ) => void;
  /** Takes a contribution into the round's sum, within the bounds for its norm; resolves once it is checked. */
  readonly merge: (part: {
    firstUnit: number;
    units: number;
    payload: Uint8Array;
    bounds: NormBounds;
  }) => Promise<MergeResult>;
  /** Optimizer step on the round's sum, durable when it resolves; after a rejection the same step is asked for again. */
  readonly step: (round: { version: Version; tokens: number; learningRate: number }) => Promise<StepResult>;
  /** Keeps a ban beyond this process; null when it is lifted. */
  readonly rememberBan: (worker: WorkerId, ban: BanRow | null) => void;
  /** What of an error the operator can mend by making room, in words; null when it is another error. */
  readonly diskProblem: (error: unknown) => string | null;
  /** Keeps the operator's pause beyond this process; null when it ends. */
  readonly rememberPause: (reason: string | null) => void;
  /** Durable when it returns; after a throw nothing is written. */
  readonly commitRound: (round: RoundRow, contributions: readonly ContributionRow[], leases: LeaseAccount) => void;
  /** What a worker has given to the run's committed rounds, ever, and where that puts it among all. */
  readonly creditOf: (worker: WorkerId) => Credit;
  readonly recordEvaluation: (row: EvaluationRow) => void;
  /** Gathered until `flush`, or until the next round is committed. */
  readonly logEvent: (code: string, text: string) => void;
  readonly flush: () => void;
  /** Writes θ as it was last committed. */
  readonly snapshot: () => Promise<void>;
  /** Keeps a worker's identity beyond this process; gathered as events are. */
  readonly rememberWorker: (worker: WorkerEntry, id: WorkerId) => void;
  readonly publisher: Publisher;
  readonly offerSnapshot: (version: Version, hash: string) => SnapshotReference;
  readonly metrics: Metrics;
  /** Null unless somebody collects traces. */
  readonly trace: RunTrace | null;
  /** Of all frames so far. */
  readonly socketBytes: () => { readonly in: number; readonly out: number };
  /** After each commit. */
  readonly onCommitted: (round: RoundRow) => void;
  readonly onEvaluated: (row: EvaluationRow) => void;
  readonly onFinished: () => void;
  /** Nothing more can be done: the run stops with this reason. */
  readonly onFailed: (error: Error) => void;
};

export type RunStart = {
  readonly description: RunDescription;
  readonly round: RoundConfig;
  readonly schedule: Schedule;
  /** For people: the operator's sentence about the run, and the name of its text. */
  readonly about: string | null;
  readonly corpus: string;
  /** Versions between snapshots. */
  readonly snapshotEvery: number;
  readonly layout: ParamLayout;
  /** What the examination must have for an answer before a worker gets its first lease; null when nobody is examined. */
  readonly expected: Promise<KnownAnswer> | null;
  /** How large contributions were in the last committed rounds, oldest first. */
  readonly references: readonly NormReference[];
  readonly heartbeatMs: number;
  readonly version: Version;
  readonly hash: string;
  readonly origin: number;
  readonly tokens: number;
  readonly lastEvaluation: EvaluationRow | null;
  /** Why the operator had paused the run when its last coordinator ended; null when not. */
  readonly paused: string | null;
  readonly bans: readonly BanRow[];
};

export type WorkerEntry = {
  readonly kind: "node" | "browser";
  readonly name: string;
  readonly device: string;
  readonly secret: string;
  backend: Backend | null;
  fallbacks: readonly Fallback[];
  /** The version that it was last told to load. */
  offered: Version;
  readonly rate: Rate;
};

export type Run = {
  /** Greets a worker that introduced itself. */
  readonly joined: (id: WorkerId, worker: { kind: "node" | "browser"; name: string; device?: string | undefined; secret: string }) => void; // prettier-ignore
  readonly received: (id: WorkerId, message: Exclude<WorkerMessage, { type: "hello" }>, payload: Uint8Array) => void;
  readonly gone: (id: WorkerId, reason: string) => void;
  readonly refused: (id: WorkerId | null, code: RefusalCode, message: string) => void;
  /** Closes a worker's connection; it may come back. Whether it was there. */
  readonly kick: (id: WorkerId, reason: string) => boolean;
  /** Refuses this identity from now on, connected or not; the ledger remembers. Whether it was there. */
  readonly ban: (id: WorkerId, reason: string) => boolean;
  /** Lifts a ban; whether there was one. */
  readonly unban: (id: WorkerId) => boolean;
  readonly isBanned: (id: WorkerId) => boolean;
  readonly bans: () => readonly BanRow[];
  readonly tick: () => void;
  /** Tells every worker how the run stands, and writes the events gathered; call about once a second. */
  readonly reportProgress: () => void;
  /** No more leases until {@link Run.resume} of the same cause; `reason` is for people, in words. Idempotent. */
  readonly pause: (cause: PauseCause, reason: string) => void;
  /** Ends the pause of this cause; whether there was one. */
  readonly resume: (cause: PauseCause) => boolean;
  readonly status: () => Status;
  readonly state: () => RoundState;
  /** Entries in what this holds by worker or by contribution: bounded by who is connected and by one contribution each [I5]. */
  readonly sizes: () => { readonly workers: number; readonly payloads: number };
  /** No more rounds: resolves when the round being committed, if any, is done. */
  readonly halt: () => Promise<void>;
};

/** `reduce` decides; another one than {@link roundStep} is for tests that plant a bug in it. */
export function createRun(start: RunStart, ports: RunPorts, reduce: typeof roundStep = roundStep): Run {
  const { description, metrics } = { description: start.description, metrics: ports.metrics };
  const config = start.round;
  const workers = new Map<WorkerId, WorkerEntry>();
  const bans = new Map(start.bans.map((ban) => [ban.worker, ban]));
  const payloads = new Map<number, { worker: WorkerId; payload: Uint8Array }>();
  const refusals: Record<string, number> = {};
  const runRate = createRate();
  let nextContribution = 1;
  let hash = start.hash;
  let tokens = start.tokens;
  let reason = "";
  let lastRound: RoundRow | null = null;
  let validation = start.lastEvaluation;
  const observer = createObserver(metrics, ports.trace, ports.nowMs);
  let halted = false;
  let committing: Promise<void> | null = null;
  let bytesBefore = ports.socketBytes();
  /** Writes that the full disk refused, each once: while there are any, the run is paused. */
  const refusedWrites = new Set<object>();
  let wake: (() => void)[] = [];
  const background = new Set<Promise<void>>();
  let flushing: Promise<void> | null = null;
  let state = initialRound({
    version: start.version,
    origin: start.origin,
    evaluated: start.lastEvaluation?.version ?? -1,
    references: start.references,
  });

  function dispatch(event: RoundEvent): void {
    if (halted && event.type !== "committed") {
      if (event.type === "returned") payloads.delete(event.id);
      return;
    }
    const step = reduce(state, event, config, ports.nowMs());
    state = step.state;
    reason = step.reason;
    for (const effect of step.effects) perform(effect);
  }

  function perform(effect: RoundEffect): void {
    switch (effect.type) {
      case "grant":
        {
          const traceparent = observer.granted(effect.worker, effect.lease);
          const context = traceparent === undefined ? {} : { traceparent };
          ports.send(effect.worker, { type: "lease", ...effect.lease, ...context });
        }
        return;
      case "waiting":
        ports.send(effect.worker, { type: "waiting", reason: effect.reason });
        return;
      case "merge":
        mergeContribution(effect);
        return;
      case "discard":
        payloads.delete(effect.id);
        return;
      case "refuse":
        refused(effect.worker, effect.code, effect.message);
        ports.refuse(effect.worker, effect.code, effect.message, { fatal: false, accept: effect.accept });
        return;
      case "evaluated": {
        const { version, lossSum, tokens: evaluatedTokens, samples } = effect;
        validation = { version, lossSum, tokens: evaluatedTokens, samples, atMs: ports.nowMs() };
        metrics.validationLoss.set(lossSum / evaluatedTokens);
        const row = validation;
        inBackground(() => ports.recordEvaluation(row));
        ports.onEvaluated(row);
        return;
      }
      case "commit":
        committing = commit(effect).catch(failed);
        return;
      case "retry":
        tryAgain();
        return;
      case "finish":
        void finish();
        return;
      case "fail":
        halted = true;
        ports.onFailed(new Error(effect.reason));
        return;
      default:
        effect satisfies never;
    }
  }

  function mergeContribution({ id, firstUnit, units, bounds }: Extract<RoundEffect, { type: "merge" }>): void {
    const entry = payloads.get(id);
    if (entry === undefined) throw new Error(`contribution ${id} has no payload`);
    payloads.delete(id);
    const sinceMs = ports.nowMs();
    ports
      .merge({ firstUnit, units, payload: entry.payload, bounds })
      .finally(() => observer.merged(sinceMs))
      .then((result) => dispatch({ type: "merged", id, ...result }), failed);
  }

  function failed(error: unknown): void {
    halted = true;
    ports.onFailed(error instanceof Error ? error : new Error(String(error)));
  }

  /** A write that a full disk does not fail but delays: the run is paused until it has succeeded. */
  async function durably<T>(write: () => T | Promise<T>): Promise<T> {
    const me = {};
    for (;;) {
      try {
        const value = await write();
        if (refusedWrites.delete(me) && refusedWrites.size === 0) resume("disk");
        return value;
      } catch (error) {
        const problem = ports.diskProblem(error);
        if (problem === null || halted) throw error;
        refusedWrites.add(me);
        pause("disk", `${problem}; what could not be written is tried again every ${DISK_RETRY_MS / 1000} s`);
        await new Promise<void>((resolve) => wake.push(resolve));
      }
    }
  }

  function tryAgain(): void {
    const waiting = wake;
    wake = [];
    for (const resolve of waiting) resolve();
  }

  /** A write that nothing waits for, except the end of the run. */
  function inBackground(write: () => void | Promise<void>): void {
    const writing = durably(write).catch(failed);
    background.add(writing);
    void writing.then(() => background.delete(writing));
  }

  /** All is computed; the run has ended when it is written, too. */
  async function finish(): Promise<void> {
    await Promise.all(background);
    if (halted) return;
    halted = true;
    // Not sooner: a worker that is told so ends, and would be missed if this process died before the last evaluation is written.
    ports.broadcast(workers.keys(), { type: "finished", version: state.version });
    ports.onFinished();
  }

  async function commit(effect: Extract<RoundEffect, { type: "commit" }>): Promise<void> {
    const beganMs = ports.nowMs();
    const version = effect.version + 1;
    const learningRate = learningRateAt(start.schedule, effect.version);
    const contributors = contributorsOf(state);
    const result = await durably(() => ports.step({ version, tokens: effect.tokens, learningRate }));
    if (!result.applied) {
      ports.logEvent("skipped", `version ${version}: the merged gradient is not finite`);
      dispatch({ type: "committed", applied: false });
      return;
    }
    const committedMs = ports.nowMs();
    const bytes = ports.socketBytes();
    const row: RoundRow = {
      version,
      origin: effect.origin,
      samples: config.batch,
      tokens: effect.tokens,
      lossSum: effect.lossSum,
      gradientNorm: result.gradientNorm,
      learningRate,
      hash: result.hash,
      baseHash: hash,
      journal: result.journal,
      record: result.record,
      committedMs,
      roundMs: committedMs - (lastRound?.committedMs ?? state.startedMs),
      computeMs: longestCompute(state),
      commitMs: committedMs - beganMs,
      workers: new Set(contributors.map(({ worker }) => worker)).size,
      bytesIn: bytes.in - bytesBefore.in,
      bytesOut: bytes.out - bytesBefore.out,
    };
    bytesBefore = bytes;
    await durably(() => ports.commitRound(row, contributors, effect.account));
    // Before new leases are granted on what was committed.
    observer.committed({ version, tokens: effect.tokens, lossSum: effect.lossSum, beganMs });
    hash = result.hash;
    tokens += effect.tokens;
    lastRound = row;
    ports.publisher.add({ version, hash, payload: result.update });
    if (!halted) {
      const ready = [...state.workers].filter(([, worker]) => worker.ready).map(([id]) => id);
      ports.broadcast(ready, { type: "update", version, hash }, result.update);
    }
    dispatch({ type: "committed", applied: true });
    runRate.add(ports.nowMs(), effect.tokens);
    for (const { worker, tokens: theirs } of contributors) workers.get(worker)?.rate.add(ports.nowMs(), theirs);
    metrics.version.set(version);
    metrics.trainLoss.set(effect.lossSum / effect.tokens);
    metrics.learningRate.set(learningRate);
    metrics.gradientNorm.set(result.gradientNorm);
    metrics.tokens.inc(effect.tokens);
    metrics.roundSeconds.observe(row.roundMs / 1000);
    metrics.roundComputeSeconds.observe(row.computeMs / 1000);
    metrics.commitSeconds.observe((ports.nowMs() - beganMs) / 1000);
    ports.onCommitted(row);
    if (version % start.snapshotEvery === 0 && version < config.steps) inBackground(takeSnapshot);
  }

  /** Of committed versions only: not while a step waits for the ledger. */
  async function takeSnapshot(): Promise<void> {
    await committing;
    await ports.snapshot();
  }

  function received(id: WorkerId, message: Exclude<WorkerMessage, { type: "hello" }>, payload: Uint8Array): void {
    const worker = workers.get(id);
    if (worker === undefined) return;
    switch (message.type) {
      case "ready":
        worker.backend = message.backend;
        worker.fallbacks = message.fallbacks;
        ports.rememberWorker(worker, id);
        onReady(id, message.version, message.hash, message.unitMs);
        return;
      case "examination":
        examined(id, worker, message, payload);
        return;
      case "pull":
        dispatch({ type: "pulled", worker: id });
        return;
      case "contribution":
      case "evaluation": {
        // A result on another θ than the published one is not a gradient at θ_v [I3].
        if (message.base === state.version && message.hash !== hash) {
          refused(id, "wrong-hash", `θ at version ${message.base} has hash ${hash}, not ${message.hash}`);
          resynchronise(id, `your θ at version ${message.base} was not the published one`);
          return;
        }
        const contribution = nextContribution++;
        if (message.type === "contribution") payloads.set(contribution, { worker: id, payload });
        const { lease, base, firstUnit, units, tokens: theirs, lossSum, computeMs } = message;
        const kind = message.type === "contribution" ? "train" : "evaluate";
        observer.returned(kind, message);
        dispatch({ type: "returned", worker: id, id: contribution, kind, lease, base, firstUnit, units, tokens: theirs, lossSum, computeMs }); // prettier-ignore
        return;
      }
      case "release":
        observer.released(message.lease);
        dispatch({ type: "released", worker: id, lease: message.lease });
        return;
      case "heartbeat":
        return;
      case "leave":
        gone(id, message.reason);
        return;
      default:
        message satisfies never;
    }
  }

  function examined(
    id: WorkerId,
    worker: WorkerEntry,
    { backend, lossSum, tokens: theirs }: Extract<WorkerMessage, { type: "examination" }>,
    payload: Uint8Array,
  ): void {
    if (start.expected === null) return;
    // A copy: the frame's memory is let go, and not aligned. A sketch of another length is refused by its length.
    const sketch = new Float64Array(Math.floor(payload.length / 8));
    new Uint8Array(sketch.buffer).set(payload.subarray(0, sketch.byteLength));
    const decide = (expected: KnownAnswer): void => {
      // It may have left, or come back, while the expected answer was being computed.
      if (workers.get(id) !== worker) return;
      const verdict = judge(
        { layout: start.layout, activations: start.description.activations ?? "f32" },
        backend,
        { lossSum, tokens: theirs, sketch },
        expected.answer,
      );
      if (verdict.admitted) {
        dispatch({ type: "admitted", worker: id });
        return;
      }
      dispatch({ type: "rejected", worker: id });
      refused(id, "wrong-answer", verdict.reason);
      ports.refuse(id, "wrong-answer", verdict.reason, { fatal: false });
    };
    start.expected.then(decide, () => {
      // Whoever computes it reports the failure, and the run ends.
    });
  }

  function onReady(id: WorkerId, version: Version, theirHash: string, unitMs: number): void {
    const known = version === state.version ? hash : ports.publisher.hashOf(version);
    // Whatever is fewer bytes; but who comes with the snapshot it was told to load would never be done loading while rounds go on.
    const loaded = workers.get(id)?.offered === version;
    const maxBytes = loaded ? Infinity : Float32Array.BYTES_PER_ELEMENT * start.layout.length;
    const updates = known === theirHash ? ports.publisher.since(version, state.version, maxBytes) : null;
    if (updates === null) {
      const behind = `version ${version} is ${state.version - version} updates behind, a snapshot is fewer bytes`;
      resynchronise(id, known === theirHash ? behind : `version ${version} is not what this run goes on from`);
      return;
    }
    for (const update of updates) {
      ports.send(id, { type: "update", version: update.version, hash: update.hash }, update.payload);
    }
    dispatch({ type: "ready", worker: id, unitMs });
    reportWorkers();
  }

  function resynchronise(id: WorkerId, why: string): void {
    dispatch({ type: "unready", worker: id });
    const worker = workers.get(id);
    if (worker !== undefined) worker.offered = state.version;
    ports.send(id, { type: "snapshot", snapshot: ports.offerSnapshot(state.version, hash), reason: why });
  }

  function gone(id: WorkerId, why: string): void {
    const worker = workers.get(id);
    if (worker === undefined) return;
    workers.delete(id);
    ports.logEvent("left", `${worker.name} (${id}): ${why}`);
    dispatch({ type: "left", worker: id });
    reportWorkers();
  }

  function refused(id: WorkerId | null, code: RefusalCode, message: string): void {
    refusals[code] = (refusals[code] ?? 0) + 1;
    metrics.refusals.inc({ code });
    ports.logEvent(code, `${id ?? "a stranger"}: ${message}`.slice(0, 500));
  }

  function pause(cause: PauseCause, why: string): void {
    if (state.paused.get(cause)?.reason === why) return;
    dispatch({ type: "paused", cause, reason: why });
    if (cause === "operator") inBackground(storePause);
    ports.logEvent("paused", `${cause}: ${why}`);
  }

  function resume(cause: PauseCause): boolean {
    if (!state.paused.has(cause)) return false;
    dispatch({ type: "resumed", cause });
    if (cause === "operator") inBackground(storePause);
    ports.logEvent("resumed", cause);
    return true;
  }

  function kick(id: WorkerId, why: string): boolean {
    return sendAway(id, "kicked", why);
  }

  function ban(id: WorkerId, why: string): boolean {
    if (!bans.has(id)) bans.set(id, { worker: id, atMs: ports.nowMs(), reason: why });
    storeBan(id);
    if (sendAway(id, "banned", why)) return true;
    ports.logEvent("banned", `${id}, who is not connected: ${why}`);
    return false;
  }

  function unban(id: WorkerId): boolean {
    if (!bans.delete(id)) return false;
    storeBan(id);
    return true;
  }

  /** As it is when the disk takes it, which may be later than it was said; it holds from now on. */
  function storeBan(id: WorkerId): void {
    inBackground(() => ports.rememberBan(id, bans.get(id) ?? null));
  }

  /** What it contributed before stays: it passed the same checks as everybody's. */
  function sendAway(id: WorkerId, code: "kicked" | "banned", why: string): boolean {
    if (!workers.has(id)) return false;
    const message = why === "" ? `${code} by the operator` : `${code} by the operator: ${why}`;
    refused(id, code, message);
    ports.refuse(id, code, message, { fatal: true });
    gone(id, message);
    return true;
  }

  /** As it is when the disk takes it, which may be later than it was said. */
  function storePause(): void {
    ports.rememberPause(state.paused.get("operator")?.reason ?? null);
  }

  function reportWorkers(): void {
    metrics.workers.reset();
    for (const [id, { backend }] of workers) {
      if (backend !== null && state.workers.get(id)?.ready) metrics.workers.inc({ backend });
    }
  }

  function status(): Status {
    const nowMs = ports.nowMs();
    const leases = new Map<WorkerId, number>();
    for (const { worker, expired } of state.leases.values()) {
      if (!expired) leases.set(worker, (leases.get(worker) ?? 0) + 1);
    }
    const total = [...state.workers.values()].reduce((sum, worker) => sum + worker.tokens, 0);
    const list = [...workers].map(([id, worker]): WorkerStatus => {
      const record = state.workers.get(id);
      return {
        worker: id,
        name: worker.name,
        kind: worker.kind,
        device: worker.device,
        state: record?.ready && !record.onTrial ? "ready" : "joining",
        backend: worker.backend,
        fallbacks: worker.fallbacks,
        tokens: record?.tokens ?? 0,
        tokensPerSecond: worker.rate.perSecond(nowMs),
        share: total > 0 ? (record?.tokens ?? 0) / total : 0,
        refused: record?.refused ?? 0,
        waitingReason: record?.waitingReason ?? "",
        behind: record === undefined || record.version < 0 ? null : state.version - record.version,
        leases: leases.get(id) ?? 0,
        strikes: record?.strikes ?? 0,
      };
    });
    return {
      run: description.name,
      about: start.about,
      corpus: start.corpus,
      phase: isPaused(state) ? "paused" : state.phase,
      paused: Object.fromEntries([...state.paused].map(([cause, { reason: why }]) => [cause, why])),
      reason,
      version: state.version,
      steps: config.steps,
      hash,
      parameters: start.layout.parameters,
      tokens,
      tokensPerSecond: runRate.perSecond(nowMs),
      trainLoss: lastRound === null ? null : lastRound.lossSum / lastRound.tokens,
      validationLoss: validation === null ? null : validation.lossSum / validation.tokens,
      learningRate: learningRateAt(start.schedule, state.version),
      gradientNorm: lastRound?.gradientNorm ?? null,
      codec: description.codec,
      strict: description.strict,
      counts: state.counts,
      refusals: { ...refusals },
      workers: list,
    };
  }

  dispatch({ type: "started" });
  // Before any worker is admitted, and so before any contribution.
  start.expected?.then(
    ({ firstUnit: { norm, tokens: counted } }) => dispatch({ type: "reference", reference: { perToken: norm / counted, tokens: counted } }), // prettier-ignore
    () => {
      // Whoever computes it reports the failure, and the run ends.
    },
  );
  if (start.paused !== null) dispatch({ type: "paused", cause: "operator", reason: start.paused });
  return {
    joined(id, { kind, name, device = "", secret }) {
      if (state.phase === "finished") {
        // Not remembered: there is nothing left that it could be needed for.
        ports.send(id, { type: "finished", version: state.version });
        return;
      }
      const worker = {
        kind,
        name,
        device,
        secret,
        backend: null,
        fallbacks: [],
        offered: state.version,
        rate: createRate(),
      };
      if (workers.has(id)) gone(id, "connected again");
      workers.set(id, worker);
      ports.rememberWorker(worker, id);
      ports.logEvent("joined", `${name} (${id})`);
      dispatch({ type: "joined", worker: id, onTrial: start.expected !== null });
      ports.send(id, {
        type: "welcome",
        protocolVersion: PROTOCOL_VERSION,
        worker: id,
        secret,
        run: description,
        snapshot: ports.offerSnapshot(state.version, hash),
        heartbeatMs: start.heartbeatMs,
      });
    },
    received,
    gone,
    refused,
    kick,
    ban,
    unban,
    isBanned: (id) => bans.has(id),
    bans: () => [...bans.values()],
    tick: () => dispatch({ type: "tick" }),
    reportProgress() {
      if (flushing === null && !halted) {
        flushing = durably(ports.flush)
          .catch(failed)
          .finally(() => (flushing = null));
      }
      const now = status();
      for (const worker of now.workers) {
        const credit = ports.creditOf(worker.worker);
        ports.send(worker.worker, {
          type: "progress",
          version: now.version,
          steps: now.steps,
          trainLoss: now.trainLoss,
          validationLoss: now.validationLoss,
          tokens: now.tokens,
          tokensPerSecond: now.tokensPerSecond,
          workers: now.workers.length,
          yourTokens: credit.tokens,
          yourTokensPerSecond: worker.tokensPerSecond,
          yourRounds: credit.rounds,
          yourRank: credit.rank,
          contributors: credit.contributors,
          reason: now.reason.slice(0, 500),
        });
      }
    },
    pause,
    resume,
    status,
    state: () => state,
    sizes: () => ({ workers: workers.size, payloads: payloads.size }),
    async halt() {
      halted = true;
      // What waits for room on the disk gives up.
      tryAgain();
      await committing;
      await Promise.all(background);
    },
  };
}

/** A finished run can still wait for room to be written. */
function isPaused({ phase, paused }: RoundState): boolean {
  if (phase === "failed") return false;
  return phase === "finished" ? paused.has("disk") : paused.size > 0;
}

/** The engine time, evaluation apart, of the worker that computed longest: what the round would take if nothing else took time. */
function longestCompute(state: RoundState): number {
  const byWorker = new Map<WorkerId, number>();
  for (const { worker, computeMs } of state.train?.results ?? []) {
    byWorker.set(worker, (byWorker.get(worker) ?? 0) + computeMs);
  }
  return Math.max(0, ...byWorker.values());
}

/** Who computed which units of the round, for the ledger. */
function contributorsOf(state: RoundState): ContributionRow[] {
  return (state.train?.results ?? []).map(({ firstUnit, units, lease, tokens, lossSum, worker, norm }) => ({
    firstUnit,
    units,
    lease,
    worker,
    tokens,
    lossSum,
    norm,
  }));
}
