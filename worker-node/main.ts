/** @file `npm run worker`: a Node process that computes for a coordinator. */
import { Worker } from "node:worker_threads";
import { randomInt } from "node:crypto";
import { arch, availableParallelism, cpus } from "node:os";
import { CommanderError } from "commander";
import type { ComputeCommand, ComputeEvent } from "../shared/worker/commands.ts";
import { OperatorError } from "../shared/operatorError.ts";
import { runSession } from "../shared/worker/run.ts";
import type { RunningSession } from "../shared/worker/run.ts";
import type { SessionState } from "../shared/worker/session.ts";
import type { ComputeData, ThreadCommand } from "./compute.ts";
import { parseWorkerArguments } from "./config.ts";
import type { WorkerConfig } from "./config.ts";
import { serveHealth } from "./health.ts";
import { openLog } from "./log.ts";
import type { Log } from "./log.ts";
import { connectSocket } from "./socket.ts";
import { openTracing } from "./tracing.ts";

/** Updates of the largest model we name (GPT-2 XL in f32) and some; a coordinator that sends more is not ours. */
const MAX_FRAME_BYTES = 8 * 2 ** 30;

/** A message of this size was put together from several reads of the socket, in a buffer of its own; smaller ones share one. */
const OWN_BUFFER_BYTES = 128 * 1024;

/** Less than the three seconds of a coordinator and the ten of a container engine, which then insist. */
const END_MS = 2500;

// Here too, because what a thread sets in its environment is seen by nobody else: engine.ts says why.
process.env["ORT_DISABLE_TELEMETRY"] = "1";

try {
  const config = parseWorkerArguments(process.argv.slice(2));
  await run(config, config.quiet ? () => {} : await openLog(config.log));
} catch (error) {
  if (error instanceof OperatorError) {
    process.stderr.write(`error: ${error.message}\n`);
    process.exit(2);
  }
  if (!(error instanceof CommanderError)) throw error;
  // commander has printed its line; --help is no mistake.
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}

async function run(config: WorkerConfig, log: Log): Promise<void> {
  const trace = await openTracing(config.name, process.env);
  const data: ComputeData = { threads: config.threads, engine: config.engine, provider: config.provider };
  const compute = new Worker(new URL("./compute.ts", import.meta.url), { workerData: data });
  let session: RunningSession | null = null;
  let health: { port: number; close: () => void } | null = null;
  const report = progressReporter(log);
  const onChange = (state: SessionState): void => {
    report(state);
    if (state.phase.name !== "ended") return;
    process.exitCode = state.phase.ok ? 0 : 1;
    if (!state.phase.ok) process.stderr.write(`${state.phase.reason}\n`);
    health?.close();
    // A collector that is away must not keep a worker from ending well.
    trace?.close().catch(() => {});
    endThread(compute);
    if (process.connected) process.disconnect();
  };
  compute.on("message", (event: ComputeEvent) => {
    trace?.computed(event);
    session?.computed(event);
  });
  compute.on("error", (error) => {
    process.stderr.write(`the compute thread failed: ${error.message}\n`);
    process.exit(1);
  });
  session = runSession(
    {
      kind: "node",
      name: config.name,
      device: machine(),
      token: config.token,
      url: config.url,
      seed: randomInt(2 ** 31),
    },
    {
      connect: (handlers) => 
        connectSocket(`${config.url.replace(/^http/, "ws")}/socket`, MAX_FRAME_BYTES, process.env["MANYHANDS_OWN_KEY"], handlers), // prettier-ignore
      compute: (command) => {
        trace?.commanded(command);
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
        compute.postMessage(command, memoryOf(command));
      },
      nowMs: () => performance.now(),
      every: (ms, callback) => {
        const timer = setInterval(callback, ms);
        return () => clearInterval(timer);
      },
      remember: () => {},
      onChange,
    },
    null,
  );
  const { state } = session;
  if (config.healthPort !== null) {
    health = await serveHealth(config.healthPort, state);
    log(`health: port ${health.port}`, { event: "health", port: health.port });
  }
  const stop = (): void => session.stop("stopped by its owner");
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  // Started by a coordinator: its end is ours.
  process.once("disconnect", stop);
}

/** For the coordinator's operator. */
function machine(): string {
  return `${cpus()[0]?.model.trim() ?? arch()}, ${availableParallelism()} cores`.slice(0, 128);
}

/**
 * Lets the thread end by itself: to terminate one inside ONNX Runtime takes the process down with a segmentation fault. One
 * whose step takes longer than {@link END_MS} is not waited for: its leases are given back, there is nothing left to lose.
 */
function endThread(thread: Worker): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  thread.postMessage({ type: "end" } satisfies ThreadCommand);
  setTimeout(() => process.kill(process.pid, "SIGKILL"), END_MS).unref();
}

/** What moves to the compute thread instead of being copied. Small payloads share memory with others: those are copied. */
function memoryOf(command: ComputeCommand): ArrayBuffer[] {
  if (command.type === "recycle") return [command.buffer];
  if (command.type !== "apply") return [];
  const { buffer } = command.payload;
  return buffer instanceof ArrayBuffer && buffer.byteLength >= OWN_BUFFER_BYTES ? [buffer] : [];
}

/** Prints what a person at this machine wants to know, once per change. */
function progressReporter(log: Log): (state: SessionState) => void {
  let last = "";
  let lastProgressMs = -Infinity;
  return (state) => {
    const line = describe(state);
    if (line !== last) {
      last = line;
      log(line, { phase: state.phase.name });
    }
    const { progress } = state;
    if (progress === null || state.phase.name !== "working" || performance.now() - lastProgressMs < 5000) return;
    lastProgressMs = performance.now();
    const loss = progress.trainLoss === null ? "–" : progress.trainLoss.toFixed(4);
    const speed = `${Math.round(progress.yourTokensPerSecond)} of ${Math.round(progress.tokensPerSecond)} tokens/s`;
    const { version, steps, trainLoss, yourTokensPerSecond, tokensPerSecond } = progress;
    const fields = { event: "progress", version, steps, trainLoss, yourTokensPerSecond, tokensPerSecond };
    log(`step ${version}/${steps}  loss ${loss}  ${speed} computed here`, fields);
  };
}

function describe(state: SessionState): string {
  switch (state.phase.name) {
    case "connecting":
      return "connecting";
    case "greeting":
      return "connected";
    case "loading":
      return `loading ${state.phase.what}`;
    case "working": {
      const fallbacks = (state.engine?.fallbacks ?? []).map(
        // What the backend in use could do besides has a reason of its own.
        ({ backend, reason }) => `; ${backend === state.engine?.backend ? "" : `${backend} `}not used: ${reason}`,
      );
      return `training "${state.run?.name}" on ${state.engine?.backend}${fallbacks.join("")}`;
    }
    case "offline":
      return `offline, will try again: ${state.phase.reason}`;
    case "resting":
      return `resting: ${state.phase.reason}`;
    case "ended":
      return state.phase.reason;
    default:
      return state.phase satisfies never;
  }
}
