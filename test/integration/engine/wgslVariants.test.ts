/** @file What a step may use beyond plain WebGPU: the same gradients as ONNX Runtime, planted bugs, and who gets it. */
import { afterAll, describe, expect, vi } from "vitest";
import { stepGraph } from "../../../shared/engine/stepGraph.ts";
import { limitsOf } from "../../../shared/engine/wgsl/device.ts";
import type { WgslEngine } from "../../../shared/engine/wgsl/engine.ts";
import { compile, type Plan, type PlanLimits } from "../../../shared/engine/wgsl/plan.ts";
import { chooseVariant } from "../../../shared/engine/wgsl/selfTest.ts";
import { PLAIN, type Storage, type Variant } from "../../../shared/engine/wgsl/variant.ts";
import { createEngineOn } from "../../../worker-node/webgpuEngine.ts";
import { gpuTest, testDevice } from "../../support/dawn.ts";
import { type EngineCase, engineCase, engineCases } from "../../support/engineCases.ts";
import { errorOf, reference, resultOf, withBug } from "../../support/wgslResults.ts";

const small = { kind: "gpt", layers: 1, heads: 1, bias: false, dropout: 0 } as const;
const compiled = new Map<string, GPUComputePipeline>();
afterAll(() => compiled.clear());

const withSubgroups: Variant = { ...PLAIN, subgroups: true };

/** Whether the variant finds ONNX Runtime's gradients, and the second time every bit. `limit`: bytes of the largest binding. */
async function agrees(given: EngineCase, variant: Variant, limit?: number): Promise<void> {
  const { spec, layout } = given;
  const opened = await testDevice();
  const limits: PlanLimits = { ...limitsOf(opened.device), ...(limit !== undefined && { maxBindingBytes: limit }) };
  const create = () => createEngineOn(opened, { spec, layout, limits, compiled, variant });
  const found = await resultOf(await create(), given);
  expect(errorOf(found, await reference(given))).toBeLessThan(1e-5);
  expect(await resultOf(await create(), given)).toEqual(found);
}

type Bug = { readonly kernel: string; readonly from: string; readonly to: string };

async function isCaught(variant: Variant, { kernel, from, to }: Bug): Promise<void> {
  const given = engineCases[1]!;
  const { spec, layout, batch } = given;
  const opened = await testDevice();
  const graph = stepGraph("gradient", spec, layout, batch.batchSize);
  const options = { layout, limits: limitsOf(opened.device), dropout: spec.dropout, variant };
  const plan = withBug(compile(graph, options), kernel, from, to);
  const engine = await createEngineOn(opened, { spec, layout, compiled, planFor: () => plan });
  // Negated, so that NaN counts as caught.
  expect(errorOf(await resultOf(engine, given), await reference(given)) < 1e-3).toBe(false);
}

describe("sums by subgroups", () => {
  const cases: readonly { given: EngineCase; limit?: number }[] = [
    { given: engineCases[1]! },
    {
      given: engineCase(
        "rows wider than a workgroup",
        { ...small, heads: 7, width: 259, context: 3, vocabulary: 1100 },
        1,
      ),
    },
    { given: engineCase("vocabulary in chunks", { ...small, width: 12, context: 9, vocabulary: 200 }, 3), limit: 64 * 4 * 30 }, // prettier-ignore
  ];
  for (const { given, limit } of cases) {
    gpuTest(`${given.name}: the gradients of ONNX Runtime; the second time every bit`, () =>
      agrees(given, withSubgroups, limit),
    );
  }

  const bugs = [
    { kernel: "layerNorm ", from: "select(f32(), own, rank == 0u)", to: "select(f32(), own, rank <= 1u)" },
    { kernel: "layerNormGrad", from: "return subgroupAdd(all)", to: "return all" },
    { kernel: "crossEntropy", from: "subgroupMax(own.x)", to: "own.x" },
    { kernel: "columnSum", from: "first += together", to: "first += 2u * together" },
  ];
  for (const bug of bugs) {
    gpuTest(`a planted bug in ${bug.kernel.trim()} is caught`, () => isCaught(withSubgroups, bug));
  }
});

const alone: Variant = { ...PLAIN, alone: true };

