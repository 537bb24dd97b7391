/** @file Which web pages may speak to this coordinator, by the Host and Origin that a browser sends and a page cannot forge. */

export type OriginPolicy = {
  /** Origins of pages elsewhere that may join, such as https://train.example.org. */
  readonly allowed: readonly string[];
  /**
   * Listens on this machine alone, with no proxy before it: then only names of this machine lead here. Any other Host is a page
   * whose name was pointed at 127.0.0.1 after it was loaded (DNS rebinding).
   */
  readonly loopbackOnly: boolean;
};

/** Null when a request to this host is answered; else why not. */
export function hostProblem(host: string | undefined, { allowed, loopbackOnly }: OriginPolicy): string | null {
  const name = hostName(host);
  if (name === null) return "the Host header names no host";
  if (!loopbackOnly || name === "localhost" || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name)) return null;
  if (allowed.some((origin) => new URL(origin).hostname === name)) return null;
  return "this coordinator answers to names of its own machine only; start it with --origin to allow another";
}

/**
 * Null when a page of this origin may open a WebSocket here; else why not. Pages of this coordinator may (scheme apart, which a
 * TLS proxy changes), those of `allowed`, and programs, which send no Origin.
 */
export function originProblem(
  origin: string | undefined,
  host: string | undefined,
  policy: OriginPolicy,
): string | null {
  if (origin === undefined) return null;
  if (policy.allowed.includes(origin)) return null;
  if (URL.canParse(origin) && host !== undefined && new URL(origin).host === withoutDefaultPort(origin, host))
    return null;
  return `pages of ${origin.slice(0, 100)} may not join; start the coordinator with --origin to allow them`;
}

/** URL leaves out the port that its scheme implies; a Host header may have it. */
function withoutDefaultPort(origin: string, host: string): string {
  const text = `${new URL(origin).protocol}//${host}`;
  return URL.canParse(text) ? new URL(text).host : "";
}

function hostName(host: string | undefined): string | null {
  if (host === undefined || !/^[A-Za-z0-9._-]{1,253}(:\d{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?$/.test(host))
    return null;
  return URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : null;
}
