import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { gpuTest } from "../../support/dawn.ts";

const program = resolve(import.meta.dirname, "../../../worker-node/explain.ts");

function explain(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, [program, ...args], { maxBuffer: 2 ** 24 });
}

test("the plan of a preset: a line for each dispatch, and how many there are", async () => {
  const { stdout } = await explain("--preset", "tiny");
  const [, count] = /^(\d+) dispatches$/m.exec(stdout) ?? [];
  expect(stdout.match(/^ +\d+ +\d+ {2}\w/gm)).toHaveLength(Number(count));
  expect(stdout).toContain("MiB is the most alive at once");
  const [, gflop, megabytes] = /^([\d.]+) GFLOP, (\d+) MB moved at least$/m.exec(stdout) ?? [];
  const opByOp = /^tfjs, op by op: (\d+) dispatches, ([\d.]+) GFLOP, (\d+) MB moved at least$/m.exec(stdout) ?? [];
  expect(Number(opByOp[1])).toBeGreaterThan(4 * Number(count));
  // The same products: it computes the attention of tokens to later ones too, and has an op for what is fused.
  expect(Number(opByOp[2]) / Number(gflop)).toBeGreaterThan(1);
  expect(Number(opByOp[2]) / Number(gflop)).toBeLessThan(1.2);
  expect(Number(opByOp[3])).toBeGreaterThan(3 * Number(megabytes));
});

test("a preset that does not exist is one line and exit code 2", async () => {
  await expect(explain("--preset", "huge")).rejects.toMatchObject({ code: 2, stderr: expect.stringMatching(/^error: .*huge.*\n$/) }); // prettier-ignore
});

gpuTest("measured: every kernel has a time, and their kinds add up", async () => {
  const { stdout } = await explain("--preset", "tiny", "--batch", "1", "--measure");
  const rows = stdout.slice(stdout.indexOf("dispatches         ms")).split("\n").slice(1);
  const kinds = rows.filter((row) => row.includes("%")).map((row) => row.trim().split(/ +/));
  expect(kinds.map(([name]) => name)).toEqual(expect.arrayContaining(["matMul", "attention", "layerNorm"]));
  const sum = kinds.reduce((total, [, , ms]) => total + Number(ms), 0);
  expect(sum).toBeGreaterThan(0);
  expect(Number(/^ {2}([\d.]+) ms,/m.exec(stdout)?.[1])).toBeCloseTo(sum, 1);
});
