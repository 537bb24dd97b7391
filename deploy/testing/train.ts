/** @file One run in containers to its end: `node deploy/testing/train.ts --workers 3 -- --steps 20`. Prints `hash=…` and `version=…`. */
import { parseArgs } from "node:util";
import { startCluster } from "./cluster.ts";

/** A run that takes longer is no test. */
const LONGEST_MS = 60 * 60_000;

const { values, positionals } = parseArgs({
  options: { workers: { type: "string", default: "2" } },
  allowPositionals: true,
});
const workers = Number(values.workers);
if (!Number.isInteger(workers) || workers < 1 || workers > 256) {
  process.stderr.write(`error: --workers ${values.workers}: must be a whole number from 1 to 256\n`);
  process.exit(2);
}
const cluster = await startCluster({ workers, flags: positionals });
try {
  const { hash, version } = await cluster.until(({ phase }) => phase === "finished", LONGEST_MS);
  process.stdout.write(`hash=${hash}\nversion=${version}\n`);
} finally {
  await cluster.stop();
}
