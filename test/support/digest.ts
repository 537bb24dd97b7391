/** @file Results with large arrays, made comparable: an assertion on the arrays themselves takes minutes to print its difference. */

import { createHash } from "node:crypto";

/** The same record with each typed array replaced by the SHA-256 of its bytes. */
export function digest(result: object): object {
  return Object.fromEntries(
    Object.entries(result).map(([key, value]) => {
      if (!ArrayBuffer.isView(value)) return [key, value as unknown];
      const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
      return [key, createHash("sha256").update(bytes).digest("hex")];
    }),
  );
}
