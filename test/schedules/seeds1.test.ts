import { scheduleTests } from "../support/sim/scheduleTests.ts";

scheduleTests(0, 2500);
