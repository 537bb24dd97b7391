/** @file Invites: make one, show its address as text and as a QR code, list and revoke them. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { renderSVG } from "uqr";
import { dateTime } from "../pages/format.ts";
import { perform } from "./controls.tsx";
import { ScrollTable } from "./scrollTable.tsx";
import { words } from "./words.ts";

type Invite = {
  readonly id: string;
  /** Whom it was given to. */
  readonly name: string;
  readonly expiresMs: number;
  readonly maxUses: number;
  readonly uses: number;
  readonly revokedMs: number | null;
};

const HOUR_MS = 3_600_000;

export function Invites(): VNode {
  const text = words().invites;
  const [hours, setHours] = useState("24");
  const [uses, setUses] = useState("");
  const [name, setName] = useState("");
  const [address, setAddress] = useState<string | null>(null);
  const [isCopied, setCopied] = useState(false);
  const [list, setList] = useState<readonly Invite[] | null>(null);

  const create = async (): Promise<void> => {
    const wanted = { name, expiresInMs: Number(hours) * HOUR_MS, ...(uses === "" ? {} : { maxUses: Number(uses) }) };
    const answer = await perform(text.create, "POST", "invites", wanted);
    if (answer === null) return;
    setAddress(new URL(`.${(answer as { readonly path: string }).path}`, location.href).href);
    setCopied(false);
    if (list !== null) await show();
  };
  const show = async (): Promise<void> => {
    const answer = await perform(text.list, "GET", "invites");
    if (answer !== null) setList((answer as { invites: readonly Invite[] }).invites);
  };
  const revoke = async (id: string): Promise<void> => {
    await perform(text.revoke, "DELETE", `invites/${encodeURIComponent(id)}`);
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
            placeholder="1000"
            onInput={({ currentTarget }) => setUses(currentTarget.value)}
          />{" "}
          {/* prettier-ignore */}
        </label>
        <label>
          {text.name}
          <input maxLength={64} value={name} onInput={({ currentTarget }) => setName(currentTarget.value)} />
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
        <ScrollTable
          label={text.title}
          columns={[{ title: text.name }, { title: text.expires }, { title: text.used }, { title: text.revoke }]}
        >
          {list.map(({ id, name: given, expiresMs, uses: used, maxUses, revokedMs }) => (
            <tr key={id}>
              <td>{given === "" ? id.slice(0, 8) : given}</td>
              <td>{dateTime(expiresMs)}</td>
              <td class="number">
                {used} / {maxUses}
              </td>
              <td>
                {revokedMs === null ? (
                  <button type="button" class="danger" onClick={() => void revoke(id)}>
                    {text.revoke}
                  </button>
                ) : (
                  <span class="soft">{text.revoked}</span>
                )}
              </td>
            </tr>
          ))}
        </ScrollTable>
      )}
    </section>
  );
}
