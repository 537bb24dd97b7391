/** @file Who may join: whom the coordinator started itself, who knows the run's token, who holds an invite; else everybody. */
import { ProtocolError } from "../../shared/wire/protocol.ts";
import type { WorkerId } from "../../shared/wire/protocol.ts";
import type { Invites } from "./invites.ts";
import { sameSecret } from "./secret.ts";

export type GateConfig = {
  /** The run's token; null when it has none. */
  readonly token: string | null;
  /** Null when the run takes everybody, or everybody who knows the token. */
  readonly invites: Pick<Invites, "verify" | "claim"> | null;
};

/** What remains to be done once it is known who joins. @throws ProtocolError when the invite has no place left. */
export type Admission = (worker: WorkerId) => void;

const free: Admission = () => {};

/** @throws ProtocolError when nothing that was presented lets a worker in. */
export type Gate = (presented: string | undefined, own: boolean) => Promise<Admission>;

export function createGate({ token, invites }: GateConfig): Gate {
  return async (presented, own) => {
    if (own || (token === null && invites === null)) return free;
    if (token !== null && sameSecret(presented ?? "", token)) return free;
    if (invites === null)
      throw new ProtocolError("bad-token", "this run asks for a token; start the worker with --token");
    if (presented === undefined) throw new ProtocolError("bad-invite", "this run takes invited workers; open the link of an invite"); // prettier-ignore
    const invite = await invites.verify(presented);
    return (worker) => invites.claim(invite, worker);
  };
}
