/** @file One head's attention as lines between the tokens, after BertViz (Vig 2019, arXiv:1906.05714): the stronger, the more. */
import type { VNode } from "preact";
import { percent } from "../pages/format.ts";
import { strongest } from "./headSummary.ts";
import { visible } from "./token.ts";

const ROW = 22;
const LEFT = 110;
const RIGHT = 230;
const WIDTH = 340;

/** Fainter lines cannot be seen, and there are many. */
const FAINTEST = 0.02;

export function Lines({
  attention,
  labels,
  chosen,
  onChoose,
  title,
}: {
  readonly attention: Float32Array;
  readonly labels: readonly string[];
  /** Only this token's lines; null: all. */
  readonly chosen: number | null;
  readonly onChoose: (query: number | null) => void;
  readonly title: string;
}): VNode {
  const { length } = labels;
  const y = (index: number): number => (index + 0.5) * ROW;
  const drawn: VNode[] = [];
  for (let query = 0; query < length; query++) {
    if (chosen !== null && chosen !== query) continue;
    for (let key = 0; key <= query; key++) {
      const p = attention[query * length + key] ?? 0;
      if (p >= FAINTEST) drawn.push(<line x1={LEFT + 4} y1={y(key)} x2={RIGHT - 4} y2={y(query)} style={{ opacity: p }} />); // prettier-ignore
    }
  }
  return (
    <svg class="lines" viewBox={`0 0 ${WIDTH} ${length * ROW}`} role="group" aria-label={title}>
      {drawn}
      {labels.map((label, index) => {
        const [most] = strongest(attention, index, 1);
        const said = most === undefined ? label : `${visible(label)} → ${visible(labels[most.key] ?? "")} ${percent(most.p)}`; // prettier-ignore
        const looked = chosen === null ? null : (attention[chosen * length + index] ?? 0);
        return (
          <>
            <text
              x={LEFT}
              y={y(index)}
              class="key"
              text-anchor="end"
              aria-hidden="true"
              style={looked === null ? {} : { opacity: 0.35 + 0.65 * Math.min(1, 2 * looked) }}
            >
              {visible(label)}
            </text>
            <text
              x={RIGHT}
              y={y(index)}
              class={chosen === index ? "query chosen" : "query"}
              tabIndex={index === (chosen ?? 0) ? 0 : -1}
              role="button"
              aria-label={said}
              aria-pressed={chosen === index}
              onPointerEnter={() => onChoose(index)}
              onPointerLeave={() => onChoose(null)}
              onFocus={() => onChoose(index)}
              onBlur={() => onChoose(null)}
              onKeyDown={(event) => {
                const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
                if (step === undefined) return;
                event.preventDefault();
                const queries = event.currentTarget.ownerSVGElement?.querySelectorAll<SVGTextElement>(".query");
                queries?.[(index + step + length) % length]?.focus();
              }}
            >
              {visible(label)}
            </text>
          </>
        );
      })}
    </svg>
  );
}
