import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { OperatorError } from "../../../coordinator/operatorError.ts";
import { knownAnswer } from "../../../coordinator/round/knownAnswer.ts";
import type { RunDescription } from "../../../shared/wire/protocol.ts";

const run: RunDescription = {
  name: "run",
  model: { kind: "gpt", layers: 1, heads: 1, width: 8, context: 4, vocabulary: 4, bias: false, dropout: 0 },
  seed: 1,
  sampling: "shuffled",
  batch: 8,
  unit: 2,
  evaluationUnit: 2,
  steps: 10,
  codec: "f32",
  strict: true,
  manifestPath: "/corpus/x/manifest.json",
};

test("when the program that knows the answer fails, one line names the setting, the reason and the way around", async () => {
  const dir = mkdtempSync(join(tmpdir(), "manyhands-known-"));
  try {
    const answer = knownAnswer({
      run,
      corpusDir: join(dir, "none"),
      runDir: dir,
      signal: new AbortController().signal,
    });
    const error: unknown = await answer.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OperatorError);
    const { message } = error as OperatorError;
    expect(message).toMatch(/^admission: .*ENOENT.*manifest\.json.*--no-admission$/);
    expect(message).not.toContain("\n");
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
