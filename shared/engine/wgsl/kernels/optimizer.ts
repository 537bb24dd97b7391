/**
 * @file Optimizer kernels over the flat arenas: ‖g‖² in one dispatch, AdamW or Nesterov in another. Elementwise over [P], padding
 * included: there gradients are 0 and nothing moves.
 */
import type { Kernel } from "./kernel.ts";
import { byTree, inARow, sumOf } from "./kernel.ts";
import type { OptimizerStep } from "../optimizer.ts";

const THREADS = 256;

/** Partial sums: few enough that each workgroup of the next kernel adds them up itself, in one read. */
export const NORM_GROUPS = 256;

/** The decay flag of 32 blocks of 256 elements in a word: slots start at multiples of 256, so a block has one flag. */
export const DECAY_BLOCK = 256;

export type ArenaKernel = Pick<Kernel, "wgsl" | "workgroups">;

/** Bindings: g [P] → sums [NORM_GROUPS], Σ g² over every 256th stretch. */
export function squaredNormKernel(length: number): ArenaKernel {
  return {
    workgroups: [NORM_GROUPS, 1, 1],
    wgsl: `@group(0) @binding(0) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
${byTree(THREADS, sumOf("f32"))}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  var own = 0.0f;
  for (var i = group.x * ${THREADS}u + lane; i < ${length / 4}u; i += ${THREADS * NORM_GROUPS}u) {
    own += dot(g[i], g[i]);
  }
  let sum = reduce(lane, own);
  if (lane == 0u) { sums[group.x] = sum; }
}`,
  };
}

const STEP = `struct Step {
  learningRate: f32, beta1: f32, beta2: f32, epsilon: f32,
  weightDecay: f32, correction1: f32, correction2: f32, gradientScale: f32,
  clipNorm: f32, momentum: f32, segments: u32, unused: u32,
}`;

/** The clip factor from the partial sums of every segment of the arena: min(1, clipNorm/(‖g‖·scale + 1e-6)). */
const CLIP = `fn clipFactor(lane: u32) -> f32 {
  var own = 0.0f;
  for (var i = lane; i < step.segments * ${NORM_GROUPS}u; i += ${THREADS}u) { own += sums[i]; }
  let norm = sqrt(reduce(lane, own)) * step.gradientScale;
  return select(1.0f, min(1.0f, step.clipNorm / (norm + 1e-6f)), step.clipNorm > 0.0f);
}`;

/**
 * One AdamW step as shared/numerics/adamw.ts has it, in f32, after clipping. Bindings: step (uniform), g, sums, p, m, v [P], decay
 * [P/256/32] bits.
 */
export function adamwKernel(length: number): ArenaKernel {
  return stepKernel(length, {
    state: ["m: array<vec4<f32>>", "v: array<vec4<f32>>", "decay: array<u32>"],
    body: `let first = step.beta1 * m[i] + (1.0f - step.beta1) * gradient;
  let second = step.beta2 * v[i] + (1.0f - step.beta2) * gradient * gradient;
  m[i] = first;
  v[i] = second;
  let block = i / ${DECAY_BLOCK / 4}u;
  let decays = (decay[block / 32u] >> (block % 32u)) & 1u;
  let keep = 1.0f - step.learningRate * step.weightDecay * f32(decays);
  p[i] = p[i] * keep - step.learningRate * first * step.correction1 / (sqrt(second * step.correction2) + step.epsilon);`,
  });
}

/** v ← μ·v + g' ; p ← p − lr·(g' + μ·v): DiLoCo's outer step (Douillard et al., 2311.08105). Bindings: step, g, sums, p, v. */
export function nesterovKernel(length: number): ArenaKernel {
  return stepKernel(length, {
    state: ["v: array<vec4<f32>>"],
    body: `let velocity = step.momentum * v[i] + gradient;
  v[i] = velocity;
  p[i] -= step.learningRate * (gradient + step.momentum * velocity);`,
  });
}

/** What an optimizer does to four elements i of p, given their clipped `gradient`; `state`: its arrays, as WGSL declares them. */
function stepKernel(length: number, { state, body }: { state: readonly string[]; body: string }): ArenaKernel {
  const { workgroups, at } = inARow(Math.ceil(length / 4 / THREADS));
  const arrays = ["g: array<vec4<f32>>", "sums: array<f32>", "p: array<vec4<f32>>", ...state];
  return {
    workgroups,
    wgsl: `${STEP}
@group(0) @binding(0) var<uniform> step: Step;
${arrays.map((array, i) => `@group(0) @binding(${i + 1}) var<storage, read_write> ${array};`).join("\n")}
${byTree(THREADS, sumOf("f32"))}
${CLIP}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let factor = clipFactor(lane) * step.gradientScale;
  let i = ${at} * ${THREADS}u + lane;
  if (i >= ${length / 4}u) { return; }
  let gradient = g[i] * factor;
  ${body}
}`,
  };
}

/** The struct `Step` of the kernels above, as 48 bytes. */
export function stepUniform(step: OptimizerStep, segments: number): ArrayBuffer {
  const words = new ArrayBuffer(48);
  const { learningRate, gradientScale, clipNorm } = step;
  const adam = step.kind === "adamw";
  new Float32Array(words).set([
    learningRate,
    adam ? step.beta1 : 0,
    adam ? step.beta2 : 0,
    adam ? step.epsilon : 0,
    adam ? step.weightDecay : 0,
    adam ? 1 / (1 - step.beta1 ** step.step) : 0,
    adam ? 1 / (1 - step.beta2 ** step.step) : 0,
    gradientScale,
    clipNorm,
    adam ? 0 : step.momentum,
  ]);
  new Uint32Array(words)[10] = segments;
  return words;
}
