/** What is to be done when a process is about to end by itself. */

import { state } from "../state.js";

interface Emitter {
  on(event: "beforeExit", listener: () => void): unknown;
}

const SHARED = "ending";

/**
 * Runs something once nothing else keeps the process alive; returns what undoes that.
 *
 * Only Node and what is like it tell of their end, and none of a kill or `process.exit()`: what must survive these needs an
 * outbox.
 */
export function atEnd(work: () => Promise<unknown>): () => void {
  const { shared } = state();
  let works = shared.get(SHARED) as Set<() => Promise<unknown>> | undefined;
  if (works === undefined) {
    const made = new Set<() => Promise<unknown>>();
    shared.set(SHARED, made);
    works = made;
    const { process } = globalThis as { process?: Partial<Emitter> };
    // One listener for all gates: Node warns of many.
    process?.on?.("beforeExit", () => {
      const due = [...made];
      made.clear();
      for (const one of due) one().catch(() => undefined);
    });
  }
  const kept = works;
  kept.add(work);
  return () => kept.delete(work);
}
