/** @file Invites: make one, show its address as text and as a QR code, list and revoke them. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { renderSVG } from "uqr";
import { dateTime } from "../pages/format.ts";
import { perform } from "./controls.tsx";
import { words } from "./words.ts";

type Invite = {
  readonly id: string;
  readonly note?: string;
  readonly expiresMs: number;
  readonly uses: number;
  readonly maxUses: number | null;
};

export function Invites(): VNode {
  const text = words().invites;
  const [hours, setHours] = useState("24");
  const [uses, setUses] = useState("");
  const [note, setNote] = useState("");
  const [address, setAddress] = useState<string | null>(null);
  const [isCopied, setCopied] = useState(false);
  const [list, setList] = useState<readonly Invite[] | null>(null);

  const create = async (): Promise<void> => {
    const maxUses = uses === "" ? {} : { maxUses: Number(uses) };
    const answer = await perform(text.create, "POST", "invites", { hours: Number(hours), note, ...maxUses });
    const { invite } = (answer ?? {}) as { invite?: string };
    if (invite === undefined) return;
    // Behind the #, so that it is in no server's log.
    setAddress(new URL(`./#invite=${invite}`, location.href).href);
    setCopied(false);
    if (list !== null) await show();
  };
  const show = async (): Promise<void> => {
    const answer = await perform(text.list, "GET", "invites");
    if (answer !== null) setList((answer as { invites: readonly Invite[] }).invites);
  };
  const revoke = async (id: string): Promise<void> => {
    await perform(text.revoke, "POST", "invites/revoke", { id });
    await show();
  };

  return (
    <section class="card" aria-labelledby="invites">
      <div class="heading">
        <h2 id="invites">{text.title}</h2>
      </div>
      <p class="soft">{text.about}</p>
      <form
        class="invite"
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <label>
          {text.hours}
          <input
            type="number"
            min="1"
            max="8760"
            required
            value={hours}
            onInput={({ currentTarget }) => setHours(currentTarget.value)}
          />{" "}
          {/* prettier-ignore */}
        </label>
        <label>
          {text.uses}
          <input
            type="number"
            min="1"
            value={uses}
            placeholder="∞"
            onInput={({ currentTarget }) => setUses(currentTarget.value)}
          />{" "}
          {/* prettier-ignore */}
        </label>
        <label>
          {text.note}
          <input maxLength={64} value={note} onInput={({ currentTarget }) => setNote(currentTarget.value)} />
        </label>
        <button type="submit">{text.create}</button>
        <button type="button" onClick={() => void show()}>
          {text.list}
        </button>
      </form>
      {address === null ? null : (
        <div class="made">
          <div
            class="qr"
            role="img"
            aria-label={text.qr}
            dangerouslySetInnerHTML={{ __html: renderSVG(address, { border: 2 }) }}
          />{" "}
          {/* prettier-ignore */}
          <div>
            <output>{address}</output>
            <button
              type="button"
              onClick={() => {
                void navigator.clipboard.writeText(address).then(() => setCopied(true));
              }}
            >
              {isCopied ? text.copied : text.copy}
            </button>
          </div>
        </div>
      )}
      {list === null ? null : list.length === 0 ? (
        <p class="soft">{text.none}</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label={text.title}>
          <table>
            <thead>
              <tr>
                <th scope="col">{text.note}</th>
                <th scope="col">{text.expires}</th>
                <th scope="col">{text.used}</th>
                <th scope="col">{text.revoke}</th>
              </tr>
            </thead>
            <tbody>
              {list.map(({ id, note: about, expiresMs, uses: used, maxUses }) => (
                <tr key={id}>
                  <td>{about || id}</td>
                  <td>{dateTime(expiresMs)}</td>
                  <td class="number">
                    {used} / {maxUses ?? "∞"}
                  </td>
                  <td>
                    <button type="button" class="danger" onClick={() => void revoke(id)}>
                      {text.revoke}
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
