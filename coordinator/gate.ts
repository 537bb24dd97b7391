/** @file Who may join: whom the coordinator started itself, who knows the run's token, who holds an invite; else everybody. */
import { ProtocolError } from "../shared/wire/protocol.ts";
import { sameSecret } from "./secret.ts";

export type GateConfig = {
  /** The run's token; null when it has none. */
  readonly token: string | null;
};

/** What lets a worker in. @throws ProtocolError when nothing does. */
export type Gate = (presented: string | undefined, own: boolean) => Promise<void>;

export function createGate({ token }: GateConfig): Gate {
  return async (presented, own) => {
    if (own || token === null) return;
    if (!sameSecret(presented ?? "", token)) {
      throw new ProtocolError("bad-token", "this run asks for a token; start the worker with --token");
    }
  };
}
