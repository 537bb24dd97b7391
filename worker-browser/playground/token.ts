/** @file Tokens as they can be seen: spaces and line ends are marked. */

export function visible(label: string): string {
  if (label === "") return "∅";
  return label.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}
