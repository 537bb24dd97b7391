/**
 * @file The Web Lock that a tab holds while it takes part. It does two things: browsers do not freeze a hidden page that
 * holds one, and a second tab of the same browser (same identity, same GPU) sees that the first is at work.
 */

const NAME = "manyhands";

/** The function that gives the lock back; null when another tab holds it. */
export function holdTabLock(): Promise<(() => void) | null> {
  // Only secure contexts have locks; without one the page works until the browser decides to freeze it.
  if (!("locks" in navigator)) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(NAME, { ifAvailable: true }, (lock) => {
        if (lock === null) {
          resolve(null);
          return undefined;
        }
        return new Promise<void>((release) => resolve(() => release()));
      })
      .catch(reject);
  });
}
