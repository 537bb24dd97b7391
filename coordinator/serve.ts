/** @file Puts a run together: ledger, θ, sockets, HTTP, and the clock that drives them. */
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { getRequestListener } from "@hono/node-server";
import type { HttpBindings } from "@hono/node-server";
import { encodedBytes } from "../shared/codec/codec.ts";
import { writeParams } from "../shared/codec/paramsFile.ts";
import { MANIFEST_FILE } from "../shared/data/manifest.ts";
import { evaluationWindows } from "../shared/data/windows.ts";
import { sketchLength } from "../shared/engine/examination.ts";
import { gptTensors } from "../shared/model/gptTensors.ts";
import { initialParams } from "../shared/model/init.ts";
import { layoutOf } from "../shared/numerics/layout.ts";
import { ProtocolError } from "../shared/wire/protocol.ts";
import type { RefusalCode, RunDescription, SnapshotReference, Version, WorkerId } from "../shared/wire/protocol.ts";
import { scheduleOf } from "./settings/runSpec.ts";
import type { RunSpec } from "./settings/runSpec.ts";
import type { Corpus } from "./corpus/corpus.ts";
import { dashboardRoutes } from "./observe/dashboardRoutes.ts";
import { diskProblem } from "./store/diskProblem.ts";
import { openHistory } from "./store/history.ts";
import { answerFailure, CORPUS_PATH, createHttp } from "./edge/http.ts";
import { knownAnswer } from "./round/knownAnswer.ts";
import { openLedger } from "./store/ledger.ts";
import type { EvaluationRow, RoundRow } from "./store/ledger.ts";
import { openOptimizer } from "./optimizer/optimize.ts";
import type { ContributionProblem } from "./optimizer/optimize.ts";
import { createMetrics } from "./observe/metrics.ts";
import { REFERENCE_ROUNDS, referenceOf } from "./round/normGuard.ts";
import { OperatorError } from "./operatorError.ts";
import { createLive } from "./observe/live.ts";
import { createPublisher, SNAPSHOT_PATH } from "./optimizer/publish.ts";
import { createRun } from "./round/run.ts";
import type { Run } from "./round/run.ts";
import { openSockets } from "./edge/sockets.ts";
import { ADMIN_TOKEN_FILE, newSecret, sameSecret, secretFile } from "./edge/secret.ts";
import { adminApi } from "./edge/adminApi.ts";
import { openInvites } from "./edge/invites.ts";
import { createStepGraphs } from "./edge/stepGraphs.ts";
import { createEventLog } from "./store/eventLog.ts";
import { createGate } from "./edge/gate.ts";
import { createGuardedServer, guardHttp } from "./edge/httpGuard.ts";
import type { Limits } from "./edge/limits.ts";
import type { OriginPolicy } from "./edge/origin.ts";
import type { TrustedProxies } from "./edge/peerAddress.ts";
import { lockRun, readCoordinatorFile, removeCoordinatorFile, writeCoordinatorFile } from "./store/runLock.ts";
import type { RunLock } from "./store/runLock.ts";
import type { Status } from "../shared/wire/status.ts";
import { openTracing } from "./observe/tracing.ts";

export type ServeOptions = {
  readonly spec: RunSpec;
  readonly corpus: Corpus;
  /** The run's own folder. */
  readonly runDir: string;
  readonly pagesDir: string;
  readonly host: string;
  readonly port: number;
  readonly token: string | null;
  /** Null: the one in the run's folder, made at its first start. */
  readonly adminToken: string | null;
  readonly limits: Limits;
  readonly proxies: TrustedProxies;
  readonly origins: OriginPolicy;
  /** Known to the workers that are started with this coordinator: they need no token, and no limit holds for them. */
  readonly ownKey: string;
  /** Threads for merging and the optimizer. */
  readonly threads: number;
  /** The operator asks over HTTP for what Ctrl-C does. */
  readonly onStop: () => void;
  readonly onNotice: (text: string) => void;
  /** Everything that goes into the ledger's events. */
  readonly onEvent?: (code: string, text: string) => void;
  readonly onRound: (row: RoundRow) => void;
  readonly onEvaluated: (row: EvaluationRow) => void;
};

