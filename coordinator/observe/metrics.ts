/** @file Prometheus metrics of a run (prom-client), on a registry of its own. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = {
  readonly registry: Registry;
  readonly version: Gauge;
  readonly trainLoss: Gauge;
  readonly validationLoss: Gauge;
  readonly learningRate: Gauge;
  readonly gradientNorm: Gauge;
  readonly workers: Gauge<"backend">;
  readonly tokens: Counter;
  readonly roundSeconds: Histogram;
  readonly roundComputeSeconds: Histogram;
  readonly computeSeconds: Histogram<"kind">;
  readonly transferSeconds: Histogram;
  readonly mergeSeconds: Histogram;
  readonly leaseSeconds: Histogram<"outcome">;
  readonly commitSeconds: Histogram;
  readonly refusals: Counter<"code">;
  readonly bytes: Counter<"direction" | "codec">;
  readonly leases: Counter<"outcome">;
};

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string): Gauge => new Gauge({ name: `manyhands_${name}`, help, registers });
  return {
    registry,
    version: gauge("version", "Version of the parameters: committed rounds."),
    trainLoss: gauge("train_loss_nats", "Training loss of the last round, nats per token."),
    validationLoss: gauge("validation_loss_nats", "Newest validation loss, nats per token."),
    learningRate: gauge("learning_rate", "Learning rate of the last round."),
    gradientNorm: gauge("gradient_norm", "Global norm of the last merged gradient, before clipping."),
    workers: new Gauge({ name: "manyhands_workers", help: "Ready workers.", labelNames: ["backend"], registers }),
    tokens: new Counter({ name: "manyhands_tokens_total", help: "Tokens in committed rounds.", registers }),
    roundSeconds: new Histogram({
      name: "manyhands_round_seconds",
      help: "From one commit to the next.",
      buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100],
      registers,
    }),
    roundComputeSeconds: new Histogram({
      name: "manyhands_round_compute_seconds",
      help: "Engine time of the worker that computed longest in a round.",
      buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100],
      registers,
    }),
    computeSeconds: new Histogram({
      name: "manyhands_compute_seconds",
      help: "Engine time of one contribution, as its worker says.",
      labelNames: ["kind"],
      buckets: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
      registers,
    }),
    transferSeconds: new Histogram({
      name: "manyhands_transfer_seconds",
      help: "From granting a lease to its last result, less engine time: network both ways, encoding, queueing.",
      buckets: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
      registers,
    }),
    mergeSeconds: new Histogram({
      name: "manyhands_merge_seconds",
      help: "Checking one contribution and adding it to the round's sum.",
      buckets: [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
      registers,
    }),
    leaseSeconds: new Histogram({
      name: "manyhands_lease_seconds",
      help: "Age of a lease when it was over: returned, released, or lapsed (expired, copied, or its worker left).",
      labelNames: ["outcome"],
      buckets: [0.03, 0.1, 0.3, 1, 3, 10, 30, 100],
      registers,
    }),
    commitSeconds: new Histogram({
      name: "manyhands_commit_seconds",
      help: "Optimizer step, ledger and publication of one round.",
      buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
      registers,
    }),
    refusals: new Counter({
      name: "manyhands_refusals_total",
      help: "Refused messages and contributions.",
      labelNames: ["code"],
      registers,
    }),
    bytes: new Counter({
      name: "manyhands_socket_bytes_total",
      help: "Bytes of frames over WebSockets; in is towards the coordinator.",
      labelNames: ["direction", "codec"],
      registers,
    }),
    leases: new Counter({
      name: "manyhands_leases_total",
      help: "Leases granted, and what became of them: returned, released, lapsed.",
      labelNames: ["outcome"],
      registers,
    }),
  };
}
