/** An answer on its way to the caller: read as it passes, and the end of its call. */

import { StreamCutError } from "../errors.js";
import { denial } from "../results.js";
import { EventReader } from "./events.js";
import type { HeldCall } from "./held.js";
import type { Meter } from "./meters.js";

/** How much of an answer that is no stream is kept until its end, where its usage stands. */
export const BODY_BYTES_MAX = 64 * 1024 * 1024;

/** Says which events of a stream are not given on. */
export type Withholds = (event: unknown) => boolean;

/** Reads what passes. No method throws. */
export interface Reader {
  feed(bytes: Uint8Array): Uint8Array;
  /** Ends the call with the end of the answer; returns what is left to give on. */
  finish(): Uint8Array;
  /** Ends the call with what was seen. */
  cut(): void;
  /** What to throw at a caller whose stream has used up its hold. */
  beyond(): Error | null;
}

const NOTHING = new Uint8Array(0);

/** Reads a stream of events. */
export class EventsPassing implements Reader {
  readonly #held: HeldCall;
  readonly #meter: Meter;
  readonly #events: EventReader;

  constructor(held: HeldCall, meter: Meter, withholds?: Withholds) {
    this.#held = held;
    this.#meter = meter;
    this.#events = new EventReader((data) => this.#event(data, withholds), withholds !== undefined);
  }

  #event(data: string, withholds?: Withholds): boolean {
    if (data.startsWith("[DONE]")) return true;
    try {
      const event: unknown = JSON.parse(data);
      this.#meter.feed(event);
      return withholds === undefined || !withholds(event);
    } catch {
      // What cannot be read must not stand between the caller and the answer.
      return true;
    }
  }

  feed(bytes: Uint8Array): Uint8Array {
    return this.#events.feed(bytes);
  }

  finish(): Uint8Array {
    const rest = this.#events.end();
    this.#held.meterEnded(this.#meter);
    return rest;
  }

  cut(): void {
    if (this.#held.open) this.#held.meterCut(this.#meter);
  }

  beyond(): Error | null {
    const most = this.#held.tokensMax;
    if (most === undefined || this.#meter.finished) return null;
    if ((this.#meter.outputTokens ?? 0) <= most) return null;
    return new StreamCutError(
      denial({
        reason: "call_too_large",
        estimateUsd: this.#held.allowed?.amountUsd ?? null,
        detail: `the stream was cut after ${most} tokens, for which its hold pays`,
      }),
    );
  }
}

/** Reads a whole answer that is given on piece by piece. */
export class BodyPassing implements Reader {
  readonly #held: HeldCall;
  #parts: Uint8Array[] | null = [];
  #length = 0;

  constructor(held: HeldCall, reads: boolean) {
    this.#held = held;
    if (!reads) this.#parts = null;
  }

  feed(bytes: Uint8Array): Uint8Array {
    if (this.#parts !== null) {
      this.#length += bytes.length;
      // A copy: whoever is given the bytes may hand their memory on.
      if (this.#length > BODY_BYTES_MAX) this.#parts = null;
      else this.#parts.push(bytes.slice());
    }
    return bytes;
  }

  finish(): Uint8Array {
    this.#held.settle(this.#value());
    this.#parts = null;
    return NOTHING;
  }

  #value(): unknown {
    if (this.#parts === null) return null;
    const decoder = new TextDecoder();
    try {
      const texts = this.#parts.map((part) => decoder.decode(part, { stream: true }));
      return JSON.parse(texts.join("") + decoder.decode());
    } catch {
      return null;
    }
  }

  cut(): void {
    if (this.#held.open) this.#held.finish(null, { outcome: "cut" });
  }

  beyond(): null {
    return null;
  }
}
