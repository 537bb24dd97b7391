/** @file Attention: every head at a glance, one head as lines, heat map and table, in one version or in two side by side. */
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import type { Checkpoint } from "../../shared/wire/dashboard.ts";
import { percent } from "../pages/format.ts";
import { headOf, strongest, summarise } from "./headSummary.ts";
import { HeatMap, type Pointed } from "./heatMap.tsx";
import { Lines } from "./lines.tsx";
import type { AttentionMaps } from "./messages.ts";
import type { Playground } from "./state.ts";
import { EXAMPLE } from "./templates.ts";
import { visible } from "./token.ts";
import { words } from "./words.ts";

type Seen = { readonly version: Checkpoint; readonly maps: AttentionMaps };

const text = signal(EXAMPLE);
/** By version's hash: those that are shown. */
const seen = signal<readonly Seen[]>([]);
const head = signal({ layer: 0, head: 0 });
const query = signal<number | null>(null);
const pointed = signal<Pointed | null>(null);
const problem = signal<string | null>(null);
const isLooking = signal(false);

export function Attention({ playground }: { readonly playground: Playground }): VNode {
  const { attention: t } = words();
  return (
    <section class="card" aria-labelledby="attention">
      <h2 id="attention">{t.title}</h2>
      <p class="soft">{t.about}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void look(playground);
        }}
      >
        <label class="prompt">
          {t.text}
          <textarea rows={2} value={text.value} onInput={({ currentTarget }) => (text.value = currentTarget.value)} />
        </label>
        <div class="templates">
          <button type="submit" class="primary" disabled={isLooking.value || text.value === ""}>
            {t.look}
          </button>
          <button
            type="button"
            disabled={playground.text.value === ""}
            onClick={() => (text.value = playground.text.value)}
          >
            {t.use}
          </button>
        </div>
      </form>
      <p role="status" class="bad">
        {problem.value ?? ""}
      </p>
      {seen.value.length === 0 ? (
        <p class="soft">{t.none}</p>
      ) : (
        <div class={seen.value.length > 1 ? "sides two-sides" : "sides"}>
          {seen.value.map((side) => (
            <Side key={side.version.hash} side={side} />
          ))}
        </div>
      )}
    </section>
  );
}

/** In the version that is chosen, and in the one beside it. */
async function look(playground: Playground): Promise<void> {
  const { client, chosen, compared, find } = playground;
  // The earlier one first, as one reads.
  const versions = [...new Set([find(compared.value), find(chosen.value)])]
    .filter((version) => version !== null)
    .sort((a, b) => a.version - b.version);
  if (client.value === null || text.value === "" || isLooking.value) return;
  isLooking.value = true;
  problem.value = null;
  const found: Seen[] = [];
  for (const version of versions) {
    const { done } = client.value.run(version, { type: "attention", text: text.value }, (answer) => {
      if (answer.type === "attention") found.push({ version, maps: answer.maps });
    });
    problem.value ??= await done;
  }
  isLooking.value = false;
  if (found.length === 0) return;
  const [{ maps }] = found as [Seen];
  if (head.value.layer >= maps.layers || head.value.head >= maps.heads) head.value = { layer: 0, head: 0 };
  query.value = null;
  seen.value = found;
}

/** Looks at a text that was just written. */
export function lookAt(playground: Playground, written: string): void {
  text.value = written;
  void look(playground);
}

/** Looks again when something was looked at before: another version was chosen. */
export function lookAgain(playground: Playground): void {
  if (seen.value.length > 0) void look(playground);
}

function Side({ side: { version, maps } }: { readonly side: Seen }): VNode {
  const { attention: t } = words();
  const { labels, layers, heads } = maps;
  const { layer, head: index } = head.value;
  const attention = headOf(maps, layer, index);
  const summary = summarise(attention);
  const title = t.headName(layer, index);
  const point = pointed.value;
  const at = point === null ? null : attention[point.query * labels.length + point.key];
  const cell = 360 / Math.max(heads, 4);
  return (
    <div class="side" data-version={version.version}>
      <h3>{t.overview(version.version)}</h3>
      <div
        class="overview"
        role="group"
        aria-label={t.overview(version.version)}
        style={{ gridTemplateColumns: `repeat(${heads}, auto)` }}
      >
        {" "}
        {/* prettier-ignore */}
        {Array.from({ length: layers * heads }, (_, i) => {
          const at = { layer: Math.floor(i / heads), head: i % heads };
          const values = headOf(maps, at.layer, at.head);
          const label = `${t.headName(at.layer, at.head)}: ${t.kind(summarise(values))}`;
          const isChosen = at.layer === layer && at.head === index;
          return (
            <button
              type="button"
              class="head"
              key={i}
              title={label}
              aria-label={label}
              aria-pressed={isChosen}
              onClick={() => (head.value = at)}
            >
              <HeatMap attention={values} length={labels.length} size={Math.min(72, Math.floor(cell) - 14)} />
            </button>
          );
        })}
      </div>
      <h3>
        {title}: {t.kind(summary)}
      </h3>
      <p class="soft">{t.numbers(summary)}</p>
      <div class="detail">
        <div>
          <HeatMap
            attention={attention}
            length={labels.length}
            size={260}
            label={`${title}, ${t.map}: ${t.numbers(summary)}`}
            onPoint={(there) => (pointed.value = there)}
          />
          <p class="soft readout">
            {point === null || at === null
              ? " "
              : t.cell(visible(labels[point.query] ?? ""), visible(labels[point.key] ?? ""), at ?? 0)}
          </p>
        </div>
        <Lines
          attention={attention}
          labels={labels}
          chosen={query.value}
          onChoose={(chosen) => (query.value = chosen)}
          title={`${title}: ${t.lines}`}
        />
      </div>
      <details>
        <summary>{t.table}</summary>
        <div class="scroll tall" tabIndex={0} role="group" aria-label={`${title}, ${t.table}`}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t.query}</th>
                <th scope="col" colSpan={3}>
                  {t.looksAt}
                </th>
              </tr>
            </thead>
            <tbody>
              {labels.map((label, i) => (
                <tr key={i}>
                  <th scope="row">
                    {i + 1} <code>{visible(label)}</code>
                  </th>
                  {[0, 1, 2].map((rank) => {
                    const one = strongest(attention, i, 3)[rank];
                    return (
                      <td key={rank}>
                        {one === undefined ? (
                          ""
                        ) : (
                          <>
                            {one.key + 1} <code>{visible(labels[one.key] ?? "")}</code> {percent(one.p)}
                          </>
                        )}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </div>
  );
}
