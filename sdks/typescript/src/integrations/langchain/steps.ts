/** Answers that come bit by bit, each bit of which is made inside what the call was for. */

/**
 * Yields what a call returns, each step inside: the consumer between two of them is not. Who leaves it half-way ends its
 * source.
 */
export async function* stepsInside(
  inside: <T>(fn: () => T) => T,
  call: () => unknown,
): AsyncGenerator<unknown> {
  const source = (await inside(call)) as AsyncIterable<unknown>;
  const steps = inside(() => source[Symbol.asyncIterator]());
  let done = false;
  try {
    while (true) {
      const step = await inside(() => steps.next());
      if (step.done) {
        done = true;
        return;
      }
      yield step.value;
    }
  } catch (error) {
    done = true;
    throw error;
  } finally {
    if (!done) await steps.return?.();
  }
}
