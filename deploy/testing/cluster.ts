/**
 * @file For test suites, also of other projects: a coordinator and N Node workers in containers, on a network of their own.
 *
 *     const cluster = await startCluster({ workers: 3, flags: ["--steps", "20"] });
 *     await cluster.until(({ phase }) => phase === "finished");
 *     await cluster.stop();
 *
 * Needs a container engine and the package `testcontainers`.
 */
import { randomBytes } from "node:crypto";
import { GenericContainer, getContainerRuntimeClient, Network, Wait } from "testcontainers";
import type { StartedTestContainer } from "testcontainers";
import type { Status } from "../../shared/wire/status.ts";

export type ClusterOptions = {
  /** Node workers to start with. */
  readonly workers?: number;
  /** Of the coordinator: `npm start -- --help` lists them. */
  readonly flags?: readonly string[];
  /** Of every worker: `npm run worker -- --help` lists them. */
  readonly workerFlags?: readonly string[];
  /** CPUs and memory of each worker; the engine's own limits when absent. */
  readonly limits?: Limits;
  readonly images?: { readonly coordinator: string; readonly worker: string };
};

export type Limits = { readonly cpus?: number; readonly memoryGiB?: number };

export type Cluster = {
  /** Of the coordinator, from this machine. */
  readonly url: () => string;
  /** Of the coordinator, from containers on {@link Cluster.network}. */
  readonly innerUrl: string;
  readonly network: string;
  readonly coordinator: StartedTestContainer;
  readonly status: () => Promise<Status>;
  /** Resolves with the first status that satisfies the condition. @throws Error with the last one when the time is over. */
  readonly until: (condition: (status: Status) => boolean, timeoutMs?: number) => Promise<Status>;
  readonly startWorker: (name: string, limits?: Limits) => Promise<StartedTestContainer>;
  /** Removes containers, volume and network. */
  readonly stop: () => Promise<void>;
};

const POLL_MS = 200;

/** A service is given this long to end well before it is killed. */
const STOP_MS = 10_000;

export async function startCluster({
  workers = 1,
  flags = [],
  workerFlags = [],
  limits = {},
  images = { coordinator: "manyhands-coordinator", worker: "manyhands-worker" },
}: ClusterOptions = {}): Promise<Cluster> {
  const id = `manyhands-test-${randomBytes(4).toString("hex")}`;
  const client = await getContainerRuntimeClient();
  const network = await new Network({ nextUuid: () => id }).start();
  const started: StartedTestContainer[] = [];
  const innerUrl = `http://${id}-coordinator:8080`;

  async function stop(): Promise<void> {
    // Workers first: they give their leases back.
    for (const container of started.toReversed()) await container.stop({ timeout: STOP_MS }).catch(() => {});
    await client.container.dockerode.getVolume(id).remove().catch(() => {}); // prettier-ignore
    await network.stop();
  }

  async function startWorker(name: string, { cpus, memoryGiB }: Limits = limits): Promise<StartedTestContainer> {
    const container = await new Service(images.worker)
      .withName(`${id}-${name}`)
      .withNetwork(network)
      .withCommand(["--url", innerUrl, "--name", name, ...workerFlags])
      .withResourcesQuota({
        ...(cpus === undefined ? {} : { cpu: cpus }),
        ...(memoryGiB === undefined ? {} : { memory: memoryGiB }),
      })
      .withWaitStrategy(Wait.forLogMessage(/"phase":/))
      .start();
    started.push(container);
    return container;
  }

  try {
    const coordinator = await new Service(images.coordinator)
      .withName(`${id}-coordinator`)
      .withNetwork(network)
      .withBindMounts([{ source: id, target: "/data" }])
      .withTmpFs({ "/tmp": "rw" })
      .withCommand(["--stay", ...flags])
      .withExposedPorts(8080)
      .withWaitStrategy(Wait.forHttp("/healthz", 8080))
      .start();
    started.push(coordinator);
    // Asked for each time: a container that was restarted has another port.
    const url = (): string => `http://${coordinator.getHost()}:${coordinator.getMappedPort(8080)}`;
    const status = async (): Promise<Status> => (await (await fetch(`${url()}/status`)).json()) as Status;
    await Promise.all(Array.from({ length: workers }, (_, index) => startWorker(`worker-${index + 1}`)));
    return {
      url,
      innerUrl,
      network: id,
      coordinator,
      status,
      async until(condition, timeoutMs = 120_000) {
        const endMs = performance.now() + timeoutMs;
        let last: Status | null = null;
        for (;;) {
          // Not answered while the coordinator is being restarted.
          last = await status().catch(() => last);
          if (last !== null && condition(last)) return last;
          if (performance.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${JSON.stringify(last)}`);
          await new Promise((done) => setTimeout(done, POLL_MS));
        }
      },
      startWorker,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** As in production: nothing but volumes can be written to. */
class Service extends GenericContainer {
  constructor(image: string) {
    super(image);
    this.hostConfig.ReadonlyRootfs = true;
    // Nobody asks for their health here, and finding out is a process each time: one that joins a container while it is being paused
    // keeps it from freezing, or the engine waits for it for ever (https://github.com/opencontainers/runc/issues/2753).
    this.createOpts.Healthcheck = { Test: ["NONE"] };
  }
}
