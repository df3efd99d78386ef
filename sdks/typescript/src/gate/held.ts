/** A call that was admitted: what to send, and the ways in which its hold ends, each of them once. */

import { neverLeft } from "../calls.js";
import { isNoburnError } from "../errors.js";
import type { Estimate } from "../estimate/types.js";
import { AROUND } from "../exchange.js";
import { log, said } from "../log.js";
import { type Outcome, settlementToWire } from "../requests.js";
import type { Allowed, Denied, JsonObject } from "../results.js";
import type { Resolution } from "../settling/resolution.js";
import type { Span } from "../telemetry.js";
import { read, type Usage } from "../usage.js";
import type { Asked } from "./endpoints.js";
import type { Meter } from "./meters.js";

/** What a held call is made of. */
export interface Holding {
  readonly asked: Asked;
  readonly body: JsonObject;
  readonly put: (resolution: Resolution) => void;
  readonly allowed?: Allowed | undefined;
  readonly denied?: Denied | undefined;
  readonly estimate?: Estimate | undefined;
  readonly tokensMax?: number | undefined;
  readonly span?: Span | undefined;
  readonly after?: ((usage: Usage | null) => void) | undefined;
}

/**
 * An admitted attempt. Send `body` to the provider, then end it by exactly one of the methods.
 *
 * They return at once, throw nothing, and do nothing the second time: settlements go out in the background. Without an
 * authorization (observed, or let through in an outage) they only tell telemetry.
 */
export class HeldCall {
  readonly asked: Asked;
  readonly body: JsonObject;
  readonly allowed: Allowed | undefined;
  /** What refused it, where the gate only observes. */
  readonly denied: Denied | undefined;
  readonly estimate: Estimate | undefined;
  /** Output beyond which a stream is to be cut at its hold; undefined for never. */
  readonly tokensMax: number | undefined;
  readonly #put: (resolution: Resolution) => void;
  readonly #span: Span | undefined;
  readonly #after: ((usage: Usage | null) => void) | undefined;
  readonly #started = AROUND.clock();
  #open = true;

  constructor(holding: Holding) {
    this.asked = holding.asked;
    this.body = holding.body;
    this.allowed = holding.allowed;
    this.denied = holding.denied;
    this.estimate = holding.estimate;
    this.tokensMax = holding.tokensMax;
    this.#put = holding.put;
    this.#span = holding.span;
    this.#after = holding.after;
  }

  /** The model to call. */
  get model(): string {
    return this.allowed?.model || this.asked.model;
  }

  /** Whether nothing has ended it yet. */
  get open(): boolean {
    return this.#open;
  }

  /** Ends it with the provider's whole answer, whose usage is read. */
  settle(answer: unknown): void {
    let usage: Usage | null = null;
    try {
      if (answer != null) usage = this.asked.endpoint.read?.(answer) ?? null;
    } catch (error) {
      log(
        "warning",
        `${this.#name}: its usage cannot be read, so its hold is presumed spent: ${said(error)}`,
      );
    }
    const model = read(answer, "model");
    this.finish(usage, typeof model === "string" ? { model } : {});
  }

  /** Ends it with what was used; null presumes all of the hold spent, until somebody knows better. */
  finish(
    usage: Usage | null,
    how: { readonly outcome?: Outcome | undefined; readonly model?: string | undefined } = {},
  ): void {
    if (!this.#take()) return;
    const { outcome = "ok", model } = how;
    const { allowed } = this;
    if (allowed?.authorization) {
      const latencyMs = AROUND.clock() - this.#started;
      try {
        const body = settlementToWire({ authorization: allowed, usage, model, outcome, latencyMs });
        this.#put({ op: "settle", key: keyOf(allowed), body });
      } catch (error) {
        if (!isNoburnError(error)) log("error", `${this.#name}: ${said(error)}`);
        else log("warning", `${this.#name}: could not be settled: ${said(error)}`);
      }
    }
    this.#end(outcome, usage, model, false);
  }

  /** Ends it with what a stream said that came to its end, or with what was seen of it. */
  meterEnded(meter: Meter): void {
    const usage = meter.finished ? meter.usage() : this.#seen(meter);
    this.finish(usage, { outcome: meter.failed ? "error" : "ok", model: meter.model });
  }

  /** Ends it with what was seen of a stream that was cut, closed, cancelled or abandoned. */
  meterCut(meter: Meter): void {
    if (meter.finished) this.finish(meter.usage(), { model: meter.model });
    else this.finish(this.#seen(meter), { outcome: meter.failed ? "error" : "cut", model: meter.model });
  }

  #seen(meter: Meter): Usage | null {
    try {
      return meter.seen(this.estimate);
    } catch (error) {
      log("error", `${this.#name}: what was seen of it cannot be counted: ${said(error)}`);
      return null;
    }
  }

  /** Ends it as never made or never billed: the hold is freed. */
  void(): void {
    if (!this.#take()) return;
    const { allowed } = this;
    if (allowed?.authorization) {
      this.#put({ op: "void", key: keyOf(allowed), body: { authorization: allowed.authorization } });
    }
    this.#end("error", null, undefined, true);
  }

  /** Ends it by an error of the attempt: voided where the request never left or was refused. */
  failed(error: unknown): void {
    if (neverLeft(error)) this.void();
    // After an error of the transport, or of the caller's own, the provider may go on and bill.
    else this.finish(null, { outcome: "cut" });
  }

  #take(): boolean {
    const was = this.#open;
    this.#open = false;
    return was;
  }

  #end(outcome: Outcome, usage: Usage | null, model: string | undefined, voided: boolean): void {
    try {
      this.#after?.(voided ? {} : usage);
      this.#span?.end(outcome, usage, model);
    } catch (error) {
      log("error", `telemetry failed: ${said(error)}`);
    }
  }

  get #name(): string {
    return `${this.asked.endpoint.name} (${this.model})`;
  }
}

/** What a hold's resolution is known by. */
export function keyOf(allowed: Allowed): string {
  return allowed.holdId ?? String(allowed.authorization);
}
