import { scheduleTests } from "../support/sim/scheduleTests.ts";

scheduleTests(7500, 10000);
