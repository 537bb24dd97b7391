import { scheduleTests } from "../support/sim/scheduleTests.ts";

scheduleTests(2500, 5000);
