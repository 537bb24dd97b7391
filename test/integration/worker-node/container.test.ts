/** @file What a Node worker offers to whoever runs it as a service: health, structured logs, one-line diagnoses. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { afterEach, expect, test } from "vitest";

const main = resolve(import.meta.dirname, "../../../worker-node/main.ts");
let cleanUp: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of cleanUp.toReversed()) await step();
  cleanUp = [];
});

test("a proxy that removes Upgrade is named, and the worker stays alive and not ready", async () => {
  // Forwards what it is asked, as plain HTTP: what a proxy does that was not told about WebSockets.
  const coordinator = createServer((_, response) => response.writeHead(426, { Upgrade: "websocket" }).end());
  const upstream = await listen(coordinator);
  const proxy = createServer((incoming, response) => {
    const { connection: _, upgrade: __, ...headers } = incoming.headers;
    const outgoing = request({ port: upstream, path: incoming.url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500);
      answer.pipe(response);
    });
    incoming.pipe(outgoing);
  });
  // Node would not call the request handler for an upgrade as long as somebody listens for those.
  const port = await listen(proxy);
  const worker = start(["--url", `http://127.0.0.1:${port}`, "--log", "json", "--health-port", "0"]);

  const { port: health } = JSON.parse(await worker.untilLine((text) => text.includes("health"))) as { port: number };
  const line = await worker.untilLine((text) => text.includes("removes the Upgrade header"));
  const { time, ...rest } = JSON.parse(line) as Record<string, unknown>;
  expect(rest).toMatchObject({ level: "info", program: "worker", phase: "offline" });
  expect(Number.isNaN(Date.parse(String(time)))).toBe(false);
  expect((await fetch(`http://127.0.0.1:${health}/healthz`)).status).toBe(200);
  const ready = await fetch(`http://127.0.0.1:${health}/readyz`);
  expect(ready.status).toBe(503);
  expect(await ready.text()).toMatch(/^(offline|connecting)/);
  expect((await fetch(`http://127.0.0.1:${health}/else`)).status).toBe(404);
  worker.child.kill("SIGTERM");
  expect(await worker.exit).toBe(0);
});

test("a coordinator that is not there is waited for, less and less often", async () => {
  const unused = createServer();
  const port = await listen(unused);
  unused.close();
  const worker = start(["--url", `http://127.0.0.1:${port}`, "--log", "json"]);
  const times: number[] = [];
  for (let attempt = 0; attempt < 4; attempt++) {
    const line = await worker.untilLine((text) => text.includes("nothing listens at"));
    times.push(Date.parse((JSON.parse(line) as { time: string }).time));
  }
  const gaps = times.slice(1).map((time, index) => time - times[index]!);
  // Half to all of 250, 500, 1000 ms, and what starting takes on a busy machine.
  expect(gaps[0]).toBeGreaterThan(120);
  expect(gaps[2]).toBeGreaterThan(490);
});

test("a health port that is taken ends the worker with one line and exit code 2", async () => {
  const port = await listen(createServer());
  const worker = start(["--url", "http://127.0.0.1:9", "--health-port", String(port)]);
  expect(await worker.exit).toBe(2);
  expect(worker.stderr()).toMatch(new RegExp(`^error: --health-port ${port}: .*must be a free port\n$`));
});

async function listen(server: ReturnType<typeof createServer>): Promise<number> {
  server.listen(0);
  await once(server, "listening");
  cleanUp.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

type Started = {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  readonly stderr: () => string;
  /** The next line on stdout that fits. */
  readonly untilLine: (fits: (text: string) => boolean) => Promise<string>;
};

function start(flags: readonly string[]): Started {
  const child = spawn(process.execPath, [main, ...flags], { stdio: ["ignore", "pipe", "pipe"] });
  let [stderr, rest] = ["", ""];
  const lines: string[] = [];
  let wake: (() => void) | null = null;
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  child.stdout.on("data", (data: Buffer) => {
    const parts = (rest + data.toString()).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
    wake?.();
  });
  const exit = once(child, "exit").then(([code]) => code as number | null);
  cleanUp.push(() => child.kill("SIGKILL"));
  return {
    child,
    exit,
    stderr: () => stderr,
    async untilLine(fits) {
      for (;;) {
        const line = lines.shift();
        if (line === undefined) {
          await Promise.race([
            new Promise<void>((woken) => (wake = woken)),
            exit.then((code) => Promise.reject(new Error(`the worker ended with ${code}: ${stderr}`))),
          ]);
        } else if (fits(line)) return line;
      }
    },
  };
}
