/** @file `npm run soak -- NAME`: faults for hours instead of seconds; each prints its numbers and fails when one is out of bounds. */
import { launch } from "../support/launcher.ts";

const soak = await launch<boolean>(import.meta.dirname, "soak");
if (soak !== null) process.stdout.write(soak.result ? "\npassed\n" : "\nFAILED\n");
if (soak?.result === false) process.exitCode = 1;
