/**
 * @file The Web Lock that a tab holds while it takes part. It does two things: browsers do not freeze a hidden page that
 * holds one, and a second tab of the same browser (same identity, same GPU) sees that the first is at work.
 */

const NAME = "manyhands";

export type TabLock = {
  /** Resolves when another tab took it over. */
  readonly stolen: Promise<void>;
  readonly release: () => void;
};

/** Null when another tab holds it and it is not to be taken over. */
export function holdTabLock({ takeOver }: { readonly takeOver: boolean }): Promise<TabLock | null> {
  // Only secure contexts have locks; without one the page works until the browser decides to freeze it.
  if (!("locks" in navigator)) return Promise.resolve({ stolen: new Promise(() => {}), release: () => {} });
  return new Promise((resolve, reject) => {
    const { promise: stolen, resolve: lose } = Promise.withResolvers<void>();
    let isHeld = false;
    navigator.locks
      .request(NAME, takeOver ? { steal: true } : { ifAvailable: true }, (lock) => {
        if (lock === null) {
          resolve(null);
          return undefined;
        }
        isHeld = true;
        return new Promise<void>((release) => resolve({ stolen, release: () => release() }));
      })
      .catch((error: unknown) => {
        // A lock that is taken over rejects the request that had it.
        if (isHeld) lose();
        else reject(error instanceof Error ? error : new Error(String(error)));
      });
  });
}
