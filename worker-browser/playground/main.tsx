/**
 * @file See the model: write with it, see what it attends to, and which words it uses alike. In the page's address, for tests:
 * `?backend=webgpu|webgl|wasm|cpu` uses only that one.
 */
import type { VNode } from "preact";
import { Header } from "../pages/header.tsx";
import { showPage } from "../pages/page.ts";
import type { TfjsBackend } from "../messages.ts";
import { Attention, lookAgain } from "./attention.tsx";
import { WordMap } from "./map.tsx";
import { createPlayground, type Playground } from "./state.ts";
import "./style.css";
import { words } from "./words.ts";
import { Write } from "./write.tsx";

function Page({ playground }: { readonly playground: Playground }): VNode {
  const text = words();
  return (
    <div class="page">
      <Header here="playground" />
      <main>
        <div>
          <h1>{text.title}</h1>
          <p class="soft">{text.about}</p>
        </div>
        <Versions playground={playground} />
        <Write playground={playground} />
        <Attention playground={playground} />
        <WordMap playground={playground} />
      </main>
    </div>
  );
}

function Versions({ playground }: { readonly playground: Playground }): VNode {
  const text = words();
  const { versions, chosen, compared, engine, loading, isUnreachable, refresh, find } = playground;
  const all = versions.value;
  const index = all.findIndex(({ hash }) => hash === chosen.value);
  const version = find(chosen.value);
  return (
    <section class="card versions" aria-label={text.checkpoint}>
      <label class="slider">
        <span>
          {text.checkpoint}:{" "}
          <strong>
            {version === null ? "–" : text.step(version.version)}
            {version !== null && index === all.length - 1 ? ` (${text.newest})` : ""}
          </strong>{" "}
          <span class="soft">{version === null ? "" : text.validation(version.validationLoss)}</span>
        </span>
        <input
          type="range"
          min="0"
          max={Math.max(0, all.length - 1)}
          value={Math.max(0, index)}
          disabled={all.length < 2}
          aria-valuetext={version === null ? "" : text.step(version.version)}
          onChange={({ currentTarget }) => {
            chosen.value = all[currentTarget.valueAsNumber]?.hash ?? null;
            lookAgain(playground);
          }}
        />
      </label>
      <label>
        {text.compare}{" "}
        <select
          value={compared.value ?? ""}
          onChange={({ currentTarget }) => {
            compared.value = currentTarget.value === "" ? null : currentTarget.value;
            lookAgain(playground);
          }}
        >
          <option value="">{text.nobody}</option>
          {all.map(({ hash, version: step }) => (
            <option value={hash}>{text.step(step)}</option>
          ))}
        </select>
      </label>
      <button type="button" onClick={() => void refresh()}>
        {text.refresh}
      </button>
      <div role="status" class="soft state">
        {isUnreachable.value ? <p class="bad">{text.unreachable}</p> : null}
        {loading.value === null ? null : <p>{text.loading(loading.value)}</p>}
        {engine.value === null ? null : (
          <>
            <p id="computed-by">
              {text.computedBy(engine.value.backend, engine.value.device, engine.value.compiled?.isUsed === true)}
            </p>
            {engine.value.compiled?.isUsed === false ? <p>{text.notCompiled(engine.value.compiled.reason)}</p> : null}
            {engine.value.fallbacks.map(({ backend, reason }) => (
              <p>{text.fallback(backend, reason)}</p>
            ))}
          </>
        )}
      </div>
    </section>
  );
}

/** Not from engine.ts: the page would load what only its thread needs. */
const backends: readonly TfjsBackend[] = ["webgpu", "webgl", "wasm", "cpu"];
const wanted = new URLSearchParams(location.search).get("backend");
const playground = createPlayground(backends.find((backend) => backend === wanted) ?? null);
showPage(<Page playground={playground} />);
