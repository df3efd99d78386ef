/** The steps of one admission, without the asking itself. */

import * as answers from "../answers.js";
import { current, framework, optionsOf, over } from "../attribution.js";
import { neverLeft } from "../calls.js";
import {
  InvalidRequestError,
  isNoburnError,
  type NoburnError,
  UnavailableError,
  UnboundedError,
} from "../errors.js";
import { type Estimate, estimate, prepare, shapeOf } from "../estimate/index.js";
import { type Drawn, isDrawn } from "../leases/lease.js";
import { log } from "../log.js";
import { checkPreflight, newKey, type PreflightOptions, preflightToWire, WAIT_MS_MAX } from "../requests.js";
import { type Allowed, type Denied, explain, type JsonObject } from "../results.js";
import { type Span, telemetry } from "../telemetry.js";
import type { Usage } from "../usage.js";
import type { Asked } from "./endpoints.js";
import type { Gate } from "./gate.js";
import { HeldCall, type Holding, keyOf } from "./held.js";
import { boundNanoOf, tokensWithin } from "./prices.js";
import { note } from "./watch.js";

/** How often one call is counted anew because it is to use another model. */
const COUNTED_MAX = 3;

/** The cap of a call that names none while noburn cannot say the tenant's default. */
const CAP_UNASKED = 4_096;

type Said = ReturnType<typeof over>;

/** One admission. */
export class Asking {
  readonly asked: Asked;
  readonly said: Said;
  estimate: Estimate | undefined;
  question: PreflightOptions | undefined;
  readonly #gate: Gate;
  #span: Span | undefined;
  #counted = 0;
  #mayAsk = false;

  constructor(gate: Gate, asked: Asked) {
    this.#gate = gate;
    const near = over(over(asked.said, current()), asked.framework);
    this.said = over(over(near, framework()), gate.defaults);
    this.asked = { ...asked, provider: this.said.provider ?? asked.provider };
    this.#span = telemetry()?.begin(this.asked);
    try {
      this.question = this.#question();
    } catch (error) {
      if (!isNoburnError(error) || !this.observes) {
        this.refused(error);
        throw error;
      }
      log("warning", `observed: ${asked.endpoint.name} would be refused: ${error.message}`);
    }
  }

  /** Whether nothing is refused. */
  get observes(): boolean {
    return this.#gate.settings.mode === "observe";
  }

