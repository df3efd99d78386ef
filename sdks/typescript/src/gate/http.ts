/**
 * Gating at the level of one HTTP attempt: what is about to be sent is read and, where needed, rewritten; what comes back is
 * read on its way to the caller, byte for byte, as fast as the caller takes it.
 */

import { isUngated } from "../attribution.js";
import { isNoburnError } from "../errors.js";
import type { Asked } from "./endpoints.js";
import type { Gate } from "./gate.js";
import type { HeldCall } from "./held.js";
import { BodyPassing, EventsPassing, type Reader, type Withholds } from "./passing.js";
import { refusalAnswer, type Shape } from "./refusals.js";
import { Sent } from "./sent.js";

export { Sent } from "./sent.js";

/** What a request asks for. */
export interface Found {
  readonly asked: Asked;
  /** Events that the caller did not ask for. */
  readonly withholds?: Withholds | undefined;
}

/** What a provider's integration says of its requests. */
export interface Site {
  readonly shape: Shape;
  /** Reads a request; null for one that costs nothing. Rejects with NoburnError for one that must not be made. */
  find(sent: Sent): Promise<Found | null>;
}

/** Sends one attempt: with this body in the place of its own, or as it is. */
export type Forward = (body: string | undefined) => Promise<Response>;

/**
 * Sends one attempt through the gate. A call that is refused is answered here: 402, and told not to be tried again.
 *
 * Rejects as `forward` does, and with the signal's reason where it was aborted meanwhile.
 */
export async function throughGate(
  gate: () => Gate,
  site: Site,
  sent: Sent,
  forward: Forward,
): Promise<Response> {
  if (sent.passed || isUngated()) return forward(undefined);
  sent.signal?.throwIfAborted();
  let held: HeldCall;
  let found: Found | null;
  try {
    found = await site.find(sent);
    if (found === null) return forward(undefined);
    const { asked } = found;
    held = await gate().admit({ ...asked, signal: sent.signal });
  } catch (error) {
    sent.signal?.throwIfAborted();
    if (!isNoburnError(error)) throw error;
    return refusalAnswer(error, site.shape);
  }
  if (sent.signal?.aborted) {
    // Void, not settle: nothing was sent.
    held.void();
    sent.signal.throwIfAborted();
  }
  let response: Response;
  try {
    const same = held.body === found.asked.body && !found.asked.changed;
    response = await forward(same ? undefined : JSON.stringify(held.body));
  } catch (error) {
    held.failed(error);
    throw error;
  }
  return received(response, held, found, sent.signal);
}

/** Returns a fetch that sends what costs something through the gate, by another fetch. */
export function gatedFetch(
  inner: typeof fetch,
  siteOf: (url: string) => Site | null,
  gate: () => Gate,
): typeof fetch {
  return function fetch(input, init) {
    let sent: Sent;
    let site: Site | null;
    try {
      site = siteOf(input instanceof URL ? input.href : typeof input === "string" ? input : input.url);
      if (site === null) return inner.call(undefined, input, init);
      sent = new Sent(input, init);
    } catch {
      // What cannot be read is refused by the fetch behind, in its own words.
      return inner.call(undefined, input, init);
    }
    return throughGate(gate, site, sent, (body) => sent.forward(inner, { body }));
  };
}

/** Ends the call with its response, or gives on a response that will end it. */
export function received(
  response: Response,
  held: HeldCall,
  found: Found,
  signal?: AbortSignal | undefined,
): Response {
  if (response.status >= 400) {
    held.void();
    return response;
  }
  if (response.body === null) {
    held.settle(null);
    return response;
  }
  const { endpoint } = held.asked;
  const events = (response.headers.get("content-type") ?? "").toLowerCase().startsWith("text/event-stream");
  const reader =
    events && endpoint.meter !== undefined
      ? new EventsPassing(held, endpoint.meter(held.model, held.tokensMax !== undefined), found.withholds)
      : new BodyPassing(held, endpoint.read !== undefined && !events);
  const headers = new Headers(response.headers);
  if (events && found.withholds !== undefined) headers.delete("content-length");
  const made = new Response(metered(response.body, reader, signal), {
    status: response.status,
    statusText: response.statusText,
    headers,
  });
  Object.defineProperty(made, "url", { value: response.url, configurable: true });
  return made;
}

interface Abandoned {
  readonly reader: Reader;
  readonly source: ReadableStreamDefaultReader<Uint8Array>;
}

/** A stream that nobody reads to its end or cancels still ends its call, once it is collected. */
const abandoned =
  typeof FinalizationRegistry === "undefined"
    ? null
    : new FinalizationRegistry<Abandoned>(({ reader, source }) => {
        reader.cut();
        source.cancel().catch(() => {});
      });

function metered(
  body: ReadableStream<Uint8Array>,
  reader: Reader,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  const source = body.getReader();
  // It knows nothing of the stream that is given on, which must be free to be collected.
  const aborted = (): void => {
    reader.cut();
    source.cancel(signal?.reason).catch(() => {});
  };
  const ended = (): void => {
    signal?.removeEventListener("abort", aborted);
    abandoned?.unregister(reader);
  };
  signal?.addEventListener("abort", aborted, { once: true });
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          let step: ReadableStreamReadResult<Uint8Array>;
          try {
            step = await source.read();
            signal?.throwIfAborted();
          } catch (error) {
            reader.cut();
            ended();
            controller.error(error);
            return;
          }
          const bytes = step.done ? reader.finish() : reader.feed(step.value);
          const beyond = step.done ? null : reader.beyond();
          if (beyond !== null) {
            reader.cut();
            ended();
            source.cancel(beyond).catch(() => {});
            controller.error(beyond);
            return;
          }
          if (bytes.length > 0) controller.enqueue(bytes);
          if (step.done) {
            ended();
            controller.close();
          }
          if (bytes.length > 0 || step.done) return;
        }
      },
      cancel(reason) {
        reader.cut();
        ended();
        return source.cancel(reason);
      },
    },
    // Nothing is read before somebody asks for it.
    { highWaterMark: 0 },
  );
  abandoned?.register(stream, { reader, source }, reader);
  return stream;
}
