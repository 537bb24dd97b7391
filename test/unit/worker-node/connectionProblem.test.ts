import { expect, test } from "vitest";
import { answerProblem, connectionProblem } from "../../../worker-node/connectionProblem.ts";

const url = "wss://train.example/socket";
const problem = (code: string): string => connectionProblem(Object.assign(new Error(code), { code }), url);

test("each failure of a connection is one line that names the address and what mends it", () => {
  const fixes = {
    ECONNREFUSED: "start the coordinator, or correct --url",
    ENOTFOUND: "correct --url",
    ETIMEDOUT: "check network, firewall",
    CERT_HAS_EXPIRED: "set the clock, or renew",
    CERT_NOT_YET_VALID: "set the clock, or renew",
    DEPTH_ZERO_SELF_SIGNED_CERT: "NODE_EXTRA_CA_CERTS",
    ERR_TLS_CERT_ALTNAME_INVALID: "correct --url",
    EPROTO: "use http://",
  };
  for (const [code, fix] of Object.entries(fixes)) {
    expect(problem(code)).toContain(fix);
    expect(problem(code)).toContain(url);
    expect(problem(code)).not.toContain("\n");
  }
  expect(connectionProblem(new Error("something else"), url)).toBe("something else");
});

test("a clock that is wrong shows: the message says what this machine takes for now", () => {
  const said = /by this machine's clock \((\S+)\)/.exec(problem("CERT_NOT_YET_VALID"))?.[1] ?? "";
  expect(Math.abs(Date.parse(said) - Date.now())).toBeLessThan(60_000);
});

test("an HTTP answer instead of a WebSocket says who is in the way", () => {
  expect(answerProblem(426, url)).toContain("removes the Upgrade header");
  expect(answerProblem(502, url)).toContain("the coordinator behind it does not");
  expect(answerProblem(503, url)).toContain("is starting");
  expect(answerProblem(404, url)).toContain("correct --url");
  expect(answerProblem(200, url)).toContain("HTTP 200 instead of a WebSocket");
});