  #question(): PreflightOptions {
    const { asked, said } = this;
    const { endpoint, body, model, provider } = asked;
    const { settings } = this.#gate;
    let options: Partial<PreflightOptions>;
    if (endpoint.api !== null) {
      this.estimate = estimate(body, {
        api: endpoint.api,
        model,
        maxOutputTokens: said.maxOutputTokens ?? settings.maxOutputTokens,
        maxInputTokens: said.maxInputTokens,
      });
      options = { ...this.estimate.options(), ...shapeOf(endpoint.api, body) };
    } else {
      const found = endpoint.bound?.(body) ?? null;
      if (found === null && said.costUsd === undefined) {
        throw new UnboundedError(
          `noburn cannot bound this call of ${endpoint.name}: ${endpoint.why ?? "its cost is known afterwards"}. ` +
            'Say what it costs at most: context({ costUsd: "0.25" }, …), or the header x-noburn-cost-usd',
          { model, provider },
        );
      }
      options = { inputTokens: 0, maxOutputTokens: 1, ...found };
    }
    const waits = this.observes ? 0 : (asked.waitMs ?? settings.waitMs);
    return checkPreflight({
      inputTokens: 0,
      ...options,
      ...optionsOf(said),
      model: options.model ?? model,
      ...(provider === undefined ? {} : { provider }),
      fit: asked.fit ?? false,
      ttlSeconds: settings.ttlSeconds,
      waitMs: Math.min(waits, WAIT_MS_MAX, Math.trunc(settings.busyTimeoutMs)),
      idempotencyKey: newKey(),
    });
  }

  /** Adds what tells this request from others. */
  async fingerprinted(): Promise<void> {
    const { question, asked } = this;
    if (question === undefined || question.fingerprint !== undefined) return;
    const fingerprint = await this.#gate.fingerprints.of(asked.model, asked.body, asked.size);
    if (fingerprint !== undefined) this.question = { ...question, fingerprint };
  }

  /** The call allowed by a lease of this process, if there is one that it fits into. */
  drawn(): Drawn | undefined {
    const { question, asked } = this;
    if (question === undefined || this.#gate.leases === undefined) return undefined;
    return this.#gate.leases.draw(question, () =>
      this.#gate.fingerprints.of(asked.model, asked.body, asked.size),
    );
  }

  /** Whether the breaker lets this one ask, which it is asked once. */
  mayAsk(): boolean {
    this.#mayAsk ||= this.#gate.breaker.admits();
    return this.#mayAsk;
  }

  /** Whether to ask again: another model was chosen, by whose tokens the call is larger than what is held for it. */
  countsAnew(decision: Allowed | Denied): boolean {
    const { estimate: found, asked, question } = this;
    if (decision.decision === "deny" || question === undefined || found === undefined || this.observes) {
      return false;
    }
    if (!decision.model || decision.model === asked.model) return false;
    const other = estimate(asked.body, {
      api: found.api,
      model: decision.model,
      maxOutputTokens: found.maxOutputTokens ?? undefined,
      maxInputTokens: this.said.maxInputTokens,
    });
    if (other.inputTokens <= question.inputTokens) return false;
    this.free(decision);
    this.#counted += 1;
    if (this.#counted > COUNTED_MAX) {
      throw new UnboundedError(
        `policies chose another model for each count of this call, ${decision.model} at last`,
        { model: asked.model, provider: asked.provider },
      );
    }
    this.question = { ...question, inputTokens: other.inputTokens, idempotencyKey: newKey() };
    return true;
  }

  /** Turns an answer into a held call, or into the refusal that it is. */
  decided(decision: Allowed | Denied): HeldCall {
    this.#span?.decided(decision, this.observes);
    if (decision.decision === "deny") {
      if (!this.observes) throw answers.refusal(decision, this.asked.model, this.asked.provider);
      log("warning", `observed: ${explain(decision)}`);
      this.#gate.observed?.(this.asked, decision);
      return this.#held(this.asked.body, { denied: decision });
    }
    const body = this.observes ? this.asked.body : this.#prepared(decision);
    return this.#held(body, { allowed: decision, tokensMax: this.#tokensMax(decision) });
  }

  #prepared(allowed: Allowed): JsonObject {
    const { estimate: found, asked } = this;
    if (found === undefined) return asked.body;
    const other = Boolean(allowed.model) && allowed.model !== asked.model;
    const changes = other || (found.hasOutput && found.injectCap);
    if (changes && (asked.signed || (other && asked.modelFixed))) {
      this.free(allowed);
      const what = other ? `call ${allowed.model} instead` : "name an output cap in the call itself";
      const why = asked.signed ? "its request is signed already" : "its model stands in its address";
      throw new InvalidRequestError("The call cannot be changed", { errors: { body: `${why}; ${what}` } });
    }
    if (other) log("info", `${allowed.model} is called instead of ${asked.model}: ${allowed.rerouted}`);
    const cap = allowed.maxOutputTokens;
    if (!changes && (cap === null || cap === found.maxOutputTokens)) return asked.body;
    return prepare(found, asked.body, { model: other ? allowed.model : undefined, maxOutputTokens: cap });
  }

  #tokensMax(allowed: Allowed): number | undefined {
    const cuts = this.asked.cut ?? this.#gate.settings.cutStreams;
    if (!cuts || !this.asked.stream || this.observes || this.estimate === undefined) return undefined;
    return tokensWithin(this.#gate.wantPrices().book(), this.estimate, allowed, this.asked.provider);
  }

  #held(body: JsonObject, more: Partial<Holding>): HeldCall {
    note(undefined);
    return new HeldCall({
      asked: this.asked,
      body,
      put: this.#putter(more.allowed),
      estimate: this.estimate,
      span: this.#span,
      ...more,
    });
  }

  #putter(allowed: Allowed | undefined): Holding["put"] {
    if (allowed !== undefined && isDrawn(allowed)) return (item) => allowed.draw.put(item);
    return (item) => this.#gate.settler.put(item);
  }

  /** What becomes of a call about which noburn gave no answer, or none that is a decision. */
  undecided(error: NoburnError): HeldCall {
    if (error instanceof UnavailableError) return this.without(error);
    if (!this.observes) throw error;
    log("warning", `observed: noburn did not decide: ${error.message}`);
    return this.#unasked(this.asked.body, {});
  }

  /** What becomes of a call without an answer: refused, or let through softly. */
  without(error?: UnavailableError): HeldCall {
    if (this.observes) return this.#unasked(this.asked.body, {});
    const { allowance, prices } = this.#gate;
    const found = this.estimate;
    const cost =
      allowance === undefined || found === undefined
        ? undefined
        : boundNanoOf(prices, found, this.asked.provider, CAP_UNASKED);
    if (allowance === undefined || found === undefined || cost === undefined || !allowance.take(cost)) {
      throw (
        error ?? new UnavailableError("noburn does not answer, and is given time before it is asked again")
      );
    }
    log(
      "warning",
      `noburn does not answer: ${this.asked.endpoint.name} goes through unasked, softly (onUnavailable: "allow"), ` +
        `for at most ${cost} nano-USD`,
    );
    const cap = found.maxOutputTokens ?? CAP_UNASKED;
    const body = prepare(found, this.asked.body, { maxOutputTokens: cap });
    const { day } = allowance;
    const { model, provider } = this.asked;
    const after = (usage: Usage | null): void => {
      const spent = usage === null ? undefined : prices?.costNano(usage, model, provider);
      if (spent !== undefined && spent < cost) allowance.giveBack(cost - spent, day);
    };
    return this.#unasked(body, { after });
  }

  #unasked(body: JsonObject, more: Partial<Holding>): HeldCall {
    this.#span?.decided(undefined, this.observes);
    return this.#held(body, more);
  }

  /** Ends the span of a call that is not made, and tells whoever watches. */
  refused(error: unknown): void {
    if (isNoburnError(error)) note(error);
    this.#span?.refused(error);
    this.#span = undefined;
  }

  /** Frees the hold that a pre-flight without an answer may have placed. */
  reclaim(question: PreflightOptions, error: unknown): void {
    if (!(error instanceof UnavailableError) || question.idempotencyKey === undefined) return;
    if (error.cause !== undefined && neverLeft(error.cause)) return;
    const body = preflightToWire(question, question.waitMs ?? 0);
    this.#gate.settler.put({ op: "reclaim", key: question.idempotencyKey, body });
  }

  /** Frees what was placed for a call that is not made. */
  free(allowed: Allowed): void {
    if (!allowed.authorization) return;
    const put = this.#putter(allowed);
    put({ op: "void", key: keyOf(allowed), body: { authorization: allowed.authorization } });
  }
}
