/** @file Prompts with no, one and several examples (Brown et al. 2020, arXiv:2005.14165): the same question each time. */

/** Common words, so that most runs can go on from it at a press. */
export const EXAMPLE = "The people of the";

const question = "large";

const examples = [
  ["hot", "cold"],
  ["old", "new"],
  ["war", "peace"],
] as const;

function prompt(shots: number): string {
  const shown = examples.slice(0, shots).map(([word, opposite]) => `Word: ${word}\nOpposite: ${opposite}\n\n`);
  return `${shown.join("")}Word: ${question}\nOpposite:`;
}

export const templates: Readonly<Record<"zero" | "one" | "few", string>> = {
  zero: prompt(0),
  one: prompt(1),
  few: prompt(examples.length),
};
