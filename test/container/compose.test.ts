/** @file `docker compose up` with the TLS proxy: a Node worker and a browser tab of the host join over https, with the proxy's own authority. */
import { createHash, X509Certificate } from "node:crypto";
import { execFile, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import type { IncomingHttpHeaders } from "node:http";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { connect } from "node:tls";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import type { Status } from "../../shared/wire/status.ts";
import { hasChromium, launchChromium } from "../support/chromium.ts";
import { baseImage, buildImage, buildImages, containerTest, docker, withEngine } from "../support/containers.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const token = "a-token-of-this-test";

/** `docker compose up`, images built, to the first committed round: on a quiet machine. A loaded one is given six times as long. */
const FIRST_ROUND_MS = 20_000;

describe("docker compose", () => {
  const project = `manyhands-test-${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), "manyhands-compose-"));
  let environment: NodeJS.ProcessEnv;
  let [http, https] = [0, 0];

  /** The plugin where there is one, else Debian's older program: both read the file. */
  async function compose(...args: readonly string[]): Promise<string> {
    const flags = ["-f", "deploy/compose.yaml", "-p", project, "--profile", "tls", ...args];
    const plugin = await docker("compose", "version").then(() => true, () => false); // prettier-ignore
    const { stdout } = plugin
      ? await run("docker", ["compose", ...flags], { cwd: root, env: environment })
      : await run("docker-compose", flags, { cwd: root, env: environment });
    return stdout.trim();
  }

  withEngine(async () => {
    await buildImages();
    const [plain, proxy, port] = await freePorts(3);
    [http, https] = [port!, proxy!];
    environment = {
      ...process.env,
      BASE_IMAGE: baseImage,
      CADDY_IMAGE: await caddyImage(),
      MANYHANDS_TOKEN: token,
      MANYHANDS_FLAGS: "--tokenizer char --preset tiny --batch 32 --unit 2 --steps 100000 --evaluate-every 0",
      MANYHANDS_HTTP_PORT: String(plain),
      MANYHANDS_HTTPS_PORT: String(https),
      MANYHANDS_PORT: String(http),
    };
    // The same images once more, as the page says it; every layer is there.
    await compose("build");
  });
  afterAll(async () => {
    if (environment !== undefined) await compose("down", "-v", "-t", "5");
    rmSync(dir, { recursive: true, force: true });
  });

  const status = async (): Promise<Status> => (await (await fetch(`http://127.0.0.1:${http}/status`)).json()) as Status;
  async function until(condition: (status: Status) => boolean, timeoutMs = 120_000): Promise<Status> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const now = await status().catch(() => null);
      if (now !== null && condition(now)) return now;
      if (performance.now() > endMs) throw new Error(`not within ${timeoutMs} ms: ${JSON.stringify(now)}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  containerTest("comes up with two workers and commits its first round", async () => {
    const startMs = performance.now();
    await compose("up", "-d", "--no-build", "--scale", "worker=2");
    await until(({ version }) => version >= 1, 6 * FIRST_ROUND_MS);
    process.stdout.write(`compose up to the first round: ${((performance.now() - startMs) / 1000).toFixed(1)} s\n`);
    await until(({ workers }) => workers.filter(({ state }) => state === "ready").length === 2);
  });

  let rootCertificate: string;
  containerTest("the recipe for a LAN: the proxy's root certificate is the one thing to copy", async () => {
    rootCertificate = join(dir, "root.crt");
    const id = await compose("ps", "-q", "caddy");
    for (let attempt = 0; attempt < 100; attempt++) {
      const copied = await docker("cp", `${id}:/data/caddy/pki/authorities/local/root.crt`, rootCertificate).then(() => true, () => false); // prettier-ignore
      if (copied) break;
      await new Promise((done) => setTimeout(done, 200));
    }
    expect(new X509Certificate(readFileSync(rootCertificate)).ca).toBe(true);
  });

  containerTest("through the proxy: what is immutable may be kept, nothing else", async () => {
    const page = await get("/");
    expect(page.status).toBe(200);
    expect(page.headers["cache-control"]).toBe("no-cache");
    expect(page.headers["strict-transport-security"]).toMatch(/max-age/);
    const asset = /(assets\/[^"]+\.js)/.exec(page.body)?.[1] ?? "";
    expect((await get(`/${asset}`)).headers["cache-control"]).toMatch(/immutable/);
    for (const path of ["/status", "/metrics", "/healthz"]) {
      expect((await get(path)).headers["cache-control"], path).toBe("no-store");
    }
    expect((await get("/nothing")).headers["cache-control"] ?? "", "a miss is not kept").not.toMatch(/max-age=[1-9]/);
  });

  containerTest(
    "a Node worker of the host joins over wss with that certificate, and is told what is wrong without it",
    async () => {
      const flags = [
        "worker-node/main.ts",
        "--url",
        `https://localhost:${https}`,
        "--token",
        token,
        "--name",
        "outside",
      ];
      const distrusting = spawn(process.execPath, flags, {
        cwd: root,
        env: { ...process.env, NODE_EXTRA_CA_CERTS: "" },
      });
      const complaint = new Promise<string>((said) =>
        distrusting.stdout.on("data", (data: Buffer) => data.includes("offline") && said(data.toString())),
      );
      expect(await complaint).toContain("name its root in NODE_EXTRA_CA_CERTS");
      distrusting.kill("SIGKILL");

      const worker = spawn(process.execPath, flags, { cwd: root, stdio: "ignore", env: { ...process.env, NODE_EXTRA_CA_CERTS: rootCertificate } }); // prettier-ignore
      const joined = await until(({ workers }) => workers.some(({ name, tokens }) => name === "outside" && tokens > 0));
      expect(joined.refusals["bad-token"]).toBeUndefined();
      const exit = new Promise((done) => worker.once("exit", done));
      worker.kill("SIGTERM");
      expect(await exit).toBe(0);
    },
  );

  containerTest("a wrong token is refused once and named, not tried again", async () => {
    const flags = ["worker-node/main.ts", "--url", `http://127.0.0.1:${http}`, "--token", "wrong"];
    const { code, stderr } = (await run(process.execPath, flags, { cwd: root }).catch((error: unknown) => error)) as { code: number; stderr: string }; // prettier-ignore
    expect(code).toBe(1);
    expect(stderr.trim()).toMatch(/^bad-token: [^\n]+$/);
    expect((await status()).refusals["bad-token"]).toBe(1);
  });

  if (hasChromium) {
    containerTest("a browser tab of the host joins over https, in a secure context", async () => {
      const pin = await pinOf(https, rootCertificate);
      const browser = await launchChromium({ args: [`--ignore-certificate-errors-spki-list=${pin}`] });
      try {
        const page = await browser.newPage();
        await page.goto(`https://localhost:${https}/?join&name=tab#token=${token}`);
        expect(await page.evaluate(() => isSecureContext)).toBe(true);
        const joined = await until(({ workers }) => workers.some(({ name, state }) => name === "tab" && state === "ready")); // prettier-ignore
        expect(joined.workers.find(({ name }) => name === "tab")).toMatchObject({ kind: "browser", backend: "webgpu" });
      } finally {
        await browser.close();
      }
    });
  }

  containerTest("the model is exported from the container, while it trains", async () => {
    const program = [
      "node",
      "coordinator/export.js",
      "--runs-dir",
      "/data/runs",
      "--run",
      "main",
      "--out",
      "/data/model",
    ];
    await compose("exec", "-T", "coordinator", ...program);
    const id = await compose("ps", "-q", "coordinator");
    await docker("cp", `${id}:/data/model`, join(dir, "model"));
    expect(readdirSync(join(dir, "model"))).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json"])); // prettier-ignore
  });

  containerTest("stopped, it ends well; started again, it goes on from its volume", async () => {
    await compose("stop", "-t", "20");
    const id = await compose("ps", "-q", "coordinator");
    expect(await docker("inspect", id, "--format", "{{.State.ExitCode}}")).toBe("0");
    const log = await docker("logs", "--tail", "1", id);
    const { msg } = JSON.parse(log) as { msg: string };
    const stoppedAt = Number(/^stopped at step (\d+) of/.exec(msg)?.[1]);
    expect(stoppedAt, log).toBeGreaterThan(0);
    await compose("up", "-d", "--no-build", "--scale", "worker=1");
    await until(({ version }) => version > stoppedAt);
  });

  function get(path: string): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> {
    return new Promise((done, fail) => {
      const options = { host: "localhost", port: https, path, ca: readFileSync(rootCertificate) };
      request(options, (answer) => {
        let body = "";
        answer.on("data", (data: Buffer) => (body += data.toString()));
        answer.on("end", () => done({ status: answer.statusCode ?? 0, headers: answer.headers, body }));
      })
        .on("error", fail)
        .end();
    });
  }

  /** The public image, or one made of this machine's Caddy where nothing can be pulled. */
  async function caddyImage(): Promise<string> {
    if (baseImage !== "manyhands-base:local") return "caddy:2";
    const { stdout } = await run("ldd", ["/usr/bin/caddy"]);
    const libraries = stdout.match(/\/lib\/\S+/g) ?? [];
    const context = join(dir, "caddy");
    for (const file of ["/usr/bin/caddy", ...libraries]) {
      mkdirSync(dirname(join(context, file)), { recursive: true });
      copyFileSync(file, join(context, file));
    }
    writeFileSync(join(context, "Dockerfile"), "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY . /\n");
    await buildImage("manyhands-caddy:local", join(context, "Dockerfile"), context);
    return "manyhands-caddy:local";
  }
});

