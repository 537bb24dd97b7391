/** @file Whom a request comes from: the socket's address, or what a trusted proxy says it is. */
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** Networks whose word is taken about whom they speak for. */
export type TrustedProxies = readonly (readonly [ipaddr.IPv4 | ipaddr.IPv6, number])[];

/** `10.0.0.0/8`, `::1` or a single address; null when it is neither. */
export function parseNetwork(text: string): TrustedProxies[number] | null {
  if (isIP(text) !== 0) {
    const address = ipaddr.process(text);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  }
  const [base = ""] = text.split("/");
  return isIP(base) !== 0 && ipaddr.isValidCIDR(text) ? ipaddr.parseCIDR(text) : null;
}

export function isTrusted(remote: string | undefined, proxies: TrustedProxies): boolean {
  if (remote === undefined || isIP(remote) === 0) return false;
  const address = ipaddr.process(remote);
  return proxies.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits));
}

/**
 * The key that limits count by: an IPv4 address, or the /64 of an IPv6 address, which one subscriber has to itself.
 *
 * X-Forwarded-For counts only from a trusted proxy, and is read from its end: the last address that no trusted proxy has. What
 * stands before it anybody can have written.
 */
export function peerAddress(
  remote: string | undefined,
  forwardedFor: string | undefined,
  proxies: TrustedProxies,
): string {
  let address = remote ?? "unknown";
  if (forwardedFor !== undefined && isTrusted(remote, proxies)) {
    for (const hop of forwardedFor.split(",").toReversed()) {
      const text = hop.trim();
      // A proxy that writes something else is not believed any further.
      if (isIP(text) === 0) break;
      address = text;
      if (!isTrusted(text, proxies)) break;
    }
  }
  if (isIP(address) === 0) return address;
  const parsed = ipaddr.process(address);
  if (parsed.kind() === "ipv4") return parsed.toString();
  const network = [...(parsed as ipaddr.IPv6).parts.slice(0, 4), 0, 0, 0, 0];
  return `${new ipaddr.IPv6(network).toString()}/64`;
}
