/** @file The loss curve (uPlot); loaded after the rest of the page is there. */
import { useEffect, useRef } from "preact/hooks";
import type { JSX } from "preact";
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Curve } from "./curve.ts";

const HEIGHT = 220;

export type ChartProps = {
  readonly curve: Curve;
  /** What a screen reader says of it. */
  readonly label: string;
  readonly names: { readonly step: string; readonly train: string; readonly validation: string };
};

export function Chart({ curve, label, names }: ChartProps): JSX.Element {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const newest = useRef(curve);
  newest.current = curve;

  useEffect(() => {
    const element = frame.current;
    if (element === null) return undefined;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = new UPlot(options(element.clientWidth, names), dataOf(newest.current), element);
    };
    draw();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    // Its colours are drawn into a canvas: they do not follow the style sheet by themselves.
    dark.addEventListener("change", draw);
    return () => {
      dark.removeEventListener("change", draw);
      resized.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names.step, names.train, names.validation]);

  useEffect(() => plot.current?.setData(dataOf(curve)), [curve]);

  return <div class="chart" ref={frame} role="img" aria-label={label} />;
}

function dataOf({ version, loss, evaluations }: Curve): UPlot.AlignedData {
  return UPlot.join([
    [[...version], [...loss]],
    [[...evaluations.version], [...evaluations.loss]],
  ]);
}

function options(width: number, names: ChartProps["names"]): UPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis: UPlot.Axis = {
    stroke: colour("--soft"),
    font,
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false } },
    cursor: { y: false, points: { size: 7 } },
    legend: { show: true, live: true },
    axes: [
      { ...axis, gap: 6 },
      { ...axis, size: 42 },
    ],
    series: [
      { label: names.step, value: (_, step) => shown(step, 0) },
      { value, label: names.train, stroke: colour("--accent"), width: 2, points: { show: false }, spanGaps: true },
      {
        value,
        label: names.validation,
        stroke: colour("--second"),
        width: 1.5,
        points: { show: true, size: 5, fill: colour("--second") },
        spanGaps: true,
      },
    ],
  };
}

const value: UPlot.Series.Value = (_, loss) => shown(loss, 3);

/** In the legend: what the pointer is at; nothing when it is elsewhere. */
function shown(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined ? "" : value.toFixed(digits);
}
