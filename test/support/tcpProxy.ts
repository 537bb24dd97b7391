/**
 * @file A network that can go silent: passes bytes between whoever connects here and a port of this machine, until it is told
 * to hold them. Nothing is closed then, nothing refused: both sides see what a pulled cable looks like.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

export type TcpProxy = {
  readonly port: number;
  /** From now on no byte passes, in either direction, also on connections that are made meanwhile. */
  readonly silence: () => void;
  /** Bytes pass again; connections of before the silence are gone, as after a change of the network. */
  readonly restore: () => void;
  readonly close: () => Promise<void>;
};

export async function tcpProxy(target: number): Promise<TcpProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let silent = false;
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    const pair = [near, far] as const;
    pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on("data", (data) => silent || to.write(data));
      from.on("error", () => {});
      from.on("close", () => {
        pairs.delete(pair);
        // The news of the end does not get through either.
        if (!silent) to.destroy();
      });
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const cutAll = (): void => {
    for (const [near, far] of pairs) {
      near.destroy();
      far.destroy();
    }
  };
  return {
    port: (server.address() as AddressInfo).port,
    silence() {
      silent = true;
    },
    restore() {
      cutAll();
      silent = false;
    },
    async close() {
      cutAll();
      server.close();
      await once(server, "close");
    },
  };
}
