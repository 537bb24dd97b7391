import { defineConfig } from "vitest/config";
import { SummaryReporter } from "./test/support/summaryReporter.ts";

/** One project per kind of test (folders under test/), so that each kind can be run, and timed, by itself. */
const project = (name: string, options: { testTimeout: number; hookTimeout?: number; fileParallelism?: boolean }) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    environment: "node" as const,
    testTimeout: options.testTimeout,
    hookTimeout: options.hookTimeout ?? options.testTimeout,
    fileParallelism: options.fileParallelism ?? true,
  },
});

export default defineConfig({
  test: {
    reporters: ["default", new SummaryReporter()],
    projects: [
      project("unit", { testTimeout: 20_000 }),
      project("property", { testTimeout: 60_000 }),
      project("sim", { testTimeout: 60_000 }),
      project("schedules", { testTimeout: 180_000 }),
      project("integration", { testTimeout: 120_000, fileParallelism: false }),
      project("browser", { testTimeout: 300_000, fileParallelism: false }),
      project("container", { testTimeout: 300_000, hookTimeout: 900_000, fileParallelism: false }),
      project("e2e", { testTimeout: 300_000, fileParallelism: false }),
    ],
  },
});