export type Served = {
  readonly url: string;
  readonly status: () => Status;
  /** Resolves when the run has all its steps; rejects when it cannot go on. */
  readonly finished: Promise<void>;
  /** Writes a snapshot and closes everything. */
  readonly stop: () => Promise<{ snapshot: string }>;
};

/** A worker that says nothing for three of these is gone. */
const HEARTBEAT_MS = 5000;

/** Expiry, probes and speculation are decided at this grain. */
const TICK_MS = 100;

const PROGRESS_MS = 1000;

/** Between two looks whether a step is over. */
const STEP_POLL_MS = 20;

/** Below it nothing expires: loading a page, a short stall of the machine. */
const MIN_LEASE_MS = 10_000;

/** How often a worker too slow for the rounds is given another chance. */
const PROBE_EVERY_MS = 30_000;

/** Updates kept for workers that load θ while rounds go on: sent at once they stay below what a slow reader may have unsent (8). */
const UPDATES_KEPT = 7;

/** Those of a tiny model, whose rounds are fast, may be more: a socket takes this much without waiting. */
const SMALL_UPDATES_BYTES = 2 ** 20;

/** A message of this size was put together from several reads of the socket, in a buffer of its own; smaller ones share one. */
const OWN_BUFFER_BYTES = 128 * 1024;

/** The newest may turn out to be torn; then the one before it and its journal lead to the same θ. */
const SNAPSHOTS_KEPT = 2;

const refusalOf: Readonly<Record<ContributionProblem, RefusalCode>> = {
  length: "wrong-size",
  nonFinite: "not-finite",
  quant: "bad-encoding",
  exponent: "bad-encoding",
  "out-of-range": "unknown-lease",
  overlap: "already-done",
  "too-many-waiting": "stale-version",
  stale: "stale-version",
  norm: "norm-outlier",
};

