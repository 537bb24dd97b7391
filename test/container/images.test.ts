/** @file The images: small, not root, well labelled, and plain about what is wrong; and the helper for other projects' tests. */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";
import { startCluster } from "../../deploy/testing/cluster.ts";
import { measureMemory } from "../support/containerMemory.ts";
import { baseImage, buildImages, containerTest, docker, withEngine } from "../support/containers.ts";

const run = promisify(execFile);

withEngine(buildImages);

/** Beyond the base image, which is about 200 MB where it is the public one: 300 MB for a coordinator, 450 MB for a worker. */
const LAYERS_MB = { "manyhands-coordinator": 100, "manyhands-worker": 250 };

containerTest("are small, run as nobody in particular, and say what they are", async () => {
  const base = Number(await docker("image", "inspect", baseImage, "--format", "{{.Size}}"));
  for (const [image, limit] of Object.entries(LAYERS_MB)) {
    const size = Number(await docker("image", "inspect", image, "--format", "{{.Size}}"));
    process.stdout.write(
      `${image}: ${((size - base) / 1e6).toFixed(1)} MB on a base of ${(base / 1e6).toFixed(1)} MB\n`,
    );
    expect((size - base) / 1e6, image).toBeLessThan(limit);
    const format = "{{.Config.User}} {{index .Config.Labels \"org.opencontainers.image.licenses\"}} {{.Config.Healthcheck.Interval}}"; // prettier-ignore
    expect(await docker("image", "inspect", image, "--format", format)).toBe("1000:1000 MIT 15s");
    const sbom = await docker("run", "--rm", "--entrypoint", "node", image, "-p", "JSON.parse(fs.readFileSync('sbom.cdx.json')).bomFormat"); // prettier-ignore
    expect(sbom.split("\n").at(-1)).toBe("CycloneDX");
  }
});

/** Runs a coordinator that should not start. */
async function refused(...flags: string[]): Promise<{ code: number; stderr: string }> {
  const failure = (await docker("run", "--rm", "--read-only", ...flags, "manyhands-coordinator").catch((error: unknown) => error)) as { code: number; stderr: string }; // prettier-ignore
  // The engine may have its own say first (no forwarding).
  return { code: failure.code, stderr: failure.stderr.replaceAll(/^WARNING.*\n/gm, "") };
}

containerTest(
  "a coordinator without a volume, or with one that it may not write to, says so in one line and ends with 2",
  async () => {
    expect(await refused()).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^error: \/data: no volume is mounted there[^\n]*docker run -v[^\n]*\n$/) as string,
    });
    expect(await refused("--tmpfs", "/data:mode=0755,uid=0")).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^error: \/data: permission denied for user 1000[^\n]*chown -R 1000:1000[^\n]*\n$/) as string, // prettier-ignore
    });
  },
);

containerTest("a container that always fails is started again ever more slowly", async () => {
  const id = await docker("run", "-d", "--restart", "unless-stopped", "manyhands-coordinator");
  try {
    await new Promise((done) => setTimeout(done, 15_000));
    const count = Number(await docker("inspect", id, "--format", "{{.RestartCount}}"));
    // Delays of 0.1, 0.2, 0.4 … s, and what a start takes.
    expect(count).toBeGreaterThan(0);
    expect(count).toBeLessThan(9);
  } finally {
    await docker("rm", "-f", id);
  }
});

/** What is promised is 120 MB and 300 MB; the coordinator gets the rest for a garbage collector that comes late on a busy machine. */
const MEMORY_MB = { coordinator: 125, worker: 300 };

containerTest(
  "an idle coordinator and a worker of tiny stay small",
  async () => {
    const { idleCoordinatorMb, workerMb } = await measureMemory();
    process.stdout.write(
      `resident: coordinator ${idleCoordinatorMb.toFixed(0)} MB, worker ${workerMb.toFixed(0)} MB\n`,
    );
    expect(idleCoordinatorMb).toBeLessThan(MEMORY_MB.coordinator);
    expect(workerMb).toBeLessThan(MEMORY_MB.worker);
  },
  600_000,
);

containerTest("a few lines start a run in somebody's tests", async () => {
  const cluster = await startCluster({ workers: 2, flags: ["--steps", "3", "--tokenizer", "char", "--final-evaluation-samples", "8"] }); // prettier-ignore
  try {
    const { version, trainLoss } = await cluster.until(({ phase }) => phase === "finished");
    expect(version).toBe(3);
    expect(trainLoss).toBeGreaterThan(0);
  } finally {
    await cluster.stop();
  }
  expect(await docker("ps", "-aq", "--filter", `name=${cluster.network}`)).toBe("");
  expect(await docker("volume", "ls", "-q", "--filter", `name=${cluster.network}`)).toBe("");
});

containerTest("so does one command, for a workflow", async () => {
  const flags = ["--steps", "2", "--tokenizer", "char", "--final-evaluation-samples", "8"];
  const { stdout } = await run(process.execPath, [
    resolve("deploy/testing/train.ts"),
    "--workers",
    "1",
    "--",
    ...flags,
  ]);
  expect(stdout).toMatch(/^hash=[0-9a-f]{16}\nversion=2\n$/m);
});
