import { scheduleTests } from "../support/sim/scheduleTests.ts";

scheduleTests(5000, 7500);
