import { expect, test } from "vitest";
import { parseNetwork, peerAddress } from "../../../coordinator/edge/peerAddress.ts";
import type { TrustedProxies } from "../../../coordinator/edge/peerAddress.ts";

const networks = (...texts: string[]): TrustedProxies => texts.map((text) => parseNetwork(text)!);
const proxies = networks("127.0.0.1", "10.0.0.0/8", "fd00::/8");

test.each([
  ["nobody in between", "203.0.113.7", undefined, "203.0.113.7"],
  ["a header that a stranger wrote", "203.0.113.7", "198.51.100.1", "203.0.113.7"],
  ["a trusted proxy", "127.0.0.1", "198.51.100.1", "198.51.100.1"],
  ["a trusted proxy, mapped into IPv6", "::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"],
  ["two trusted proxies", "10.1.1.1", "198.51.100.1, 10.2.2.2", "198.51.100.1"],
  ["an address that the client put before its own", "10.1.1.1", "192.0.2.9, 198.51.100.1", "198.51.100.1"],
  ["only proxies", "10.1.1.1", "10.2.2.2, 10.3.3.3", "10.2.2.2"],
  ["words", "10.1.1.1", "unknown", "10.1.1.1"],
  ["words after an address", "10.1.1.1", "198.51.100.1, <script>", "10.1.1.1"],
  ["an empty header", "10.1.1.1", "", "10.1.1.1"],
  ["an IPv6 client: its network", "fd00::1", "2001:db8:1:2:aaaa::5", "2001:db8:1:2::/64"],
  ["another host of that network", "2001:db8:1:2:ffff:1:2:3", undefined, "2001:db8:1:2::/64"],
  ["a socket that is closed already", undefined, undefined, "unknown"],
])("%s", (_, remote, header, expected) => {
  expect(peerAddress(remote, header, proxies)).toBe(expected);
});

test("networks as an operator writes them", () => {
  for (const text of ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"]) expect(parseNetwork(text), text).not.toBeNull();
  for (const text of ["", "10", "10.0.0.0/33", "10.0.0/8", "localhost", "0x7f.1", "::1/129"]) expect(parseNetwork(text), text).toBeNull(); // prettier-ignore
});
