/** @file The operator's actions: the admin token, kept in this tab, goes with each as a bearer token. */
import { signal } from "@preact/signals";
import type { Signal } from "@preact/signals";

export type Outcome =
  | { readonly ok: true; readonly answer: unknown }
  | { readonly ok: false; readonly refused: boolean; readonly message: string }
  /** The operator closed the question for the token. */
  | { readonly ok: false; readonly cancelled: true };

export type Method = "GET" | "POST" | "DELETE";

const KEY = "manyhands admin token";

/** Whether a token is kept; what it is nobody needs to see. */
export const isSignedIn: Signal<boolean> = signal(sessionStorage.getItem(KEY) !== null);

/** Waiting for the operator to give the token: resolves with it, or with null. */
export const asking: Signal<((token: string | null) => void) | null> = signal(null);

export function forget(): void {
  sessionStorage.removeItem(KEY);
  isSignedIn.value = false;
}

/** Asks for the token when there is none. A token that is refused is forgotten. */
export async function act(method: Method, path: string, body?: unknown): Promise<Outcome> {
  const token = sessionStorage.getItem(KEY) ?? (await ask());
  if (token === null) return { ok: false, cancelled: true };
  try {
    const response = await fetch(`./admin/${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }) }, // prettier-ignore
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.text();
    if (response.status === 401) {
      forget();
      return { ok: false, refused: true, message: messageOf(text) ?? `HTTP ${response.status}` };
    }
    if (!response.ok) return { ok: false, refused: false, message: messageOf(text) ?? `HTTP ${response.status}` };
    sessionStorage.setItem(KEY, token);
    isSignedIn.value = true;
    return { ok: true, answer: parse(text) };
  } catch (error) {
    return { ok: false, refused: false, message: error instanceof Error ? error.message : String(error) };
  }
}

function ask(): Promise<string | null> {
  return new Promise((resolve) => {
    asking.value = (token) => {
      asking.value = null;
      resolve(token);
    };
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Answers say what is wrong as `{ error: { code, message } }`, or in plain text. */
function messageOf(text: string): string | null {
  const parsed = parse(text);
  if (typeof parsed === "string") return parsed.trim() === "" ? null : parsed.trim().slice(0, 300);
  const error = (parsed as { readonly error?: { readonly message?: unknown } } | null)?.error;
  return typeof error?.message === "string" ? error.message : null;
}
