/** @file This thread's graphics device: one for all that computes here, so that tfjs and the compiled step can share buffers. */
import { openDevice, type OpenDevice } from "../../shared/engine/wgsl/device.ts";

let current: { readonly opened: OpenDevice; isLost: boolean } | null = null;

/** Opened when it is first asked for, and anew after it was lost or had an error. @throws NoAdapter, or Error with the reason. */
export async function sharedDevice(): Promise<OpenDevice> {
  if (current !== null) {
    // An error of what was submitted before arrives before this does; some browsers reject it where the device is lost.
    const isThere = await current.opened.device.queue.onSubmittedWorkDone().then(
      () => true,
      () => false,
    );
    if (isThere && !current.isLost && current.opened.fault() === null) return current.opened;
    current.opened.device.destroy();
    current = null;
  }
  const mine = { opened: await openDevice(navigator.gpu), isLost: false };
  void mine.opened.lost.then(() => (mine.isLost = true));
  current = mine;
  return mine.opened;
}
