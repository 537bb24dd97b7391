import { scheduleTests } from "../support/sim/scheduleTests.ts";

// The first of the ten thousand that test/schedules/ runs.
scheduleTests(0, 250);
