/** @file The operator's page: is it healthy, is it learning, who is slow, what would more workers bring. */
import type { VNode } from "preact";
import { count } from "../pages/format.ts";
import { Header } from "../pages/header.tsx";
import { showPage } from "../pages/page.ts";
import * as answers from "./answers.ts";
import { Bans } from "./bans.tsx";
import { Charts } from "./charts.tsx";
import { Controls } from "./controls.tsx";
import { openFeed, type Feed } from "./feed.ts";
import { Invites } from "./invites.tsx";
import "./style.css";
import { CheckpointsTable, Events } from "./tables.tsx";
import { words } from "./words.ts";
import { WorkersTable } from "./workersTable.tsx";

function Dashboard({ feed }: { readonly feed: Feed }): VNode {
  return (
    <div class="page">
      <Header here="dashboard" />
      <main>
        <Notices feed={feed} />
        <RunLine feed={feed} />
        <Answers feed={feed} />
        <Charts feed={feed} />
        <WorkersTable feed={feed} />
        <div class="two">
          <Events feed={feed} />
          <div class="stack">
            <CheckpointsTable feed={feed} />
            <Invites />
            <Bans />
          </div>
        </div>
      </main>
    </div>
  );
}

function Notices({ feed }: { readonly feed: Feed }): VNode {
  const text = words();
  const connection = feed.connection.value;
  const restarted = feed.restartedMs.value;
  return (
    <div role="status" class="notices">
      {connection.name === "lost" ? <p class="notice bad">{text.lost(connection.sinceMs)}</p> : null}
      {connection.name === "connecting" ? <p class="notice">{text.connecting}</p> : null}
      {restarted !== null && connection.name === "open" ? (
        <p class="notice">
          {text.restarted(restarted)}{" "}
          <button type="button" onClick={() => (feed.restartedMs.value = null)}>
            {text.dismiss}
          </button>
        </p>
      ) : null}
    </div>
  );
}

/** As many steps as the bar can show: one of a million would have it laid out anew for nothing. */
const PROGRESS = 1000;

function RunLine({ feed }: { readonly feed: Feed }): VNode {
  const text = words();
  const status = feed.status.value;
  const progress = Math.floor((PROGRESS * (status?.version ?? 0)) / Math.max(1, status?.steps ?? 1));
  return (
    <section class="run" aria-labelledby="run">
      <div>
        <h1 id="run">{status?.run ?? text.title}</h1>
        {status === null ? null : (
          <>
            <p class="soft">
              <strong class="phase" data-phase={status.phase}>
                {text.phases[status.phase] ?? status.phase}
              </strong>{" "}
              · {text.step(status.version, status.steps)} · {text.parameters(status.parameters)} ·{" "}
              {count(status.tokensPerSecond)} {text.charts.tokensPerSecond} · {status.codec}
              {status.strict ? ", strict" : ""}
            </p>
            <p id="reason">{status.reason}</p>
            <progress aria-labelledby="run" max={PROGRESS} value={progress} />
          </>
        )}
      </div>
      <Controls feed={feed} />
    </section>
  );
}

function Answers({ feed }: { readonly feed: Feed }): VNode {
  const text = words();
  const status = feed.status.value;
  const curves = feed.curves.value;
  const isLost = feed.connection.value.name === "lost";
  const health = answers.health(status, curves, { isLost, nowMs: Date.now(), lastRoundMs: feed.lastRoundMs.value });
  const learning = answers.learning(curves);
  const slow = answers.slow(status);
  const scale = answers.scale(curves, feed.scaling.value);
  const cards = [
    { question: text.questions.healthy, tone: health.tone, answer: text.health(health) },
    { question: text.questions.learning, tone: learning.tone, answer: text.learning(learning) },
    { question: text.questions.slow, tone: slow.tone, answer: text.slow(slow) },
    { question: text.questions.more, tone: scale.tone, answer: text.more(scale) },
  ];
  return (
    <dl class="answers">
      {cards.map(({ question, tone, answer }) => (
        <div key={question} class="card" data-tone={tone}>
          <dt>{question}</dt>
          <dd>{answer}</dd>
        </div>
      ))}
    </dl>
  );
}

showPage(<Dashboard feed={openFeed()} />);
