/** @file The page's side of the model's thread: tasks out, what comes of them back as calls. */
import type { ModelToPage, PageToModel, Task, Version } from "./messages.ts";
import type { TfjsBackend } from "../messages.ts";

type Answer = Extract<ModelToPage, { readonly id: number }>;

export type Client = {
  /** Resolves when it is done, to what was wrong or null. */
  readonly run: (version: Version, task: Task, onAnswer: (answer: Answer) => void) => { readonly done: Promise<string | null>; readonly cancel: () => void }; // prettier-ignore
};

export function createClient({
  tokenizerUrl,
  force,
  onNews,
}: {
  readonly tokenizerUrl: string;
  readonly force: TfjsBackend | null;
  /** The engine that was chosen; a version that is being fetched. */
  readonly onNews: (news: Extract<ModelToPage, { type: "engine" | "loading" }>) => void;
}): Client {
  const thread = new Worker(new URL("./model.ts", import.meta.url), { type: "module", name: "manyhands model" });
  const open = new Map<number, { onAnswer: (answer: Answer) => void; resolve: (problem: string | null) => void }>();
  let next = 1;
  const send = (message: PageToModel): void => thread.postMessage(message);

  thread.addEventListener("message", ({ data }: MessageEvent<ModelToPage>) => {
    if (data.type === "engine" || data.type === "loading") {
      onNews(data);
      return;
    }
    const task = open.get(data.id);
    task?.onAnswer(data);
    if (data.type !== "done") return;
    open.delete(data.id);
    task?.resolve(data.problem);
  });
  thread.addEventListener("error", (event) => {
    event.preventDefault();
    for (const { resolve } of open.values()) resolve(`the model's thread broke: ${event.message}`);
    open.clear();
  });
  send({ type: "start", tokenizerUrl, force });

  return {
    run: (version, task, onAnswer) => {
      const id = next++;
      const { promise, resolve } = Promise.withResolvers<string | null>();
      open.set(id, { onAnswer, resolve });
      send({ type: "task", id, version, task });
      return { done: promise, cancel: () => send({ type: "cancel", id }) };
    },
  };
}
