/** One lease as this process has it: what is left by its own account, and what became of each draw. */

import { objectOf } from "../answers.js";
import { boundNano, type Counts, type Rates, UnpricedError } from "../estimate/index.js";
import { log, said } from "../log.js";
import { NANO_PER_USD } from "../money.js";
import { type PreflightOptions, preflightToWire } from "../requests.js";
import type { Allowed, Json, JsonObject } from "../results.js";
import type { Heard } from "../settling/draws.js";
import type { Resolution } from "../settling/resolution.js";

/** What noburn knows of a call by its lease. */
const KNOWN: ReadonlySet<string> = new Set(["model", "provider", "subject", "tags", "ttl_seconds"]);

/** A call that was allowed by a lease: it is ended through its draw, not by an authorization of its own. */
export interface Drawn extends Allowed {
  readonly draw: Draw;
}

/** Says whether a call was allowed by a lease. */
export function isDrawn(allowed: Allowed): allowed is Drawn {
  return "draw" in allowed;
}

/** What a lease is made of. `tokens` and `requests` are what it has; undefined is no bound. */
export interface LeaseTerms {
  readonly id: string;
  readonly authorization: string;
  readonly nonce: string;
  readonly nano: bigint;
  readonly tokens: number | undefined;
  readonly requests: number | undefined;
  /** Nothing is drawn from this moment of the process's clock on. */
  readonly until: number;
  readonly rates: Rates;
  /** The output cap of calls that name none. */
  readonly cap: number;
  readonly put: (item: Resolution) => void;
  readonly now: number;
}

/** An amount to draw calls from until a moment of this process's clock. */
export class Lease {
  readonly terms: LeaseTerms;
  recalled: string | undefined;
  /** When a report of it was last answered, and when the next may be tried. */
  heardAt: number;
  triesAt: number;
  /** When a call was last drawn from it. */
  drawnAt: number;
  #left: bigint;
  #leftTokens: number;
  #leftRequests: number;
  #taken = 0;
  #ended = 0;
  #told = 0;
  #heard = 0;
  readonly #reckoned = new Map<number, bigint>();

  constructor(terms: LeaseTerms) {
    this.terms = terms;
    this.heardAt = this.triesAt = this.drawnAt = terms.now;
    this.#left = terms.nano;
    this.#leftTokens = terms.tokens ?? Number.POSITIVE_INFINITY;
    this.#leftRequests = terms.requests ?? Number.POSITIVE_INFINITY;
  }

  /** What the next draw may be bound by, in nano-USD. */
  get left(): bigint {
    return this.#left;
  }

