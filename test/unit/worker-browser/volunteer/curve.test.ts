import { expect, test } from "vitest";
import { emptyCurve, extendCurve } from "../../../../worker-browser/volunteer/curve.ts";

test("what is heard of a later step is added, what is known is not", () => {
  let curve = extendCurve(emptyCurve, { version: 3, trainLoss: 4, validationLoss: null });
  expect(extendCurve(curve, { version: 3, trainLoss: 9, validationLoss: null })).toBe(curve);
  expect(extendCurve(curve, { version: 5, trainLoss: null, validationLoss: null })).toBe(curve);
  curve = extendCurve(curve, { version: 5, trainLoss: 3.5, validationLoss: 3.6 });
  curve = extendCurve(curve, { version: 6, trainLoss: 3.4, validationLoss: 3.6 });
  expect(curve).toEqual({ version: [3, 5, 6], loss: [4, 3.5, 3.4], evaluations: { version: [5], loss: [3.6] } });
});