export async function serve(options: ServeOptions): Promise<Served> {
  const { spec, corpus, runDir, onNotice } = options;
  const { model, codec } = spec;
  const snapshotDir = join(runDir, "snapshots");
  const layout = layoutOf(gptTensors(model));
  const units = Math.ceil(spec.batch / spec.unit);
  const server = createGuardedServer(options.limits);
  const answerLater = notReady(server);
  // Before anything is written: a port in use is the likeliest mistake.
  await listen(server, options.host, options.port);
  const lock = takeLock(runDir, server);
  mkdirSync(snapshotDir, { recursive: true });
  const ledger = openLedger(join(runDir, "ledger.sqlite"));

  const last = ledger.lastRound();
  // The same in a snapshot from memory as in its file: both are served under one name, to be kept for ever.
  const metadata = { run: spec.name, model: JSON.stringify(model) };
  const { optimizer, recovery } = await openOptimizer({
    dir: snapshotDir,
    layout,
    codec,
    optimizer: spec.optimizer,
    threads: options.threads,
    units,
    // The reducer takes each unit of a round once.
    maxWaiting: units,
    initial: () => initialParams(model, layout, spec.seed),
    until: last?.version ?? 0,
    metadata,
    keep: SNAPSHOTS_KEPT,
    sync: true,
  });
  for (const { path, reason } of recovery.skipped) onNotice(`${path} is passed over: ${reason}`);
  if (optimizer.version() < (last?.version ?? 0)) {
    onNotice(`θ is recovered at version ${optimizer.version()}; the rounds after it are trained again`);
    ledger.rollBackTo(optimizer.version());
  }
  const lastRound = ledger.lastRound();
  if (lastRound !== null && lastRound.hash !== optimizer.hash()) {
    throw new Error(
      `θ at version ${lastRound.version} has hash ${optimizer.hash()}, the ledger says ${lastRound.hash}`,
    );
  }
  // Whoever stops before the first snapshot is due, resumes from this one.
  if (recovery.snapshot === null) await optimizer.snapshot();

  const corpusId = createHash("sha256").update(JSON.stringify(corpus.manifest)).digest("hex").slice(0, 16);
  const description: RunDescription = {
    name: spec.name,
    model,
    seed: spec.seed,
    sampling: spec.sampling,
    batch: spec.batch,
    unit: spec.unit,
    evaluationUnit: spec.evaluation.unit,
    steps: spec.steps,
    codec,
    strict: spec.strict,
    ...(spec.activations === "f16" && { activations: spec.activations }),
    manifestPath: `${CORPUS_PATH}${corpusId}/${MANIFEST_FILE}`,
  };
  const metrics = createMetrics();
  const trace = await openTracing(spec.name, process.env);
  const socketBytes = { in: 0, out: 0 };
  answerLater.end();
  const publisher = createPublisher({ maxUpdateBytes: Math.max(SMALL_UPDATES_BYTES, UPDATES_KEPT * encodedBytes(codec, layout.length)) }); // prettier-ignore
  const offerSnapshot = (version: Version, hash: string): SnapshotReference =>
    publisher.offer(version, hash, () => {
      const params = optimizer.paramsOf(hash);
      if (params === null)
        throw new Error(`version ${version} with hash ${hash} is offered, θ is at ${optimizer.hash()}`);
      return writeParams(layout, params, { ...metadata, version: String(version), hash });
    });
  const { limits, proxies, origins, ownKey } = options;
  const guard = guardHttp(server, { limits, proxies, origins, ownKey, onNotice, nowMs });
  const invites = openInvites(runDir, spec.name, Date.now);
  const admit = createGate({ token: options.token, invites: spec.invites ? invites : null });
  const sockets = openSockets(
    server,
    {
      maxPayloadBytes: Math.max(encodedBytes(codec, layout.length), 8 * sketchLength(layout)),
      heartbeatMs: HEARTBEAT_MS,
      limits,
      addressOf: guard.addressOf,
      originProblem: guard.originProblem,
    },
    {
      async identify({ resume, token }, own) {
        const admission = await admit(token, own);
        const known = resume === undefined ? null : ledger.findWorker(resume.worker);
        if (resume !== undefined && known !== null && sameSecret(resume.secret, known.secret)) {
          if (run.isBanned(known.id)) throw new ProtocolError("banned", "the operator has banned this worker");
          admission(known.id);
          return { worker: known.id, secret: known.secret };
        }
        const worker = randomUUID().slice(0, 13);
        admission(worker);
        return { worker, secret: newSecret() };
      },
      onJoined: (worker, { kind, name, device }, secret) => run.joined(worker, { kind, name, device, secret }),
      onMessage: (worker, message, payload) => run.received(worker, message, payload),
      onGone: (worker, reason) => run.gone(worker, reason),
      onRefusal: (worker, code, message) => run.refused(worker, code, message),
      onBytes: (direction, bytes) => {
        socketBytes[direction] += bytes;
        metrics.bytes.inc({ direction, codec }, bytes);
      },
    },
    nowMs,
  );

  const { promise: finished, resolve: finish, reject: fail } = Promise.withResolvers<void>();
  let failure: Error | null = null;
  // Who awaits it may come later than the failure.
  finished.catch(() => {});
  const stopping = new AbortController();
  const known = spec.admission
    ? knownAnswer({ run: description, corpusDir: corpus.dir, runDir, signal: stopping.signal })
    : null;
  known?.catch((error: unknown) => stopping.signal.aborted || fail(error));
  const valTokens = corpus.manifest.splits.val.tokens;
  const windows = (samples: number | "all"): number => evaluationWindows(valTokens, model.context, samples);
  const writeEvent = (code: string, text: string): void => {
    options.onEvent?.(code, text);
    ledger.event(Date.now(), code, text);
  };
  const logEvent = createEventLog(writeEvent, nowMs);
  const run: Run = createRun(
    {
      description,
      round: {
        batch: spec.batch,
        unit: spec.unit,
        evaluationUnit: spec.evaluation.unit,
        tokensPerSample: model.context,
        steps: spec.steps,
        evaluateEvery: spec.evaluation.every,
        evaluationSamples: windows(spec.evaluation.samples),
        finalEvaluationSamples: windows(spec.evaluation.final),
        strict: spec.strict,
        guard: spec.guard,
        minLeaseMs: MIN_LEASE_MS,
        probeEveryMs: PROBE_EVERY_MS,
      },
      schedule: scheduleOf(spec),
      about: spec.about,
      corpus: corpus.manifest.name,
      snapshotEvery: spec.snapshotEvery,
      layout,
      expected: known,
      references: ledger.norms(REFERENCE_ROUNDS).flatMap((round) => referenceOf(round) ?? []),
      heartbeatMs: HEARTBEAT_MS,
      version: optimizer.version(),
      hash: optimizer.hash(),
      origin: lastRound === null ? 0 : lastRound.origin + lastRound.samples,
      tokens: ledger.tokens(),
      lastEvaluation: ledger.lastEvaluation(),
      paused: ledger.pause(),
      bans: ledger.bans(),
    },
    {
      nowMs,
      send: sockets.send,
      broadcast: sockets.broadcast,
      refuse: sockets.refuse,
      merge: async (part) => {
        const receiving = optimizer.receive(part);
        letGo(part.payload);
        const received = await receiving;
        if (received.ok) return { norm: received.norm, refusal: null };
        const { problem, reason, norm = 0 } = received;
        return { norm, refusal: { code: refusalOf[problem], message: reason } };
      },
      step: (round) => optimizer.step(round),
      rememberBan: ledger.rememberBan,
      diskProblem,
      rememberPause: ledger.rememberPause,
      commitRound: ledger.commitRound,
      creditOf: ledger.creditOf,
      recordEvaluation: ledger.recordEvaluation,
      logEvent,
      flush: ledger.flush,
      snapshot: async () => void (await optimizer.snapshot()),
      rememberWorker: ({ secret, kind, name, backend }, id: WorkerId) =>
        ledger.rememberWorker({ id, secret, kind, name, backend, lastSeenMs: Date.now() }),
      publisher,
      offerSnapshot,
      metrics,
      trace,
      socketBytes: () => ({ ...socketBytes }),
      onCommitted: options.onRound,
      onEvaluated: options.onEvaluated,
      onFinished: finish,
      onFailed(error) {
        failure ??= error;
        fail(error);
      },
    },
  );
  const history = openHistory(join(runDir, "history.sqlite"), join(runDir, "ledger.sqlite"));
  const live = createLive({ history, status: run.status, nowMs, process: randomUUID(), onProblem: onNotice });
  const dashboard = dashboardRoutes({
    history,
    live,
    snapshotDir,
    offerNewest: () => {
      const { version, hash } = run.status();
      return offerSnapshot(version, hash);
    },
    parameterBytes: 4 * layout.parameters,
    tokenizerPath: `${CORPUS_PATH}${corpusId}/${corpus.manifest.tokenizer.file}`,
    pagesDir: options.pagesDir,
    nowMs,
  });
  const onError = answerFailure((text) => logEvent("http-error", text));
  const admin = adminApi({
    onError,
    token: options.adminToken ?? secretFile(join(runDir, ADMIN_TOKEN_FILE)),
    addressOf: ({ env }) => guard.addressOf((env as HttpBindings).incoming) ?? "own",
    nowMs,
    dateMs: Date.now,
    invites,
    pause: (reason) => run.pause("operator", reason),
    resume: () => run.resume("operator"),
    stop: options.onStop,
    kick: run.kick,
    ban: run.ban,
    unban: run.unban,
    bans: run.bans,
    async snapshot() {
      // Not during a step: it is over in a moment.
      while (run.state().phase === "committing") await sleep(STEP_POLL_MS);
      const { version, paramsPath } = await optimizer.snapshot();
      return { version, path: SNAPSHOT_PATH + basename(paramsPath) };
    },
    eventsAfter(id, limit) {
      try {
        ledger.flush();
      } catch {
        // A full disk: what is not kept yet is shown when it is.
      }
      return history.eventsAfter(id, limit);
    },
    onAction: (text) => writeEvent("operator", text),
  });
  const app = createHttp({
    corpusDir: corpus.dir,
    corpusId,
    pagesDir: options.pagesDir,
    publisher,
    registry: metrics.registry,
    status: run.status,
    board: () => ({
      tokens: run.status().tokens,
      contributors: ledger.contributors(),
      top: ledger.standings(BOARD_ROWS),
    }),
    snapshotDir,
    dashboard,
    admin,
    stepGraphs: createStepGraphs({
      run: description,
      examined: spec.admission,
      signal: stopping.signal,
      onProblem: (text) => logEvent("step-graphs", text),
    }),
    onError,
  });
  const answer = getRequestListener(app.fetch);
  server.on("request", (request, response) => {
    if (guard.admits(request, response)) void answer(request, response);
  });
  const timers = [
    setInterval(run.tick, TICK_MS),
    setInterval(run.reportProgress, PROGRESS_MS),
    setInterval(live.tick, PROGRESS_MS),
  ];

  const { port } = server.address() as AddressInfo;
  writeCoordinatorFile(runDir, { pid: process.pid, url: urlOf(anyAddress.get(options.host) ?? options.host, port) });
  return {
    url: urlOf(options.host, port),
    status: run.status,
    finished,
    async stop() {
      stopping.abort();
      await run.halt();
      for (const timer of timers) clearInterval(timer);
      live.close();
      await sockets.close("the coordinator stops");
      server.closeAllConnections();
      server.close();
      try {
        // θ has taken a step that the ledger has no room for: the files lead to the last committed round, and only they.
        if (failure !== null && optimizer.version() !== run.state().version) throw failure;
        const { paramsPath } = await optimizer.snapshot();
        ledger.flush();
        return { snapshot: paramsPath };
      } finally {
        await optimizer.close();
        history.close();
        ledger.close();
        invites.close();
        removeCoordinatorFile(runDir);
        lock.release();
        // A collector that is away must not keep a coordinator from ending well.
        await trace?.close().catch(() => {});
      }
    },
  };
}

