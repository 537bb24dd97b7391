import { expect, test } from "vitest";
import { hostProblem, originProblem } from "../../../coordinator/edge/origin.ts";

const everywhere = { allowed: ["https://train.example.org"], loopbackOnly: false };
const here = { allowed: ["https://train.example.org"], loopbackOnly: true };

test.each([
  ["a program", undefined, "example.com:8080", true],
  ["the coordinator's own page", "http://example.com:8080", "example.com:8080", true],
  ["... behind a proxy that does TLS", "https://example.com", "example.com", true],
  ["... whose Host names the port that https implies", "https://example.com", "example.com:443", true],
  ["a page of a configured origin", "https://train.example.org", "example.com", true],
  ["a page elsewhere", "https://evil.example", "example.com", false],
  ["a page on another port", "http://example.com:3000", "example.com:8080", false],
  ["a subdomain", "http://a.example.com", "example.com", false],
  ["a sandboxed frame or a file", "null", "example.com", false],
  ["an Origin that is none", "//", "example.com", false],
  ["no Host", "http://example.com", undefined, false],
])("%s", (_, origin, host, allowed) => {
  expect(originProblem(origin, host, everywhere) === null).toBe(allowed);
});

test.each([
  ["127.0.0.1:8080", true],
  ["localhost:8080", true],
  ["[::1]:8080", true],
  ["127.0.0.2", true],
  ["train.example.org", true],
  ["evil.example:8080", false],
  ["127.0.0.1.evil.example", false],
  ["localhost.evil.example", false],
  ["evil.example#127.0.0.1", false],
  ["user@127.0.0.1", false],
  ["", false],
  [undefined, false],
])("[DNS rebinding] a coordinator on loopback answers to Host %s: %s", (host, answered) => {
  expect(hostProblem(host, here) === null).toBe(answered);
});

test("a coordinator that listens to others answers to every name, but not to what is none", () => {
  expect(hostProblem("any.example:1", everywhere)).toBeNull();
  expect(hostProblem("a/../b", everywhere)).not.toBeNull();
});
