/**
 * Spans and metrics by OpenTelemetry's GenAI conventions where a program set it up; elsewhere nothing.
 *
 * What `@opentelemetry/api` registers is found where it registers it, without an import that a bundler would look for.
 * Neither prompts nor answers are recorded.
 */

import { AROUND } from "./exchange.js";
import type { Asked } from "./gate/endpoints.js";
import { log, said } from "./log.js";
import type { Outcome } from "./requests.js";
import type { Allowed, Denied, Settled } from "./results.js";
import type { Usage } from "./usage.js";
import { version } from "./version.js";

const API = Symbol.for("opentelemetry.js.api.1");
const NAME = "@noburn/sdk";
/** OpenTelemetry's numbers: a client's span, a failed status. */
const CLIENT = 2;
const FAILED = 2;

type Attributes = Record<string, string | number | boolean>;

interface OtelSpan {
  setAttributes(attributes: Attributes): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  end(): void;
}
interface Histogram {
  record(value: number, attributes: Attributes): void;
}
interface Counter {
  add(value: number, attributes: Attributes): void;
}
interface OtelMeter {
  createHistogram(name: string, options: { unit: string; description: string }): Histogram;
  createCounter(name: string, options: { unit: string; description: string }): Counter;
}
interface OtelTracer {
  startSpan(name: string, options: { kind: number; attributes: Attributes }): OtelSpan;
}
interface Registered {
  readonly trace?: { getTracer(name: string, version: string): OtelTracer };
  readonly metrics?: { getMeter(name: string, version: string): OtelMeter };
}

/** The instruments of this library. */
export class Telemetry {
  readonly #tracer: OtelTracer | undefined;
  readonly tokens: Histogram | undefined;
  readonly duration: Histogram | undefined;
  readonly decisions: Counter | undefined;
  readonly cost: Counter | undefined;

  constructor(found: Registered) {
    this.#tracer = found.trace?.getTracer(NAME, version);
    const meter = found.metrics?.getMeter(NAME, version);
    this.tokens = meter?.createHistogram("gen_ai.client.token.usage", {
      unit: "{token}",
      description: "Tokens of calls.",
    });
    this.duration = meter?.createHistogram("gen_ai.client.operation.duration", {
      unit: "s",
      description: "Duration of calls.",
    });
    this.decisions = meter?.createCounter("noburn.decisions", {
      unit: "{call}",
      description: "Calls by what was decided.",
    });
    this.cost = meter?.createCounter("noburn.cost", {
      unit: "USD",
      description: "What settled calls cost.",
    });
  }

  /** Starts the span of one attempt. */
  begin(asked: Asked): Span {
    const attributes: Attributes = {
      "gen_ai.operation.name": asked.endpoint.operation,
      "gen_ai.request.model": asked.model,
    };
    if (asked.provider) attributes["gen_ai.provider.name"] = asked.provider;
    const name = `${asked.endpoint.operation} ${asked.model}`;
    return new Span(this, this.#tracer?.startSpan(name, { kind: CLIENT, attributes }), attributes);
  }

  /** Notes what a call cost, once noburn said so. */
  settled(model: string, result: Settled): void {
    const usd = Number(result.costUsd);
    if (usd) this.cost?.add(usd, { "gen_ai.request.model": model });
  }
}

/** The span of one attempt, from its question to the end of its answer. */
export class Span {
  readonly #telemetry: Telemetry;
  readonly #span: OtelSpan | undefined;
  readonly #attributes: Attributes;
  readonly #started = AROUND.clock();

  constructor(telemetry: Telemetry, span: OtelSpan | undefined, attributes: Attributes) {
    this.#telemetry = telemetry;
    this.#span = span;
    this.#attributes = attributes;
  }

  /** Notes the decision; undefined is one that noburn did not make, in an outage. */
  decided(decision: Allowed | Denied | undefined, observed: boolean): void {
    const told: Attributes = { "noburn.decision": decision?.decision ?? "unasked" };
    if (decision?.decision === "deny") {
      told["noburn.reason"] = decision.reason;
      told["noburn.observed"] = observed;
    }
    this.#telemetry.decisions?.add(1, { ...this.#attributes, ...told });
    if (decision?.decision === "allow") {
      if (decision.holdId !== null) told["noburn.hold.id"] = decision.holdId;
      if (decision.amountUsd !== null) told["noburn.cost.hold_usd"] = decision.amountUsd;
      if (decision.maxOutputTokens !== null) told["gen_ai.request.max_tokens"] = decision.maxOutputTokens;
    }
    this.#span?.setAttributes(told);
  }

  /** Ends the span of a call that was not made. */
  refused(error: unknown): void {
    const name = error instanceof Error ? error.name : typeof error;
    this.#span?.setAttributes({ "error.type": name });
    this.#span?.setStatus({ code: FAILED, message: name });
    this.#span?.end();
  }

  /** Ends the span of a call that was made. */
  end(outcome: Outcome, usage: Usage | null, model: string | undefined): void {
    const told: Attributes = { "noburn.outcome": outcome };
    if (model) told["gen_ai.response.model"] = model;
    if (usage !== null) {
      const counts = { input: usage.inputTokens ?? 0, output: usage.outputTokens ?? 0 };
      for (const [kind, count] of Object.entries(counts)) {
        told[`gen_ai.usage.${kind}_tokens`] = count;
        this.#telemetry.tokens?.record(count, { ...this.#attributes, "gen_ai.token.type": kind });
      }
    }
    this.#span?.setAttributes(told);
    if (outcome === "error") this.#span?.setStatus({ code: FAILED, message: outcome });
    this.#telemetry.duration?.record((AROUND.clock() - this.#started) / 1000, this.#attributes);
    this.#span?.end();
  }
}

let known: { registered: Registered; trace: unknown; metrics: unknown; telemetry: Telemetry } | undefined;

/** Returns telemetry as the program has set it up by now, or undefined where it has not. */
export function telemetry(): Telemetry | undefined {
  const registered = (globalThis as { [API]?: Registered })[API];
  if (registered?.trace === undefined && registered?.metrics === undefined) return undefined;
  if (
    known?.registered !== registered ||
    known.trace !== registered.trace ||
    known.metrics !== registered.metrics
  ) {
    try {
      const { trace, metrics } = registered;
      known = { registered, trace, metrics, telemetry: new Telemetry(registered) };
    } catch (error) {
      log("error", `OpenTelemetry as it is set up here cannot be used: ${said(error)}`);
      return undefined;
    }
  }
  return known.telemetry;
}
