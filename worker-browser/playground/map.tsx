/** @file Words as a map: the nearest tokens in the embedding, and analogies by adding and taking away. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { fixed } from "../pages/format.ts";
import type { NeighbourList, Task } from "./messages.ts";
import type { Playground } from "./state.ts";
import { visible } from "./token.ts";
import { words } from "./words.ts";

type Found = { readonly list: NeighbourList | null; readonly problem: string | null };

const NOTHING: Found = { list: null, problem: null };

export function WordMap({ playground }: { readonly playground: Playground }): VNode {
  const t = words().map;
  const [token, setToken] = useState("people");
  const [three, setThree] = useState({ a: "man", b: "men", c: "nation" });
  const [near, setNear] = useState(NOTHING);
  const [like, setLike] = useState(NOTHING);
  return (
    <section class="card" aria-labelledby="map">
      <h2 id="map">{t.title}</h2>
      <p class="soft">{t.about}</p>
      <div class="sides two-sides">
        <div>
          <h3>{t.near}</h3>
          <form
            class="ask"
            onSubmit={(event) => {
              event.preventDefault();
              void find(playground, { type: "neighbours", token }).then(setNear);
            }}
          >
            <label>
              {t.token}
              <input required value={token} onInput={({ currentTarget }) => setToken(currentTarget.value)} />
            </label>
            <button type="submit">{t.go}</button>
          </form>
          <Result found={near} title={([asked = ""]) => t.of(visible(asked))} />
        </div>
        <div>
          <h3>{t.analogy}</h3>
          <form
            class="ask"
            title={t.analogyHint}
            onSubmit={(event) => {
              event.preventDefault();
              void find(playground, { type: "analogy", ...three }).then(setLike);
            }}
          >
            {(["a", "b", "c"] as const).map((name) => (
              <label>
                {t[name]}
                <input
                  required
                  size={8}
                  value={three[name]}
                  onInput={({ currentTarget }) => setThree({ ...three, [name]: currentTarget.value })}
                />
              </label>
            ))}
            <button type="submit">{t.go}</button>
          </form>
          <p class="soft">{t.analogyHint}</p>
          <Result found={like} title={([a = "", b = "", c = ""]) => t.result(visible(a), visible(b), visible(c))} />
        </div>
      </div>
    </section>
  );
}

async function find(playground: Playground, task: Task): Promise<Found> {
  const version = playground.find(playground.chosen.value);
  const client = playground.client.value;
  if (version === null || client === null) return NOTHING;
  let list: NeighbourList | null = null;
  const problem = await client.run(version, task, (answer) => {
    if (answer.type === "neighbours") list = answer.list;
  }).done;
  return { list, problem };
}

function Result({
  found: { list, problem },
  title,
}: {
  readonly found: Found;
  readonly title: (asked: readonly string[]) => string;
}): VNode {
  // prettier-ignore
  const t = words().map;
  return (
    <div role="status">
      {problem === null ? null : <p class="bad">{problem}</p>}
      {list === null ? null : (
        <table>
          <caption>{title(list.asked)}</caption>
          <thead>
            <tr>
              <th scope="col">{t.token}</th>
              <th scope="col" colSpan={2}>
                {t.similarity}
              </th>
            </tr>
          </thead>
          <tbody>
            {list.found.map(({ label, similarity }) => (
              <tr key={label}>
                <td>
                  <code>{visible(label)}</code>
                </td>
                <td class="number">{fixed(similarity, 3)}</td>
                <td class="bar">
                  <span style={{ width: `${100 * Math.max(0, similarity)}%` }} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
