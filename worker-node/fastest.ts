/** @file Chooses among engines by the time that each takes: which is faster, a GPU or the processor beside it, depends on both. */

export type Contender<T> = { readonly name: string; readonly start: () => Promise<T> };

export type Comparison<T> = {
  readonly fastest: T;
  readonly name: string;
  /** The others in the order they were tried, and why not they. */
  readonly others: readonly { readonly name: string; readonly reason: string }[];
};

/**
 * Starts and times them one after the other; what is slower is given up at once, so at most two are there at a time. @throws Error with
 * every reason when none of them works.
 */
export async function fastestOf<T>(
  contenders: readonly Contender<T>[],
  { time, giveUp }: { time: (started: T) => Promise<number>; giveUp: (started: T) => Promise<void> },
): Promise<Comparison<T>> {
  const reasons = new Map<string, string>();
  const measured = new Map<string, number>();
  let best: { readonly name: string; readonly ms: number; readonly started: T } | undefined;
  for (const { name, start } of contenders) {
    try {
      const started = await start();
      const ms = await time(started).catch(async (error: unknown) => {
        await giveUp(started);
        throw error;
      });
      measured.set(name, ms);
      const before = best;
      if (before === undefined || ms < before.ms) best = { name, ms, started };
      if (before !== undefined) await giveUp(best === before ? started : before.started);
    } catch (error) {
      reasons.set(name, error instanceof Error ? error.message : String(error));
    }
  }
  if (best === undefined) throw new Error([...reasons].map(([name, reason]) => `${name}: ${reason}`).join("; "));
  const { name: winner, ms: least, started: fastest } = best;
  for (const [name, ms] of measured) {
    reasons.set(name, `slower here: ${ms.toPrecision(3)} ms a step, ${winner} takes ${least.toPrecision(3)}`);
  }
  const others = contenders.filter(({ name }) => name !== winner);
  return { fastest, name: winner, others: others.map(({ name }) => ({ name, reason: reasons.get(name) ?? "" })) };
}
