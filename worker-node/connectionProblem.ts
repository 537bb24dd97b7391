/** @file Why a worker has no connection, in one line that names what mends it. */

/** One line: what is wrong, and what mends it. */
export function connectionProblem(error: Error & { code?: string }, url: string): string {
  switch (error.code) {
    case "ECONNREFUSED":
      return `nothing listens at ${url}: start the coordinator, or correct --url`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `no host of that name: ${url}; correct --url, or the name service`;
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return `${url} cannot be reached from here (${error.code}): check network, firewall and the coordinator's --host`;
    case "CERT_NOT_YET_VALID":
    case "CERT_HAS_EXPIRED": {
      const validity = error.code === "CERT_HAS_EXPIRED" ? "has expired" : "is not valid yet";
      return `the certificate of ${url} ${validity} by this machine's clock (${new Date().toISOString()}): set the clock, or renew the certificate`;
    }
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
      return `the certificate of ${url} is not signed by an authority that this machine trusts: name its root in NODE_EXTRA_CA_CERTS`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `the certificate of ${url} is for another name: correct --url, or the certificate`;
    case "EPROTO":
      return `${url} does not speak TLS: use http:// in --url, or the port of the proxy`;
    case undefined:
    default:
      return error.message;
  }
}

/** What an HTTP answer instead of a WebSocket says of who is in between. */
export function answerProblem(status: number, url: string): string {
  if (status === 426)
    return `a proxy on the way to ${url} removes the Upgrade header: let it pass Upgrade and Connection`;
  if (status === 503) return `the coordinator at ${url} is starting (HTTP 503)`;
  if (status === 502 || status === 504)
    return `a proxy answers at ${url}, the coordinator behind it does not (HTTP ${status})`;
  if (status === 429) return `too many connections from this address (HTTP 429 from ${url})`;
  if (status === 404) return `no coordinator at ${url} (HTTP 404): correct --url`;
  return `${url} answered with HTTP ${status} instead of a WebSocket`;
}
