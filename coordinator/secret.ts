/** @file Secrets: made, kept in files that only their owner reads, and compared. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

/** 144 random bits, as 24 characters that are safe in a URL and a header. */
export function newSecret(): string {
  return randomBytes(18).toString("base64url");
}

/** Compares in constant time: how long a refusal takes must not tell how much of a secret was right. */
export function sameSecret(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The secret in this file; at first use a new one is written, readable by its owner alone. */
export function secretFile(path: string): string {
  try {
    const secret = newSecret();
    // Never over an existing one: what was made with it would be void.
    writeFileSync(path, `${secret}\n`, { mode: 0o600, flag: "wx" });
    return secret;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return readFileSync(path, "utf8").trim();
  }
}
