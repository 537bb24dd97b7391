/** @file Which charts there are, and what is in them: from the run's curves to uPlot's columns. */
import type { VNode } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { Curves, ScalingPoint } from "../../shared/wire/dashboard.ts";
import { bytes, count, duration, fixed, percent, short } from "../pages/format.ts";
import { efficiencies } from "./answers.ts";
import { Chart, type ChartSpec } from "./chart.tsx";
import { isBehind } from "./curves.ts";
import type { Feed } from "./feed.ts";
import type { Range } from "../pages/plot.tsx";
import { theme, type Theme } from "../pages/theme.ts";
import { words, type Words } from "./words.ts";

export function Charts({ feed }: { readonly feed: Feed }): VNode {
  const text = words();
  const curves = feed.curves.value;
  const scaling = feed.scaling.value;
  const colours = theme.value;
  const before = useRef<Drawn | null>(null);
  const drawn = useMemo(() => {
    const now = { curves, scaling, text: text.charts, colours, onRange: feed.show };
    before.current = curves === null ? null : inTurns(before.current, { ...now, curves });
    return before.current;
  }, [curves, scaling, text, colours]);
  return (
    <section aria-labelledby="charts">
      <div class="heading">
        <h2 id="charts">{text.charts.all}</h2>
        {curves !== null && curves.version.length > 0 ? (
          <span class="soft">{text.charts.points(curves.span)}</span>
        ) : null}
        <RangeForm feed={feed} />
      </div>
      {curves === null || drawn === null || curves.version.length === 0 ? (
        <p class="card soft">{text.charts.nothing}</p>
      ) : (
        <div class="charts">
          {drawn.charts.map(({ spec }) => (
            <Chart key={spec.title} spec={spec} />
          ))}
          <ScalingPanel scaling={drawn.scaling} />
        </div>
      )}
    </section>
  );
}

/** What is shown. */
type Drawn = {
  /** Each of the curves as they were when it was its turn. */
  readonly charts: readonly { readonly spec: ChartSpec; readonly curves: Curves }[];
  readonly scaling: readonly ScalingPoint[];
  readonly text: Words["charts"];
  readonly colours: Theme;
  /** Counts on; after the charts it is the scaling panel's. */
  readonly turn: number;
};

/** Draws one more of the charts, and those that would be too far behind: all of them at once would be many times a second's work. */
function inTurns(
  before: Drawn | null,
  now: Omit<Drawn, "charts" | "turn"> & { readonly curves: Curves; readonly onRange: (range: Range) => void },
): Drawn {
  const { curves, scaling, text, colours, onRange } = now;
  const fresh = chartsOf(curves, text, colours, onRange).map((spec) => ({ spec, curves }));
  if (before === null || before.text !== text || before.colours !== colours) {
    return { charts: fresh, scaling, text, colours, turn: 0 };
  }
  const turn = (before.turn + 1) % (fresh.length + 1);
  const isPanels = turn === fresh.length || scaling.length !== before.scaling.length;
  const charts = fresh.map((chart, i) => {
    const known = before.charts[i];
    return known === undefined || i === turn || isBehind(known.curves, curves) ? chart : known;
  });
  return { charts, scaling: isPanels ? scaling : before.scaling, text, colours, turn };
}

function RangeForm({ feed }: { readonly feed: Feed }): VNode {
  const text = words().charts;
  const zoom = feed.zoom.value;
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  // Set when another part is chosen, here or by dragging, and not held at it: what is typed would go at each drawing.
  useEffect(() => {
    setFrom(zoom === null ? "" : String(zoom.from));
    setTo(zoom === null || zoom.to === Number.MAX_SAFE_INTEGER ? "" : String(zoom.to));
  }, [zoom]);
  return (
    <form
      class="range"
      title={text.zoomHint}
      onSubmit={(event) => {
        event.preventDefault();
        feed.show({ from: Math.max(1, Number(from) || 1), to: Number(to) || Number.MAX_SAFE_INTEGER });
      }}
    >
      <label>
        {text.from}{" "}
        <input type="number" min="1" value={from} onInput={({ currentTarget }) => setFrom(currentTarget.value)} />{" "}
        {/* prettier-ignore */}
      </label>
      <label>
        {text.to} <input type="number" min="1" value={to} onInput={({ currentTarget }) => setTo(currentTarget.value)} />{" "}
        {/* prettier-ignore */}
      </label>
      <button type="submit">{text.show}</button>
      <button type="button" disabled={zoom === null} onClick={() => feed.show(null)}>
        {text.showAll}
      </button>
    </form>
  );
}

