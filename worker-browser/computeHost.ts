/** @file Owns the compute thread: hands it commands, and replaces it when it breaks. */
import type { Backend } from "../shared/engine/engine.ts";
import type { ComputeCommand, ComputeEvent } from "../shared/worker/commands.ts";
import type { Fallback } from "../shared/wire/protocol.ts";
import type {
  ComputeToSession,
  DeviceMessage,
  KernelsMessage,
  SessionToCompute,
  SmallerPieces,
  WarmUp,
} from "./messages.ts";

export type ComputeHostConfig = {
  readonly force: string | null;
  readonly onEvent: (event: ComputeEvent) => void;
  readonly onDevice: (message: DeviceMessage) => void;
  readonly onKernels: (message: KernelsMessage) => void;
  readonly onWarmUp: (warmUp: WarmUp) => void;
  readonly onFetched: (bytes: number, isSnapshot: boolean) => void;
  readonly onSmallerPieces: (smallerPieces: SmallerPieces) => void;
  /** No backend works, or no compute thread lives long enough to be of use. */
  readonly onGivingUp: (reason: string) => void;
};

export type ComputeHost = {
  readonly command: (command: ComputeCommand) => void;
  /** Answered by {@link ComputeHostConfig.onKernels}, unless the thread breaks. */
  readonly timeKernels: () => void;
  /** At once, whatever it is doing; for good. */
  readonly terminate: () => void;
};

/** A GPU is lost once when a driver is updated or a laptop wakes up; twice means that it will be lost again. */
const FAILURES_PER_BACKEND = 2;

/** Every backend may fail twice, once of them without having been known; no machine that works comes near. */
const FAILURES_WITHOUT_WORK = 8;

export function createComputeHost(config: ComputeHostConfig): ComputeHost {
  const { force, onEvent, onGivingUp } = config;
  let worker: Worker | null = null;
  let terminated = false;
  /** A new thread is told what the old one knew. */
  let prepare: ComputeCommand | null = null;
  let pace: ComputeCommand | null = null;
  /** Of the backend that ran out of memory; another one begins with whole units. */
  let pieces: SmallerPieces | null = null;
  let failures: Backend[] = [];
  let withoutWork = 0;
  const avoid: Fallback[] = [];

  function start(): Worker {
    const mine = new Worker(new URL("./compute.ts", import.meta.url), { type: "module", name: "manyhands compute" });
    mine.addEventListener("message", ({ data }: MessageEvent<ComputeToSession>) => {
      if (mine === worker) receive(data);
    });
    mine.addEventListener("error", (event) => {
      event.preventDefault();
      if (mine === worker) broken(null, `the compute thread broke: ${event.message}`);
    });
    const choice: SessionToCompute = { type: "choice", choice: { force, avoid, rows: pieces?.rows ?? null } };
    mine.postMessage(choice);
    if (pace !== null) send(mine, pace);
    return mine;
  }

  function receive(message: ComputeToSession): void {
    switch (message.type) {
      case "event":
        if (message.event.type === "contribution" || message.event.type === "evaluation") withoutWork = 0;
        onEvent(message.event);
        break;
      case "device":
        config.onDevice(message);
        break;
      case "kernels":
        config.onKernels(message);
        break;
      case "warmUp":
        config.onWarmUp(message.warmUp);
        break;
      case "fetched":
        config.onFetched(message.bytes, message.isSnapshot);
        break;
      case "unable":
        onGivingUp(message.reason);
        break;
      case "broken":
        if (!halved(message)) broken(message.backend, message.reason);
        break;
      default:
        message satisfies never;
    }
  }

  /** Whether the thread is replaced by one that computes half as much at a time. As often as a unit can be halved, per backend. */
  function halved({ backend, reason, outOfMemoryWith }: Extract<ComputeToSession, { type: "broken" }>): boolean {
    if (outOfMemoryWith === null || outOfMemoryWith < 2) return false;
    pieces = { backend, rows: Math.ceil(outOfMemoryWith / 2), reason };
    config.onSmallerPieces(pieces);
    worker?.terminate();
    worker = null;
    onEvent({ type: "failed", during: "work", message: reason });
    return true;
  }

  function broken(backend: Backend | null, reason: string): void {
    worker?.terminate();
    worker = null;
    withoutWork += 1;
    if (backend !== null) {
      failures.push(backend);
      if (failures.filter((failed) => failed === backend).length >= FAILURES_PER_BACKEND && force === null) {
        avoid.push({ backend, reason });
        failures = failures.filter((failed) => failed !== backend);
        pieces = null;
      }
    }
    if (withoutWork >= FAILURES_WITHOUT_WORK) onGivingUp(`${reason} (${withoutWork} failures in a row)`);
    else onEvent({ type: "failed", during: "work", message: reason });
  }

  return {
    command: (command) => {
      if (terminated) return;
      if (command.type === "prepare") prepare = command;
      if (command.type === "pace") pace = command;
      // The next thread starts with the next command, not at once: the session decides how soon it tries again.
      if (worker === null) {
        if (
          command.type === "forget" ||
          command.type === "recycle" ||
          command.type === "pace" ||
          command.type === "drop"
        )
          return;
        worker = start();
        if (prepare !== null && command.type !== "prepare") send(worker, prepare);
      }
      send(worker, command);
    },
    timeKernels: () => {
      const message: SessionToCompute = { type: "timeKernels" };
      worker?.postMessage(message);
    },
    terminate: () => {
      terminated = true;
      worker?.terminate();
      worker = null;
    },
  };
}

function send(worker: Worker, command: ComputeCommand): void {
  const message: SessionToCompute = { type: "command", command };
  worker.postMessage(message, command.type === "recycle" ? [command.buffer] : []);
}
