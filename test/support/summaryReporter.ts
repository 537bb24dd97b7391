/** @file The last line of a test run, for people and for machines: `N passed, N failed, N skipped`. */
import type { Reporter, SerializedError, TestModule } from "vitest/node";

export class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      let tests = 0;
      for (const test of module.children.allTests()) {
        tests += 1;
        const { state } = test.result();
        if (state === "pending") count.failed += 1;
        else count[state] += 1;
      }
      // A file that could not be loaded has no tests that could fail.
      if (module.state() === "failed" && tests === 0) count.failed += 1;
    }
    count.failed += unhandledErrors.length;
    // After the other reporters' last words.
    setTimeout(
      () => process.stdout.write(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`),
      0,
    );
  }
}
