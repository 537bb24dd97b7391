import { describe, expect, test } from "vitest";
import { compile, DEFAULT_LIMITS, type Plan } from "../../../../shared/engine/wgsl/plan.ts";
import { PLAIN, type Variant } from "../../../../shared/engine/wgsl/variant.ts";
import { stepGraph } from "../../../../shared/engine/stepGraph.ts";
import { gptTensors } from "../../../../shared/model/gptTensors.ts";
import { type ModelSpec, type Preset, presets } from "../../../../shared/model/spec.ts";
import { layoutOf } from "../../../../shared/numerics/layout.ts";

function planOf(preset: Preset, vocabulary: number, batchSize: number, dropout = 0, variant: Variant = PLAIN): Plan {
  const spec: ModelSpec = { kind: "gpt", ...presets[preset], vocabulary, dropout };
  const layout = layoutOf(gptTensors(spec));
  return compile(stepGraph("gradient", spec, layout, batchSize), { layout, limits: DEFAULT_LIMITS, dropout, variant });
}

const total = (numbers: readonly number[]) => numbers.reduce((sum, number) => sum + number, 0);

describe.each([
  { preset: "tiny", batchSize: 12, most: 95, pipelines: 27 },
  { preset: "small", batchSize: 8, most: 137, pipelines: 27 },
] as const)("$preset", ({ preset, batchSize, most, pipelines }) => {
  const plan = planOf(preset, 65, batchSize);

  test("has no more dispatches and pipelines than it had", () => {
    expect(plan.dispatches.length).toBe(most);
    expect(plan.pipelines.length).toBe(pipelines);
  });

  test("needs at most 1.15 of the memory that no plan can do without", () => {
    expect(total(plan.activationBytes) / plan.lowerBoundBytes).toBeLessThanOrEqual(1.15);
  });

  test("is data: it survives JSON", () => {
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });
});

/** Bindings of what is not the plan's own memory, by dispatch. */
function fixed({ dispatches }: Plan): unknown {
  return dispatches.map(({ bindings }) => bindings.filter(({ arena }) => arena !== "activations"));
}

test("small moves at most 1.5 times the bytes of a fused step counted by hand", () => {
  const { layers, width: d, heads, context: T } = presets.small;
  const [B, V] = [8, 65];
  const N = B * T;
  const [row, weights, statistics, perHead] = [N * d, 12 * d * d, 2 * N, B * heads * T];
  // In units of one float, each tensor once per kernel that cannot do without it.
  const forward =
    2 * (2 * row + statistics) + // two norms: x in, y out
    (row + 3 * row) + // qkv
    (3 * row + row + perHead) + // attention
    (row + row + row) + // projection: in, residual, out
    (row + 4 * row + 4 * row) + // first layer of the MLP: input of GELU and output of GELU
    (4 * row + row + row) + // second layer: in, residual, out
    weights;
  const backward =
    weights + // dx of the four products reads them
    weights + // and their gradients are written
    (row + 4 * row + 4 * row) + // dy in, GELU's input in, its gradient out
    (4 * row + row) + // dW of the second layer
    (4 * row + row) + // dx of the first
    (row + 4 * row) + // dW of the first
    (row + row) + // dx of the projection
    (row + row) + // its dW
    (3 * row + row + row + 2 * perHead + row) + // queries' pass: qkv, dy, out; dq
    (3 * row + row + 2 * perHead + 2 * row) + // keys' pass: qkv, dy; dk, dv
    (3 * row + row) + // dx of qkv
    (row + 3 * row) + // its dW
    2 * (row + row + row + row + statistics); // norms: dy, x, residual in; dx out
  const logits = N * V;
  const ends =
    3 * row + // embedding; final norm
    (row + logits) +
    2 * logits +
    (logits + row) +
    (logits + row) + // head, loss, dx, dW
    3 * row + // final norm's gradient
    2 * row; // gradients of positions and tokens
  const minimum = 4 * (layers * (forward + backward) + ends);
  const planned = total(planOf("small", V, B).dispatches.map(({ bytes }) => bytes));
  expect(planned / minimum).toBeLessThanOrEqual(1.5);
  expect(planned / minimum).toBeGreaterThanOrEqual(1);
});

test.each([65, 1024])(
  "threads alone, vocabulary %d: what a batch of 4 compiles, a batch of 12 does not compile again",
  (vocabulary) => {
    const variant = { ...PLAIN, alone: true };
    const compiled = new Set(planOf("tiny", vocabulary, 4, 0, variant).pipelines);
    const { pipelines, dispatches } = planOf("tiny", vocabulary, 12, 0, variant);
    const again = dispatches.filter(({ pipeline }) => !compiled.has(pipelines[pipeline] ?? ""));
    // Their loops are as long as the batch; they compile in no time.
    for (const { name } of again) expect(name).toMatch(/^(columnSum|embeddingGrad) /);
  },
);

describe("activations as f16", () => {
  const whole = planOf("tiny", 65, 12);
  const half = planOf("tiny", 65, 12, 0, { ...PLAIN, storage: "f16" });

  test("take half the memory and half the bytes moved, as far as they are activations", () => {
    expect(total(half.activationBytes) / total(whole.activationBytes)).toBeLessThan(0.52);
    expect(total(half.dispatches.map(({ bytes }) => bytes))).toBeLessThan(0.55 * total(whole.dispatches.map(({ bytes }) => bytes))); // prettier-ignore
    expect(half.dispatches.map(({ name }) => name)).toEqual(whole.dispatches.map(({ name }) => name));
  });

  test("parameters, gradients and inputs lie where they lay", () => {
    expect(fixed(half)).toEqual(fixed(whole));
    expect(half.outputs).toEqual(whole.outputs);
  });

  test("a plan without variants knows nothing of them", () => {
    for (const code of whole.pipelines) expect(code).not.toMatch(/enable|f16|subgroup/);
    expect(half.pipelines.some((code) => code.startsWith("enable f16;"))).toBe(true);
  });
});

test("GPT-2 at 1×1024 keeps to WebGPU's default limits and fits 8 GB with AdamW's state", () => {
  const plan = planOf("gpt2", 50_257, 1);
  for (const { bindings } of plan.dispatches) {
    for (const { bytes, offset } of bindings) {
      expect(bytes).toBeLessThanOrEqual(DEFAULT_LIMITS.maxBindingBytes);
      expect(offset % 256).toBe(0);
    }
    expect(bindings.length).toBeLessThanOrEqual(DEFAULT_LIMITS.maxBindings);
  }
  for (const bytes of plan.activationBytes) expect(bytes).toBeLessThanOrEqual(DEFAULT_LIMITS.maxBufferBytes);
  const { length } = layoutOf(gptTensors({ kind: "gpt", ...presets.gpt2, vocabulary: 50_257, dropout: 0 }));
  expect(total(plan.activationBytes) + 4 * 4 * length).toBeLessThan(8e9);
  expect(total(plan.activationBytes) / plan.lowerBoundBytes).toBeLessThanOrEqual(1.15);
});

test("bindings of one dispatch that share a buffer do not overlap: WebGPU refuses that", () => {
  for (const { bindings } of planOf("tiny", 67, 3, 0.1).dispatches) {
    for (const [i, a] of bindings.entries()) {
      for (const b of bindings.slice(i + 1)) {
        const apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
        expect(apart || a.arena !== b.arena || a.buffer !== b.buffer).toBe(true);
      }
    }
  }
});
