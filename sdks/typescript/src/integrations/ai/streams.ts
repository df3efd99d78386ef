/** A held call's stream: metered on its way, and its hold ended however the stream ends. */

import { StreamCutError } from "../../errors.js";
import type { HeldCall } from "../../gate/held.js";
import { denial } from "../../results.js";
import type { PartMeter } from "./meter.js";
import type { StreamPart } from "./spec.js";

/**
 * Returns the stream as it is, read part by part.
 *
 * Its last part settles the hold. A reader that cancels, a signal that is aborted and a connection that breaks settle it as
 * cut, with what was seen. A stream that is merely forgotten is known to nobody: its hold expires.
 */
export function metered(
  stream: ReadableStream<StreamPart>,
  held: HeldCall,
  meter: PartMeter,
  signal: AbortSignal | undefined,
): ReadableStream<StreamPart> {
  const reader = stream.getReader();
  const stop = (): void => {
    held.meterCut(meter);
    // A caller that aborts reads on rarely, and not every provider ends its stream then.
    reader.cancel(signal?.reason).catch(() => undefined);
  };
  const ended = (): void => signal?.removeEventListener("abort", stop);
  if (signal?.aborted) stop();
  else signal?.addEventListener("abort", stop, { once: true });
  return new ReadableStream<StreamPart>(
    {
      async pull(controller) {
        let found: ReadableStreamReadResult<StreamPart>;
        try {
          found = await reader.read();
        } catch (error) {
          ended();
          held.meterCut(meter);
          controller.error(error);
          return;
        }
        if (found.done) {
          ended();
          if (signal?.aborted) {
            held.meterCut(meter);
            controller.error(signal.reason);
            return;
          }
          held.meterEnded(meter);
          controller.close();
          return;
        }
        meter.feed(found.value);
        if (meter.finished) held.meterEnded(meter);
        controller.enqueue(found.value);
        if (held.tokensMax !== undefined && !meter.ended && meter.outputTokens >= held.tokensMax) {
          ended();
          held.meterCut(meter);
          reader.cancel().catch(() => undefined);
          controller.error(
            new StreamCutError(denial({ reason: "call_too_large", detail: "the stream reached its hold" })),
          );
        }
      },
      async cancel(reason) {
        ended();
        held.meterCut(meter);
        await reader.cancel(reason);
      },
    },
    // Nothing is read ahead of the caller, who decides by reading how much is made.
    { highWaterMark: 0 },
  );
}