function chartsOf(curves: Curves, text: Words["charts"], colours: Theme, onRange: (range: Range) => void): ChartSpec[] {
  const { accent, blue, violet, good } = colours;
  const { version } = curves;
  const x: uPlot.Series = { label: "step", value: (_, value) => (value === null ? "–" : count(value)) };
  const line = (label: string, stroke: string, show: (value: number) => string): uPlot.Series => ({
    label,
    stroke,
    width: 1.5,
    points: { show: version.length < 40, size: 4 },
    value: (_, value) => (value === null ? "–" : show(value)),
  });
  /** Between the least and the greatest value, filled. */
  const edge = (label: string, stroke: string, show: (value: number) => string): uPlot.Series => ({
    ...line(label, `${stroke}55`, show),
    width: 1,
    points: { show: false },
  });
  const charts: ChartSpec[] = [
    {
      title: text.loss,
      unit: text.nats,
      data: withEvaluations(curves),
      series: [
        x,
        line(text.train, accent, nats),
        edge("min", accent, nats),
        edge("max", accent, nats),
        { ...line(text.validation, blue, nats), width: 2, spanGaps: true, points: { show: curves.evaluations.version.length < 100, size: 5 } }, // prettier-ignore
      ],
      bands: [{ series: [3, 2], fill: `${accent}22` }],
      axes: [steps, ticks(short)],
      summary: `${text.train} ${nats(last(curves.loss))}, ${text.validation} ${fixed(curves.evaluations.loss.at(-1) ?? null, 3)}`, // prettier-ignore
    },
    {
      title: text.speed,
      unit: text.tokensPerSecond,
      data: [version, curves.tokensPerSecond, curves.workers] as unknown as uPlot.AlignedData,
      series: [x, line(text.tokensPerSecond, accent, count), { ...line(text.workers, blue, (value) => fixed(value, 1)), scale: "workers", paths: uPlot.paths.stepped!({ align: 1 }) }], // prettier-ignore
      axes: [steps, ticks(count), { scale: "workers", side: 1, size: 40, incrs: WHOLE, grid: { show: false } }],
      scales: { y: { range: fromZero }, workers: { range: fromZero } },
      summary: `${count(last(curves.tokensPerSecond))} ${text.tokensPerSecond}, ${fixed(last(curves.workers), 1)} ${text.workers}`, // prettier-ignore
    },
    {
      title: text.round,
      unit: text.ms,
      data: [version, curves.computeMs, curves.roundMs.map((round, i) => Math.max(curves.computeMs[i] ?? 0, round - (curves.commitMs[i] ?? 0))), curves.roundMs] as unknown as uPlot.AlignedData, // prettier-ignore
      series: [
        x,
        { ...line(text.compute, good, duration), fill: `${good}33` },
        { ...line(text.transfer, blue, duration), value: (self, _, __, i) => partOf(self, i, 2, 1) },
        { ...line(text.merge, violet, duration), value: (self, _, __, i) => partOf(self, i, 3, 2) },
      ],
      bands: [
        { series: [2, 1], fill: `${blue}33` },
        { series: [3, 2], fill: `${violet}44` },
      ],
      axes: [steps, ticks(short)],
      scales: { y: { range: fromZero } },
      summary: `${duration(last(curves.roundMs))}: ${text.compute} ${percent(last(curves.computeMs) / last(curves.roundMs))}, ${text.merge} ${percent(last(curves.commitMs) / last(curves.roundMs))}`, // prettier-ignore
    },
    {
      title: text.norm,
      unit: "",
      data: [version, curves.gradientNorm, curves.gradientNormMin, curves.gradientNormMax] as unknown as uPlot.AlignedData, // prettier-ignore
      series: [x, line(text.mean, accent, short), edge("min", accent, short), edge("max", accent, short)],
      bands: [{ series: [3, 2], fill: `${accent}22` }],
      axes: [steps, ticks(short)],
      summary: short(last(curves.gradientNorm)),
    },
    {
      title: text.rate,
      unit: "",
      data: [version, curves.learningRate] as unknown as uPlot.AlignedData,
      series: [x, line(text.rate, accent, short)],
      axes: [steps, ticks(short)],
      scales: { y: { range: fromZero } },
      summary: short(last(curves.learningRate)),
    },
    {
      title: text.traffic,
      unit: "",
      data: [version, curves.bytesInPerSecond, curves.bytesOutPerSecond] as unknown as uPlot.AlignedData,
      series: [x, line(text.received, accent, perSecond), line(text.sent, blue, perSecond)],
      axes: [steps, ticks(bytes)],
      scales: { y: { range: fromZero } },
      summary: `${text.received} ${perSecond(last(curves.bytesInPerSecond))}, ${text.sent} ${perSecond(last(curves.bytesOutPerSecond))}`, // prettier-ignore
    },
  ];
  return charts.map((spec) => ({ ...spec, onRange }));
}

