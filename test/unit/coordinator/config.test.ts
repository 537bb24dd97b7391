import { expect, test } from "vitest";
import { parseArguments } from "../../../coordinator/settings/config.ts";
import { OperatorError } from "../../../shared/operatorError.ts";

const values = (...argv: string[]): Record<string, unknown> =>
  Object.fromEntries(Array.from(parseArguments(argv).given, ([path, { value }]) => [path, value]));

test("flags become settings of their types", () => {
  const command =
    "--text a.txt b.txt --preset small --tokenizer bpe:2000 --steps 1e3 --batch 16 --workers 0 --port 0 " +
    "--host 0.0.0.0 --codec i8 --no-strict --run 1790 --seed 7 --learning-rate 6e-4 --evaluation-samples all --bias";
  expect(values(...command.split(" "))).toEqual({
    "data.text": ["a.txt", "b.txt"],
    "model.preset": "small",
    "data.tokenizer": "bpe:2000",
    steps: 1000,
    batch: 16,
    workers: 0,
    port: 0,
    host: "0.0.0.0",
    codec: "i8",
    strict: false,
    name: "1790",
    seed: 7,
    "optimizer.learningRate": 6e-4,
    "evaluation.samples": "all",
    "model.bias": true,
  });
});

test("nothing given is nothing set, and --config is kept for later", () => {
  expect(values()).toEqual({});
  expect(parseArguments(["--config", "some.yaml"]).configFile).toBe("some.yaml");
});

test("a wrong flag is one line: the flag, its value, what is allowed", () => {
  const cases: [string[], string | RegExp][] = [
    [["--stepz", "3"], "unknown flag '--stepz' (Did you mean --steps?); npm start -- --help lists the flags"],
    [["--steps"], /^option '--steps <n>' argument missing/],
    [["--steps", "abc"], "--steps abc: must be a whole number from 1 to 1000000000"],
    [["--steps", "-5"], "--steps -5: must be a whole number from 1 to 1000000000"],
    [["--steps", "2.5"], /^--steps 2.5: must be a whole number/],
    [["--steps", ""], '--steps "": must be a whole number from 1 to 1000000000'],
    [["--steps", "[1]"], /^--steps \[1\]: must be/],
    [["--port", "65536"], "--port 65536: must be a whole number from 0 to 65535"],
    [["--preset", "huge"], "--preset huge: must be one of tiny, small, gpt2, gpt2-medium, gpt2-large, gpt2-xl"],
    [["--codec", "f16"], "--codec f16: must be one of f32, i8, i4"],
    [["--tokenizer", "bpe:99"], /^--tokenizer bpe:99: must be char, bpe:N with N from 257 to 65535/],
    [["--tokenizer", "bpe:65536"], /^--tokenizer bpe:65536: must be/],
    [["--run", "../x"], /^--run \.\.\/x: must be 1 to 64 letters/],
    [["--host", "a b"], "--host a b: must be a host name or an IP address"],
    [["--beta2", "1"], "--beta2 1: must be a number from 0 to below 1"],
    [["--learning-rate", "0"], "--learning-rate 0: must be a number above 0"],
    [["--dropout", "nan"], /^--dropout nan: must be a number/],
    [["--evaluation-samples", "some"], '--evaluation-samples some: must be a whole number from 1, or "all"'],
    [
      ["--admin-token", "too-short"],
      "--admin-token (not shown): must be 16 to 200 printable characters without spaces",
    ],
    [["--trust-proxy", "10.0.0.0/33"], "--trust-proxy 10.0.0.0/33: must be one or more IP addresses or networks such as 10.0.0.0/8"], // prettier-ignore
    [["--origin", "https://a.example/"], /^--origin https:\/\/a.example\/: must be one or more origins/],
    [["--workers-per-address", "0"], "--workers-per-address 0: must be a whole number from 1 to 100000"],
    [["extra"], /too many arguments/],
  ];
  for (const [argv, message] of cases) {
    expect(() => parseArguments(argv), argv.join(" ")).toThrow(message);
    expect(() => parseArguments(argv), argv.join(" ")).toThrow(OperatorError);
    expect(() => parseArguments(argv), argv.join(" ")).not.toThrow(/\n/);
  }
});
