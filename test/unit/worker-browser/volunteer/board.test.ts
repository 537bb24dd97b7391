import { expect, test } from "vitest";
import type { Board } from "../../../../shared/wire/status.ts";
import { placesOf } from "../../../../worker-browser/volunteer/board.ts";

const board: Board = {
  tokens: 200,
  contributors: 9,
  top: [
    { worker: "a", name: "Ada", tokens: 100, rounds: 7 },
    { worker: "b", name: "", tokens: 20, rounds: 3 },
    { worker: "c", name: "Cem", tokens: 20, rounds: 2 },
  ],
};

const progress = {
  version: 9,
  steps: 10,
  trainLoss: null,
  validationLoss: null,
  tokens: 250,
  tokensPerSecond: 1,
  workers: 1,
  yourTokens: 5,
  yourTokensPerSecond: 1,
  yourRounds: 1,
  yourRank: 8,
  contributors: 9,
  reason: "",
};

test("equal tokens share a rank, and shares are of the whole run", () => {
  const places = placesOf(board, { worker: "c", name: "" }, null);
  expect(places.map(({ rank, share }) => [rank, share])).toEqual([[1, 0.5], [2, 0.1], [2, 0.1]]); // prettier-ignore
  expect(places.map(({ isMine }) => isMine)).toEqual([false, false, true]);
});

test("who is not among the best stands last, with its own rank", () => {
  const places = placesOf(board, { worker: "z", name: "Zoe" }, progress);
  expect(places.at(-1)).toEqual({ rank: 8, name: "Zoe", share: 0.025, rounds: 1, isMine: true });
  expect(placesOf(board, { worker: "b", name: "" }, progress)).toHaveLength(3);
});

test("who has given nothing has no place; nothing is divided by no tokens", () => {
  expect(placesOf(board, { worker: "z", name: "" }, { ...progress, yourRank: null })).toHaveLength(3);
  expect(placesOf({ ...board, tokens: 0 }, { worker: null, name: "" }, null)[0]?.share).toBe(0);
});
