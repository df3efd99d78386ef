import type { Estimate } from "../estimate/types.js";
import type { Outcome } from "../requests.js";
import type { Allowed, Denied, JsonObject } from "../results.js";
import type { Usage } from "../usage.js";
import type { Asked } from "./endpoints.js";
import type { Meter } from "./meters.js";

/**
 * An admitted attempt. Send `body` to the provider, then end it by exactly one of the methods.
 *
 * They return at once, throw nothing, and do nothing the second time: settlements go out in the background. Without an
 * authorization (observed, or let through in an outage) they only tell telemetry.
 */
export class HeldCall {
  declare readonly asked: Asked;
  declare readonly body: JsonObject;
  declare readonly allowed?: Allowed;
  /** What refused it, where the gate only observes. */
  declare readonly denied?: Denied;
  declare readonly estimate?: Estimate;
  /** Output beyond which a stream is to be cut at its hold. */
  declare readonly tokensMax?: number;

  /** The model to call. */
  get model(): string {
    throw new Error("not yet");
  }

  /** Whether nothing has ended it yet. */
  get open(): boolean {
    throw new Error("not yet");
  }

  /** Ends it with the provider's whole answer, whose usage is read. */
  settle(_answer: unknown): void {
    throw new Error("not yet");
  }

  /** Ends it with what was used; null presumes all of the hold spent, until somebody knows better. */
  finish(
    _usage: Usage | null,
    _how: { readonly outcome?: Outcome; readonly model?: string | undefined } = {},
  ): void {
    throw new Error("not yet");
  }

  /** Ends it with what a stream said that came to its end, or with what was seen of it. */
  meterEnded(_meter: Meter): void {
    throw new Error("not yet");
  }

  /** Ends it with what was seen of a stream that was cut, closed, cancelled or abandoned. */
  meterCut(_meter: Meter): void {
    throw new Error("not yet");
  }

  /** Ends it as never made or never billed: the hold is freed. */
  void(): void {
    throw new Error("not yet");
  }

  /** Ends it by an error of the attempt: voided where the request never left or was refused. */
  failed(_error: unknown): void {
    throw new Error("not yet");
  }
}