test("the file is what Compose takes, with every profile", async (context) => {
  const found = await run("docker", ["compose", "version"]).then(() => ["docker", "compose"], () => ["docker-compose"]); // prettier-ignore
  const [command = "", ...first] = found;
  const flags = [...first, "-f", "deploy/compose.yaml", "--profile", "tls", "--profile", "observability", "config"];
  const environment = { ...process.env, MANYHANDS_TOKEN: "x" };
  const result = await run(command, flags, { cwd: root, env: environment }).catch((error: NodeJS.ErrnoException) => error); // prettier-ignore
  context.skip("code" in result && result.code === "ENOENT" && process.env["CI"] !== "true", "no Compose");
  if (result instanceof Error) throw result;
  for (const service of ["coordinator", "worker", "caddy", "prometheus", "grafana"]) {
    expect(result.stdout).toContain(`${service}:`);
  }
});

/**
 * What Chromium is told to accept in place of installing the authority: the hash of the key that the proxy shows, once its
 * certificate was found to be signed by that authority.
 */
async function pinOf(port: number, authority: string): Promise<string> {
  const socket = connect({ host: "localhost", port, servername: "localhost", ca: readFileSync(authority) });
  await new Promise((done, fail) => socket.once("secureConnect", () => done(null)).once("error", fail));
  const key = socket.getPeerX509Certificate()!.publicKey.export({ type: "spki", format: "der" });
  socket.destroy();
  return createHash("sha256").update(key).digest("base64");
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0);
      await new Promise((listening) => server.once("listening", listening));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) server.close();
  return ports;
}
