/** @file `npm run bench -- NAME`: each benchmark prints its own table; none is a test, and none runs in CI. */
import { launch } from "../support/launcher.ts";

await launch<void>(import.meta.dirname, "benchmark");
