/** @file A plot with its title, and its newest values in words. */
import type { VNode } from "preact";
import { Plot, type PlotSpec } from "../pages/plot.tsx";

export type ChartSpec = PlotSpec & {
  readonly title: string;
  readonly unit: string;
  /** The newest values in words, for who does not see the chart. */
  readonly summary: string;
};

export function Chart({ spec }: { readonly spec: ChartSpec }): VNode {
  return (
    <figure class="card chart">
      <figcaption>
        <h3>{spec.title}</h3>
        <span class="soft">{spec.unit}</span>
      </figcaption>
      <p class="sr-only">{spec.summary}</p>
      <Plot spec={spec} />
    </figure>
  );
}
