/**
 * @file What an idle coordinator and a worker of `tiny` take in memory, in containers.
 *
 *     npm run bench -- memory
 *
 * Needs an engine (deploy/ci/start-engine.sh) and both images.
 */
import { measureMemory } from "../support/containerMemory.ts";

export async function run(): Promise<void> {
  const { idleCoordinatorMb, workerMb } = await measureMemory();
  process.stdout.write("resident, as `ps` has it\n\n| idle coordinator | worker of `tiny`, at most |\n|---|---|\n");
  process.stdout.write(`| ${idleCoordinatorMb.toFixed(0)} MB | ${workerMb.toFixed(0)} MB |\n`);
}
