/** @file The loss curve; loaded after the rest of the page is there. */
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import uPlot from "uplot";
import { exact, fixed } from "../pages/format.ts";
import { Plot, type PlotSpec } from "../pages/plot.tsx";
import { theme } from "../pages/theme.ts";
import type { Curve } from "./curve.ts";

export type ChartProps = {
  readonly curve: Curve;
  /** What a screen reader says of it. */
  readonly label: string;
  readonly names: { readonly step: string; readonly train: string; readonly validation: string };
};

export function Chart({ curve, label, names }: ChartProps): VNode {
  const { accent, blue } = theme.value;
  const data = useMemo(() => dataOf(curve), [curve]);
  const spec: PlotSpec = {
    data,
    axes: [{}, { size: 42 }],
    series: [
      { label: names.step, value: (_, step) => (step === null ? "–" : exact(step)) },
      { value, label: names.train, stroke: accent, width: 2, points: { show: false }, spanGaps: true },
      { value, label: names.validation, stroke: blue, width: 1.5, points: { show: true, size: 5, fill: blue }, spanGaps: true }, // prettier-ignore
    ],
  };
  return (
    <div class="chart" role="img" aria-label={label}>
      <Plot spec={spec} />
    </div>
  );
}

function dataOf({ version, loss, evaluations }: Curve): uPlot.AlignedData {
  return uPlot.join([
    [[...version], [...loss]],
    [[...evaluations.version], [...evaluations.loss]],
  ]);
}

const value: uPlot.Series.Value = (_, loss) => fixed(loss, 3);
