/** @file What the operator can do to the run, the question for the admin token, and what became of it. */
import { signal, useComputed } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { act, asking, forget, isSignedIn, type Method, type Outcome } from "./admin.ts";
import type { Feed } from "./feed.ts";
import { words } from "./words.ts";

/** What the last action led to; read aloud when it changes. */
const outcome = signal<{ readonly text: string; readonly good: boolean } | null>(null);

/** Does it, and says what became of it. Returns the answer, or null when it did not work. */
export async function perform(name: string, method: Method, path: string, body?: unknown): Promise<unknown> {
  const result = await act(method, path, body);
  outcome.value = describe(name, result);
  return result.ok ? result.answer : null;
}

function describe(name: string, result: Outcome): { text: string; good: boolean } | null {
  const text = words().admin;
  if (result.ok) return { text: text.done(name), good: true };
  if ("cancelled" in result) return null;
  return { text: result.refused ? text.refused(result.message) : text.failed(result.message), good: false };
}

export function Controls({ feed }: { readonly feed: Feed }): VNode {
  const text = words().admin;
  const isPaused = useComputed(() => feed.status.value?.phase === "paused").value;
  return (
    <div class="controls">
      {isPaused ? (
        <button type="button" class="primary" onClick={() => void perform(text.resume, "POST", "resume")}>
          {text.resume}
        </button>
      ) : (
        <button type="button" onClick={() => void perform(text.pause, "POST", "pause", {})}>
          {text.pause}
        </button>
      )}
      <button type="button" onClick={() => void perform(text.snapshot, "POST", "snapshot")}>
        {text.snapshot}
      </button>
      <button
        type="button"
        class="danger"
        onClick={() => {
          if (confirm(text.sureStop)) void perform(text.stop, "POST", "stop");
        }}
      >
        {text.stop}
      </button>
      {isSignedIn.value ? (
        <button type="button" onClick={forget}>
          {text.forget}
        </button>
      ) : null}
      <p role="status" class={outcome.value?.good === false ? "bad" : "soft"}>
        {outcome.value?.text ?? ""}
      </p>
      <TokenQuestion />
    </div>
  );
}

function TokenQuestion(): VNode {
  const text = words().admin;
  const dialog = useRef<HTMLDialogElement>(null);
  const [token, setToken] = useState("");
  const answer = asking.value;
  useEffect(() => {
    if (answer !== null) dialog.current?.showModal();
    else dialog.current?.close();
  }, [answer]);
  return (
    <dialog ref={dialog} aria-labelledby="sign-in" onCancel={() => answer?.(null)}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          answer?.(token);
          setToken("");
        }}
      >
        <h2 id="sign-in">{text.signIn}</h2>
        <p class="soft">{text.why}</p>
        <label>
          {text.token}{" "}
          <input
            type="password"
            required
            autocomplete="off"
            value={token}
            onInput={({ currentTarget }) => setToken(currentTarget.value)}
          />
        </label>
        <p class="buttons">
          <button type="submit" class="primary">
            {text.go}
          </button>
          <button type="button" onClick={() => answer?.(null)}>
            {text.cancel}
          </button>
        </p>
      </form>
    </dialog>
  );
}