/** Measured speed by number of workers beside what it would be if they added up; as a table too. */
function ScalingPanel({ scaling }: { readonly scaling: readonly ScalingPoint[] }): VNode | null {
  const text = words().charts;
  const { accent, soft } = theme.value;
  const measured = efficiencies(scaling);
  if (measured.length === 0) return null;
  const most = measured.at(-1);
  const spec: ChartSpec = {
    title: text.scaling,
    unit: text.tokensPerSecond,
    data: [
      [0, ...measured.map(({ workers }) => workers)],
      [null, ...measured.map(({ tokensPerSecond }) => tokensPerSecond)],
      [0, ...measured.map(({ ideal }) => ideal)],
    ],
    series: [
      { label: text.workers },
      { label: text.measured, stroke: accent, width: 2, points: { show: true, size: 7, fill: accent }, value: (_, value) => (value === null ? "–" : count(value)) }, // prettier-ignore
      { label: text.ideal, stroke: soft, width: 1, dash: [5, 5], points: { show: false }, value: (_, value) => (value === null ? "–" : count(value)) }, // prettier-ignore
    ],
    axes: [{ incrs: WHOLE }, { size: 58, values: (_, values) => values.map(count) }],
    scales: { y: { range: fromZero } },
    summary: `${most?.workers} ${text.workers}: ${count(most?.tokensPerSecond ?? 0)} ${text.tokensPerSecond}, ${text.efficiency} ${percent(most?.efficiency ?? 0)}`, // prettier-ignore
  };
  return (
    <div class="scaling">
      <Chart spec={spec} />
      <div class="card scroll" tabIndex={0} role="group" aria-label={text.scaling}>
        <table>
          <thead>
            <tr>
              {[text.workers, text.tokensPerSecond, text.efficiency, text.rounds].map((title) => (
                <th class="number" scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {measured.map(({ workers, tokensPerSecond, efficiency, rounds }) => (
              <tr key={workers}>
                <td class="number">{workers}</td>
                <td class="number">{count(tokensPerSecond)}</td>
                <td class="number">{percent(efficiency)}</td>
                <td class="number">{count(rounds)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

/** Both losses over one row of steps; null where one has no value. */
function withEvaluations(curves: Curves): uPlot.AlignedData {
  const train = [curves.version, curves.loss, curves.lossMin, curves.lossMax] as unknown as uPlot.AlignedData;
  const validation = [curves.evaluations.version, curves.evaluations.loss] as unknown as uPlot.AlignedData;
  return uPlot.join([train, validation]);
}

const steps: uPlot.Axis = {
  values: (_, values) => values.map((value) => (Number.isInteger(value) ? count(value) : "")),
};

/** There are no halves of workers. */
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500];

function ticks(show: (value: number) => string): uPlot.Axis {
  return { size: 58, values: (_, values) => values.map(show) };
}

function last(column: readonly number[]): number {
  return column.at(-1) ?? 0;
}

function nats(value: number): string {
  return fixed(value, 3);
}

function partOf(plot: uPlot, index: number | null, upper: number, lower: number): string {
  if (index === null) return "–";
  return duration((plot.data[upper]?.[index] ?? 0) - (plot.data[lower]?.[index] ?? 0));
}

function fromZero(_: uPlot, __: number, max: number): uPlot.Range.MinMax {
  return [0, max > 0 ? 1.08 * max : 1];
}

function perSecond(value: number): string {
  return `${bytes(value)}/s`;
}
