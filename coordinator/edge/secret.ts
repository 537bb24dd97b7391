/** @file Secrets: made, kept in files that only their owner reads, and compared. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { OperatorError } from "../../shared/operatorError.ts";

/** The admin token's file in a run's folder. */
export const ADMIN_TOKEN_FILE = "admin-token";

/** 144 random bits, as 24 characters that are safe in a URL and a header. */
export function newSecret(): string {
  return randomBytes(18).toString("base64url");
}

/** Compares in constant time: how long a refusal takes must not tell how much of a secret was right. */
export function sameSecret(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

const MIN_SECRET_CHARACTERS = 16;

/** The secret in this file; at first use a new one is written, readable by its owner alone. */
export function secretFile(path: string): string {
  try {
    const secret = newSecret();
    // Never over an existing one: what was made with it would be void.
    writeFileSync(path, `${secret}\n`, { mode: 0o600, flag: "wx" });
    return secret;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const secret = readFileSync(path, "utf8").trim();
    // A full disk leaves an empty file, and an empty secret is one that everybody knows.
    if (secret.length >= MIN_SECRET_CHARACTERS) return secret;
    throw new OperatorError(
      `${path}: holds ${secret.length} characters; must hold a secret of at least ${MIN_SECRET_CHARACTERS}, or be removed for a new one`,
      { cause: error },
    );
  }
}
