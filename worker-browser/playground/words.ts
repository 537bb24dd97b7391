/** @file What the playground says, in each language. */
import { fixed, percent } from "../pages/format.ts";
import { language, type Translated } from "../pages/language.ts";
import type { HeadSummary } from "./headSummary.ts";

const en = {
  title: "See the model",
  about:
    "Write with the model of this run, and see what it attends to. It is computed in this page; nothing you type is sent anywhere.",
  checkpoint: "Version of the model",
  compare: "Compare with",
  nobody: "no other version",
  step: (version: number) => `step ${version}`,
  newest: "newest",
  validation: (loss: number | null): string =>
    loss === null ? "not evaluated yet" : `validation loss ${fixed(loss, 3)}`,
  loading: (version: number) => `Loading step ${version}…`,
  computedBy: (backend: string, device: string, isCompiled: boolean) =>
    `Computed by ${backend}${isCompiled ? ", text by its compiled step" : ""} (${device}).`,
  notCompiled: (reason: string) => `Text is computed op by op; the compiled step is not used: ${reason}`,
  fallback: (backend: string, reason: string) => `${backend} is not used: ${reason}`,
  unreachable: "The coordinator does not answer. Trying again…",
  refresh: "Look for newer versions",
  write: {
    title: "Write",
    prompt: "Prompt",
    templates: "Templates",
    zero: "Zero-shot",
    one: "One-shot",
    few: "Few-shot",
    templateHint: "A small model has seen little: take the templates as experiments, not as questions to an oracle.",
    temperature: "Temperature",
    topK: "Top-k",
    topP: "Top-p",
    seed: "Seed",
    tokens: "Tokens",
    anySeed: "Another seed",
    go: "Write",
    stop: "Stop",
    output: "What it writes",
    hint: "Point at a token, or use the arrow keys, to see what else it thought of. Pale: expected; strong: surprising.",
    alternatives: (label: string) => `In place of ${label}`,
    token: "Token",
    probability: "Probability",
    tokenLabel: (label: string, p: number) => `${label}, ${percent(p)}`,
  },
  attention: {
    title: "Attention",
    about:
      "Each head looks back at the text in its own way. Rows are layers, columns are heads; in a map each row is a token and each column what it looks at.",
    text: "Text to look at",
    use: "Take the text above",
    look: "Look",
    overview: (version: number) => `All heads at step ${version}`,
    headName: (layer: number, head: number) => `Layer ${layer + 1}, head ${head + 1}`,
    kind: ({ self, previous, first, spread }: HeadSummary): string => {
      const most = Math.max(self, previous, first);
      if (most < 0.35) return `spread over about ${Math.round(spread)} tokens`;
      if (most === previous) return `mostly the token before (${percent(previous)})`;
      return most === self
        ? `mostly the token itself (${percent(self)})`
        : `mostly the first token (${percent(first)})`;
    },
    numbers: ({ self, previous, first, distance, spread }: HeadSummary) =>
      `itself ${percent(self)}, the one before ${percent(previous)}, the first ${percent(first)}; ${fixed(distance, 1)} tokens back on average, spread over ${fixed(spread, 1)}`,
    lines: "Lines from each token (right) to those it looks at (left)",
    map: "Heat map",
    table: "The same as a table",
    query: "Token",
    looksAt: "Looks at",
    none: "Choose a text and press Look.",
    cell: (query: string, key: string, p: number) => `${query} → ${key}: ${percent(p)}`,
  },
  map: {
    title: "Words as a map",
    about: "Tokens that the model uses alike have vectors that point the same way.",
    token: "Token or word",
    near: "Neighbours",
    of: (token: string) => `Nearest to ${token}`,
    analogy: "Analogy",
    a: "a",
    b: "b",
    c: "c",
    analogyHint: "a is to b as c is to …",
    go: "Find",
    result: (a: string, b: string, c: string) => `${a} is to ${b} as ${c} is to`,
    similarity: "Similarity",
  },
};

export type Words = typeof en;

const zh: Words = {
  title: "看模型",
  about: "用这次训练的模型写作，看看它在关注什么。计算就在本页进行，输入的内容不会发送到任何地方。",
  checkpoint: "模型版本",
  compare: "对比",
  nobody: "不对比",
  step: (version) => `第 ${version} 步`,
  newest: "最新",
  validation: (loss) => (loss === null ? "尚未评估" : `验证损失 ${fixed(loss, 3)}`),
  loading: (version) => `正在加载第 ${version} 步……`,
  computedBy: (backend, device, isCompiled) =>
    `由 ${backend} 计算${isCompiled ? "，文字由编译后的步骤生成" : ""}（${device}）。`,
  notCompiled: (reason) => `文字逐个算子计算；未使用编译后的步骤：${reason}`,
  fallback: (backend, reason) => `未使用 ${backend}：${reason}`,
  unreachable: "协调器没有回应，正在重试……",
  refresh: "查看是否有更新的版本",
  write: {
    title: "写作",
    prompt: "提示",
    templates: "模板",
    zero: "零样本",
    one: "单样本",
    few: "少样本",
    templateHint: "小模型见过的文字很少：请把模板当作实验，而不是向它求答案。",
    temperature: "温度",
    topK: "Top-k",
    topP: "Top-p",
    seed: "种子",
    tokens: "词元数",
    anySeed: "换一个种子",
    go: "开始写",
    stop: "停止",
    output: "模型写的内容",
    hint: "指向一个词元，或使用方向键，查看它还考虑过什么。颜色浅：意料之中；颜色深：出乎意料。",
    alternatives: (label) => `${label} 之外的选择`,
    token: "词元",
    probability: "概率",
    tokenLabel: (label, p) => `${label}，${percent(p)}`,
  },
  attention: {
    title: "注意力",
    about: "每个头以自己的方式回看文字。行是层，列是头；图中每一行是一个词元，每一列是它所看的词元。",
    text: "要查看的文字",
    use: "使用上面的文字",
    look: "查看",
    overview: (version) => `第 ${version} 步的所有头`,
    headName: (layer, head) => `第 ${layer + 1} 层，第 ${head + 1} 个头`,
    kind: ({ self, previous, first, spread }) => {
      const most = Math.max(self, previous, first);
      if (most < 0.35) return `分散在约 ${Math.round(spread)} 个词元上`;
      if (most === previous) return `主要看前一个词元（${percent(previous)}）`;
      return most === self ? `主要看自己（${percent(self)}）` : `主要看第一个词元（${percent(first)}）`;
    },
    numbers: ({ self, previous, first, distance, spread }) =>
      `自己 ${percent(self)}，前一个 ${percent(previous)}，第一个 ${percent(first)}；平均回看 ${fixed(distance, 1)} 个词元，分散在 ${fixed(spread, 1)} 个上`,
    lines: "从每个词元（右）到它所看的词元（左）的连线",
    map: "热图",
    table: "以表格显示",
    query: "词元",
    looksAt: "看",
    none: "选择文字，然后按“查看”。",
    cell: (query, key, p) => `${query} → ${key}：${percent(p)}`,
  },
  map: {
    title: "词的地图",
    about: "模型用法相近的词元，其向量方向也相近。",
    token: "词元或词",
    near: "近邻",
    of: (token) => `与 ${token} 最近的`,
    analogy: "类比",
    a: "a",
    b: "b",
    c: "c",
    analogyHint: "a 之于 b，如同 c 之于……",
    go: "查找",
    result: (a, b, c) => `${a} 之于 ${b}，如同 ${c} 之于`,
    similarity: "相似度",
  },
};

const translated: Translated<Words> = { en, zh };

export function words(): Words {
  return translated[language.value];
}
