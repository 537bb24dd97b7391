/** @file The proxies' configurations as they are in deploy/, run by the real programs in front of a real coordinator. */
import { execFileSync, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { smallCorpus, smallRun, startCoordinator } from "../../support/coordinatorProcess.ts";
import type { CoordinatorProcess } from "../../support/coordinatorProcess.ts";

const workerMain = resolve("worker-node/main.ts");
const token = "a-token-of-this-test";

let dir: string;
let coordinator: CoordinatorProcess;
const processes: ChildProcess[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "manyhands-proxies-"));
  const flags = ["--run", "proxied", ...smallRun(dir, smallCorpus(dir)), "--steps", "1000000", "--workers", "0"];
  coordinator = await startCoordinator([...flags, "--token", token, "--trust-proxy", "127.0.0.1"]);
});
afterAll(async () => {
  for (const child of processes) child.kill("SIGKILL");
  coordinator.child.kill("SIGTERM");
  await coordinator.exit;
  rmSync(dir, { recursive: true, force: true });
});

proxyTest("caddy", "caddy: a worker trains through deploy/proxy/Caddyfile", async () => {
  const port = await freePort();
  const home = join(dir, "caddy");
  const MANYHANDS_SITE = `localhost:${port}`;
  const environment = { ...process.env, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home, MANYHANDS_SITE, MANYHANDS_UPSTREAM: new URL(coordinator.url).host }; // prettier-ignore
  // The redirect from http has a port of its own, which tests must not take.
  const file = join(dir, "Caddyfile");
  const text = readFileSync("deploy/proxy/Caddyfile", "utf8");
  writeFileSync(file, text.replace("admin off", "admin off\n\tauto_https disable_redirects").replace("default_sni {$MANYHANDS_SITE:localhost}", "default_sni localhost")); // prettier-ignore
  processes.push(spawn("caddy", ["run", "--config", file, "--adapter", "caddyfile"], { env: environment, stdio: "ignore" })); // prettier-ignore
  const certificate = join(home, "caddy/pki/authorities/local/root.crt");
  await until(async () => (await readFile(certificate, "utf8")).includes("CERTIFICATE"));
  await trainsThrough(`https://localhost:${port}`, "through-caddy", certificate);
});

proxyTest(
  "nginx",
  "nginx: a worker trains through deploy/proxy/nginx.conf, and one without Upgrade is named",
  async () => {
    const [port, stripped] = [await freePort(), await freePort()];
    const certificate = join(dir, "certificate.pem");
    const key = join(dir, "key.pem");
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate, ...subject], { stdio: "ignore" }); // prettier-ignore
    const site = readFileSync("deploy/proxy/nginx.conf", "utf8")
      .replace("server 127.0.0.1:8080", `server ${new URL(coordinator.url).host}`)
      .replace("listen 443 ssl", `listen 127.0.0.1:${port} ssl`)
      .replace("train.example.org", "localhost")
      .replace("/etc/ssl/manyhands/fullchain.pem", certificate)
      .replace("/etc/ssl/manyhands/privkey.pem", key);
    const withoutUpgrade = `server { listen 127.0.0.1:${stripped}; location / { proxy_pass http://manyhands; } }`;
    mkdirSync(join(dir, "nginx"));
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${dir}/nginx/${name};`); // prettier-ignore
    const file = join(dir, "nginx.conf");
    writeFileSync(file, `user root; daemon off; pid ${dir}/nginx/pid; error_log ${dir}/nginx/error.log;\nevents {}\nhttp { access_log off; ${paths.join(" ")}\n${site}\n${withoutUpgrade}\n}\n`); // prettier-ignore
    processes.push(spawn("nginx", ["-c", file, "-e", join(dir, "nginx/error.log")], { stdio: "ignore" }));
    await until(async () => (await fetch(`http://127.0.0.1:${stripped}/healthz`)).ok);
    await trainsThrough(`https://localhost:${port}`, "through-nginx", certificate);

    const worker = spawnWorker(`http://127.0.0.1:${stripped}`, "stripped", "");
    const said = await new Promise<string>((done) =>
      worker.stdout?.on("data", (data: Buffer) => data.includes("offline") && done(data.toString())),
    );
    expect(said).toContain("removes the Upgrade header: let it pass Upgrade and Connection");
  },
);

async function trainsThrough(url: string, name: string, certificate: string): Promise<void> {
  const worker = spawnWorker(url, name, certificate);
  await coordinator.until(({ workers }) => workers.some((one) => one.name === name && one.tokens > 0));
  const exit = new Promise((done) => worker.once("exit", done));
  worker.kill("SIGTERM");
  expect(await exit).toBe(0);
}

function spawnWorker(url: string, name: string, certificate: string): ChildProcess {
  const environment = { ...process.env, NODE_EXTRA_CA_CERTS: certificate, MANYHANDS_TOKEN: token };
  const child = spawn(process.execPath, [workerMain, "--url", url, "--name", name], {
    env: environment,
    stdio: ["ignore", "pipe", "ignore"],
  });
  processes.push(child);
  return child;
}

function proxyTest(program: string, name: string, body: () => Promise<void>): void {
  const missing = `no ${program} (Debian: apt-get install ${program === "nginx" ? "nginx-light" : program})`;
  try {
    execFileSync("which", [program], { stdio: "ignore" });
  } catch {
    if (process.env["CI"] === "true") throw new Error(missing);
    test(name, (context) => context.skip(missing));
    return;
  }
  test(name, body);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** A condition that may throw while what it asks for is not there yet. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 150; attempt++) {
    if (await condition().catch(() => false)) return;
    await new Promise((done) => setTimeout(done, 200));
  }
  throw new Error("not within half a minute");
}