describe("threads alone", () => {
  const cases: readonly EngineCase[] = [
    engineCases[1]!,
    engineCases[4]!,
    engineCase("nothing is a multiple of four", { ...small, heads: 3, width: 33, context: 37, vocabulary: 7, bias: true }, 3), // prettier-ignore
    engineCase("whole groups of rows and columns", { ...small, heads: 2, width: 64, context: 64, vocabulary: 64, bias: true, dropout: 0.1 }, 1), // prettier-ignore
  ];
  for (const given of cases) {
    gpuTest(`${given.name}: the gradients of ONNX Runtime; the second time every bit`, () => agrees(given, alone));
  }

  const bugs = [
    { kernel: "matMul", from: "k += 4u", to: "k += 8u" },
    { kernel: "matMul", from: "a1[2] * b2", to: "a1[2] * b3" },
    { kernel: "matMul", from: "a2_0[1] * b2", to: "a2_0[0] * b2" },
    { kernel: "matMul", from: "dot(a1, b3)", to: "dot(a1, b2)" },
    { kernel: "layerNorm ", from: "let lane = 0u", to: "let lane = 1u" },
    { kernel: "layerNormGrad", from: "let lane = 0u", to: "let lane = 1u" },
    { kernel: "crossEntropy", from: "let lane = 0u", to: "let lane = 1u" },
    { kernel: "columnSum", from: "row += 1u", to: "row += 2u" },
  ];
  for (const bug of bugs) {
    gpuTest(`a planted bug in ${bug.kernel.trim()} (${bug.to}) is caught`, () => isCaught(alone, bug));
  }

  gpuTest("are what a software adapter gets, without being asked for a step", async () => {
    const opened = await testDevice();
    const create = vi.fn<() => Promise<WgslEngine>>();
    const { spec, layout } = engineCases[0]!;
    const choice = await chooseVariant({
      opened: { ...opened, isSoftware: true },
      create,
      spec,
      layout,
      batchSize: 2,
      storage: "f16",
    });
    expect(choice).toEqual({ variant: alone, refused: [] });
    expect(create).not.toHaveBeenCalled();
  });
});

describe("the self-test", () => {
  const { spec, layout } = engineCases[0]!;

  async function choiceWith(change: (plan: Plan) => Plan, storage: Storage = "f32"): ReturnType<typeof chooseVariant> {
    const opened = await testDevice();
    const limits = limitsOf(opened.device);
    const create = (variant: Variant): Promise<WgslEngine> =>
      createEngineOn(opened, {
        spec,
        layout,
        compiled,
        planFor: (kind, batchSize) => {
          const plan = compile(stepGraph(kind, spec, layout, batchSize), { layout, limits, dropout: 0, variant });
          return variant === PLAIN ? plan : change(plan);
        },
      });
    // As if the adapter were a GPU: software is not asked.
    return chooseVariant({
      opened: { ...opened, isSoftware: false },
      create,
      spec,
      layout,
      batchSize: 2,
      storage,
    });
  }

  gpuTest("takes subgroups where the device has them", async () => {
    expect((await testDevice()).device.features.has("subgroups")).toBe(true);
    expect(await choiceWith((plan) => plan)).toEqual({ variant: withSubgroups, refused: [] });
  });

  gpuTest("says of a device without f16 that it has none, where the run allows f16", async () => {
    const has = (await testDevice()).device.features.has("shader-f16");
    const { refused } = await choiceWith((plan) => plan, "f16");
    expect(refused).toEqual(has ? [] : ["its 16-bit floats: it has none"]);
  });

  gpuTest("stays plain where they compute wrong numbers, and says which", async () => {
    const choice = await choiceWith((plan) => withBug(plan, "layerNorm ", "return subgroupAdd(all)", "return all"));
    expect(choice.variant).toEqual(PLAIN);
    expect(choice.refused).toEqual([expect.stringMatching(/^its subgroups: the loss is off by .+ \(relative\)$/)]);
  });

  gpuTest("stays plain where they do not compile, or the device complains, which does not end its use", async () => {
    const opened = await testDevice();
    const broken = await choiceWith((plan) => withBug(plan, "layerNorm ", "subgroupAdd(1u)", "subgroupAdd()"));
    expect(broken.variant).toEqual(PLAIN);
    expect(broken.refused[0]).toMatch(/^its subgroups: kernel "layerNorm .+" does not compile/);
    const tooMany = opened.device.limits.maxComputeWorkgroupsPerDimension + 1;
    const complained = await choiceWith((plan) => {
      const dispatches = plan.dispatches.map((dispatch) => ({ ...dispatch, workgroups: [tooMany, 1, 1] as const }));
      return { ...plan, dispatches };
    });
    expect(complained.variant).toEqual(PLAIN);
    expect(complained.refused).toHaveLength(1);
    expect(opened.fault()).toBeNull();
  });
});