  /** How many draws were reported, and whether nothing is in flight and every report was answered. */
  get standing(): { readonly told: number; readonly quiet: boolean } {
    return { told: this.#told, quiet: this.#taken === this.#ended && this.#told === this.#heard };
  }

  /** The most that a call can cost by this lease's rates. Throws UnpricedError. */
  bound(asked: PreflightOptions, cap: number): bigint {
    const counts: Counts = {
      inputTokens: asked.inputTokens,
      maxOutputTokens: cap,
      n: asked.n ?? 1,
      cachedInputTokens: asked.cachedInputTokens ?? null,
      textOnly: !(asked.images || asked.audio),
      images: asked.images ?? 0,
      toolCalls: asked.tools ?? {},
      serviceTier: asked.serviceTier ?? null,
    };
    return boundNano(this.terms.rates, counts);
  }

  /** Takes a call's bound, or undefined where it does not fit, or nothing may be drawn any more. */
  draw(nano: bigint, tokens: number, now: number, asked: PreflightOptions): Draw | undefined {
    if (now >= this.terms.until || this.recalled !== undefined) return undefined;
    if (nano > this.#left || tokens > this.#leftTokens || this.#leftRequests < 1) return undefined;
    this.#left -= nano;
    this.#leftTokens -= tokens;
    this.#leftRequests -= 1;
    this.#taken += 1;
    this.drawnAt = now;
    return new Draw(this, this.#taken, nano, tokens, asked);
  }

  /** Lets nothing be drawn any more. */
  retire(why: string): void {
    this.recalled ??= why;
  }

  /** A call was not made: all of its bound comes back, and nothing is told of it. */
  void(draw: Draw): void {
    this.#left += draw.nano;
    this.#leftTokens += draw.tokens;
    this.#leftRequests += 1;
    this.#ended += 1;
  }

  /** A call ended: what it did not use comes back, and it is reported. */
  settle(draw: Draw, body: JsonObject): void {
    const usage = body.usage;
    const [nano, tokens] = usage == null ? [draw.nano, draw.tokens] : this.#used(objectOf(usage), draw);
    const { authorization: _, ...rest } = body;
    const told: JsonObject = {
      seq: draw.sequence,
      bound_usd: usdText(draw.nano),
      bound_tokens: draw.tokens,
      call: draw.said(),
      ...rest,
    };
    const { id, authorization, nonce, put } = this.terms;
    this.#reckoned.set(draw.sequence, nano);
    this.#left += draw.nano - nano;
    this.#leftTokens += draw.tokens - tokens;
    this.#ended += 1;
    this.#told += 1;
    put({
      op: "draw",
      key: `${id}:${nonce}:${draw.sequence}`,
      body: { id, authorization, nonce, draw: told },
    });
  }

  /** The most that it can have cost, until noburn says it exactly, and its tokens. */
  #used(usage: JsonObject, draw: Draw): [bigint, number] {
    const count = (value: Json | undefined): number => (typeof value === "number" ? value : 0);
    const [inputs, outputs] = [count(usage.input_tokens), count(usage.output_tokens)];
    const tools = Object.entries(objectOf(usage.tool_calls)).map(([name, uses]) => [name, count(uses)]);
    try {
      const nano = boundNano(this.terms.rates, {
        inputTokens: inputs,
        maxOutputTokens: outputs,
        toolCalls: Object.fromEntries(tools) as Record<string, number>,
        serviceTier: typeof usage.service_tier === "string" ? usage.service_tier : null,
      });
      return [nano, inputs + outputs];
    } catch (error) {
      if (error instanceof UnpricedError) return [draw.nano, inputs + outputs];
      throw error;
    }
  }

  /** A report was answered: draws by their numbers, with what each cost, where that was told. */
  heard(results: readonly Heard[], recall: string | undefined, now: number): void {
    for (const [sequence, cost] of results) {
      const reckoned = this.#reckoned.get(sequence);
      if (reckoned === undefined) continue;
      this.#reckoned.delete(sequence);
      if (cost !== null) this.#left += reckoned - cost;
      this.#heard += 1;
    }
    this.heardAt = now;
    if (recall !== undefined && this.recalled === undefined) {
      log("debug", `lease ${this.terms.id} is recalled: ${recall}`);
      this.recalled = recall;
    }
  }
}

/** One call of a lease. `put` is what a held call gives its end to, as it would give it to the settler. */
export class Draw {
  /** What tells the call from others, once that is known. */
  fingerprint: string | undefined;
  readonly #lease: Lease;
  readonly #asked: PreflightOptions;
  readonly sequence: number;
  readonly nano: bigint;
  readonly tokens: number;

  constructor(lease: Lease, sequence: number, nano: bigint, tokens: number, asked: PreflightOptions) {
    this.#lease = lease;
    this.sequence = sequence;
    this.nano = nano;
    this.tokens = tokens;
    this.#asked = asked;
  }

  /** What the log of decisions is told of the call. */
  said(): JsonObject {
    const wire = preflightToWire({ ...this.#asked, fingerprint: this.fingerprint }, 0);
    return Object.fromEntries(Object.entries(wire).filter(([name]) => !KNOWN.has(name)));
  }

  /** Ends it. Never throws. */
  put(item: Resolution): void {
    try {
      if (item.op === "void") this.#lease.void(this);
      else this.#lease.settle(this, item.body);
    } catch (error) {
      // It stays taken, and its lease open, until that is presumed spent.
      log("error", `a draw could not be ended: ${item.key}: ${said(error)}`);
    }
  }
}

/** Nano-USD as the wire of leases has it, with all nine places. */
export function usdText(nano: bigint): string {
  return `${nano / NANO_PER_USD}.${(nano % NANO_PER_USD).toString().padStart(9, "0")}`;
}
