/** @file Cuts text into the words inside which byte pairs may merge, as GPT-2 does. */

/** Source: GPT-2's encoder.py; the same expression as the `ByteLevel` pre-tokenizer of `@huggingface/tokenizers`. */
const word = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** UTF-16 units matched at a time: the words of a 500 MB text do not fit into one array. */
const SECTION_LENGTH = 1 << 20;

/** Calls `visit` with each word in order; the words' concatenation is the text. */
export function forEachWord(text: string, visit: (word: string) => void, sectionLength: number = SECTION_LENGTH): void {
  for (let start = 0; start < text.length;) {
    const end = sectionEnd(text, start + sectionLength);
    // (A match cannot fail: every character is a letter, a number, white space or something else.)
    for (const match of text.slice(start, end).match(word) ?? []) visit(match);
    start = end;
  }
}

/** First place at or after `from` between a visible character and white space: no word reaches across such a place. */
function sectionEnd(text: string, from: number): number {
  const boundary = /\S(?=\s)/g;
  boundary.lastIndex = Math.max(0, from - 1);
  return boundary.test(text) ? boundary.lastIndex : text.length;
}
