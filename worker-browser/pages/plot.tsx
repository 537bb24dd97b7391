/** @file One uPlot plot as a component: follows the page's width, colours and data, and repaints when it is its turn and in sight. */
import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { theme } from "./theme.ts";

export type PlotSpec = {
  readonly data: uPlot.AlignedData;
  readonly series: readonly uPlot.Series[];
  readonly bands?: readonly uPlot.Band[];
  readonly axes?: readonly uPlot.Axis[];
  readonly scales?: uPlot.Scales;
  /** Has steps below it: shares the cursor with the others like it, and a part can be chosen. */
  readonly onRange?: (range: Range) => void;
};

/** Both steps are in it. */
export type Range = { readonly from: number; readonly to: number };

const HEIGHT = 190;

/** A picture only: whoever draws it says in words what is in it. */
export function Plot({ spec }: { readonly spec: PlotSpec }): VNode {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [isSeen, setSeen] = useState(true);
  const latest = useRef(spec);
  latest.current = spec;
  // What cannot be changed in a chart that is there already.
  const kind = JSON.stringify([theme.value.dark, spec.series.map(({ label }) => label)]);

  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const made = new uPlot(optionsOf(latest, element.clientWidth), latest.current.data, element);
    plot.current = made;
    showNewest(made);
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    const sight = new IntersectionObserver((entries) => setSeen(entries.at(-1)?.isIntersecting ?? true));
    sight.observe(element);
    return () => {
      observer.disconnect();
      sight.disconnect();
      paintings.delete(made);
      made.destroy();
      plot.current = null;
    };
  }, [kind]);

  // In the frame that shows what else is new.
  useLayoutEffect(() => {
    const made = plot.current;
    if (made !== null && isSeen) inTurn(made, () => update(made, latest.current.data));
  }, [spec.data, isSeen]);

  return <div ref={place} class="plot" aria-hidden="true" />;
}

function optionsOf(latest: { readonly current: PlotSpec }, width: number): uPlot.Options {
  const { series, bands = [], axes, scales, onRange } = latest.current;
  const { soft, line } = theme.value;
  const axis = {
    stroke: soft,
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line, width: 1 },
    font: "11px system-ui",
  };
  const given = axes ?? [{}, { size: 58 }];
  return {
    width,
    height: HEIGHT,
    series: [...series],
    bands: [...bands],
    axes: given.map((own) => ({ ...axis, ...own })),
    scales: { x: { time: false }, ...scales },
    cursor: {
      ...(onRange === undefined ? {} : { sync: { key: "run" } }),
      drag: { x: onRange !== undefined, y: false, setScale: false },
      points: { size: 6 },
    },
    legend: { live: true },
    hooks: {
      // Also when the pointer leaves it, or another that it follows.
      setCursor: [showNewest],
      setSelect: [
        (self) => {
          const { left, width: selected } = self.select;
          if (selected < 4) return;
          const [from, to] = [left, left + selected].map((x) => Math.max(1, Math.round(self.posToVal(x, "x"))));
          self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          latest.current.onRange?.({ from: from ?? 1, to: to ?? 1 });
        },
      ],
    },
  };
}

function update(plot: uPlot, data: uPlot.AlignedData): void {
  // Drawn when this returns: whoever takes turns sees how long it took.
  plot.batch(() => {
    plot.setData(data);
    showNewest(plot);
  });
}

/** While nobody points at a chart its legend has the newest values. */
function showNewest(plot: uPlot): void {
  if ((plot.cursor.left ?? -1) < 0) plot.setLegend({ idx: (plot.data[0]?.length ?? 0) - 1 }, false);
}

/** Waiting to be painted: the newest of each chart only. */
const paintings = new Map<uPlot, () => void>();

/** Begin no further chart in a frame after so much: all at once would hold up a click. A frame for each would cost more than the charts. */
const PAINT_MS = 3;

function inTurn(plot: uPlot, paint: () => void): void {
  if (paintings.size === 0) requestAnimationFrame(paintNext);
  paintings.set(plot, paint);
}

function paintNext(): void {
  const began = performance.now();
  for (const [plot, paint] of paintings) {
    paintings.delete(plot);
    paint();
    if (performance.now() - began >= PAINT_MS) break;
  }
  if (paintings.size > 0) requestAnimationFrame(paintNext);
}