/** Where a program on this machine reaches a coordinator that listens on all addresses. */
const anyAddress: ReadonlyMap<string, string> = new Map([
  ["0.0.0.0", "127.0.0.1"],
  ["::", "::1"],
]);

function urlOf(host: string, port: number): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Two coordinators of one run would each commit rounds that the other does not know of. */
function takeLock(runDir: string, server: Server): RunLock {
  mkdirSync(runDir, { recursive: true });
  const lock = lockRun(runDir);
  if (lock !== null) return lock;
  server.close();
  const other = readCoordinatorFile(runDir);
  const where = other === null ? "" : ` (process ${other.pid}, ${other.url})`;
  throw new OperatorError(
    `--run ${basename(runDir)}: another coordinator has it open${where}; must be a run that is not being served`,
  );
}

/**
 * While θ is being recovered: everything is answered with 503, so that who comes early asks again instead of waiting for an
 * answer that nobody will give.
 */
function notReady(server: Server): { end: () => void } {
  server.on("request", refuseRequest);
  server.on("upgrade", refuseUpgrade);
  return {
    end: () => {
      server.off("request", refuseRequest);
      server.off("upgrade", refuseUpgrade);
    },
  };
}

function refuseRequest(_: IncomingMessage, response: ServerResponse): void {
  response.writeHead(503, { "Retry-After": "1", Connection: "close" }).end("the coordinator is starting\n");
}

function refuseUpgrade(_: IncomingMessage, socket: Duplex): void {
  socket.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n");
}

/**
 * Frees the frame of a contribution, which is copied by now, at once: left to the garbage collector, a hundred megabytes a
 * second of them would keep it busy.
 */
function letGo({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= OWN_BUFFER_BYTES) buffer.transfer(0);
}

/** Milliseconds since the epoch that never step back. */
/** What a page shows without becoming a list. */
const BOARD_ROWS = 10;

function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EADDRINUSE")
      throw new OperatorError(`--port ${port}: another program listens there; must be a free port`);
    if (code === "EACCES") throw new OperatorError(`--port ${port}: not allowed for this user; must be above 1023`);
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
      throw new OperatorError(
        `--host ${host}: not an address of this machine; must be one, such as 127.0.0.1 or 0.0.0.0`,
      );
    }
    throw error;
  }
}
