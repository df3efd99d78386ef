/** The client: asks before a call and tells afterwards, by hand. */

import type { Reply } from "./answers.js";
import * as answers from "./answers.js";
import { neverBilled } from "./calls.js";
import { type ClientOptions, type Config, readConfig } from "./config.js";
import type { NoburnError } from "./errors.js";
import { AROUND, ask, decide, type Lost, type Send } from "./exchange.js";
import { log, said } from "./log.js";
import type { Authorization, PreflightOptions, Request, Settlement } from "./requests.js";
import * as requests from "./requests.js";
import type { Allowed, Denied, Extended, JsonObject, Remaining, Settled } from "./results.js";
import type { NewRun, RunState } from "./runs.js";
import * as runs from "./runs.js";
import { state } from "./state.js";

const PRICE_LISTS_MAX = 64;

/** What a settle may say beside the usage. */
export type SettleOptions = Omit<Settlement, "authorization" | "usage"> & {
  readonly idempotencyKey?: string | undefined;
};

/** Asks noburn before an LLM call and tells it afterwards. Throws AuthenticationError without a key. */
export class Noburn {
  protected readonly config: Config;
  readonly #fetch: typeof globalThis.fetch | undefined;
  readonly #prices = new Map<string | undefined, { etag: string | undefined; book: JsonObject }>();
  readonly #send: Send = (request) => this.send(request);

  constructor(options: ClientOptions = {}) {
    this.config = readConfig(options);
    this.#fetch = options.fetch;
  }

  /** Where noburn is. */
  get baseUrl(): string {
    return this.config.baseUrl;
  }

  /**
   * Places a hold for a call and returns its authorization.
   *
   * Throws BudgetExceededError for a refusal, PriceUnknownError for a model without a price, UnavailableError when nothing
   * could be decided.
   */
  async preflight(asked: PreflightOptions): Promise<Allowed> {
    const found = await this.decide(asked);
    if (found.decision === "deny") throw answers.refusal(found, asked.model, asked.provider);
    return found;
  }

  /** Does what `preflight` does, but returns a refusal instead of throwing it. */
  async decide(asked: PreflightOptions): Promise<Allowed | Denied> {
    return decide(this.#send, requests.checkPreflight(asked), this.config.patience);
  }

  /**
   * Runs a function under a hold: put `call.model` and `call.maxOutputTokens` into the provider call, and `call.settle` with
   * what it used.
   *
   * Left without a settle, the hold is voided after a failure that the provider does not bill, and otherwise presumed spent:
   * outcome `cut` after any other error, with a warning in the log after none. Throws as `preflight` does.
   */
  async call<T>(asked: PreflightOptions, fn: (call: Call) => T | Promise<T>): Promise<T> {
    const call = new Call(this, await this.preflight(asked));
    let result: T;
    try {
      result = await fn(call);
    } catch (error) {
      await call.ended({ error });
      throw error;
    }
    await call.ended(undefined);
    return result;
  }

  /**
   * Reports what a call used: a Usage, noburn's form, or a provider's answer or usage.
   *
   * null means unknown: the hold is presumed spent, and a later settle corrects it. Throws ConflictError when the hold was
   * settled with other numbers.
   */
  async settle(authorization: Authorization, usage: unknown, options: SettleOptions = {}): Promise<Settled> {
    const { idempotencyKey, ...more } = options;
    return answers.settled(
      await this.ask(requests.settle({ authorization, usage, ...more }, idempotencyKey)),
    );
  }

  /** Settles up to 1,000 holds; returns for each, in order, what came of it or its error. */
  async settleBatch(
    settlements: readonly Settlement[],
    options: { readonly idempotencyKey?: string } = {},
  ): Promise<(Settled | NoburnError)[]> {
    const reply = await this.ask(requests.settleBatch(settlements, options.idempotencyKey));
    return answers.settledBatch(reply, settlements.length);
  }

  /** Frees the hold of a call that never reached the provider or was not billed. */
  async void(
    authorization: Authorization,
    options: { readonly idempotencyKey?: string } = {},
  ): Promise<Settled> {
    return answers.settled(await this.ask(requests.voiding(authorization, options.idempotencyKey)));
  }

  /**
   * Lengthens the life of a hold, given as what `preflight` or `extend` returned, to so long from now.
   *
   * Throws ConflictError when its epoch is closed, InvalidRequestError when it is resolved already.
   */
  async extend(
    hold: Allowed | Extended,
    ttlSeconds: number,
    options: { readonly idempotencyKey?: string } = {},
  ): Promise<Extended> {
    return answers.extended(await this.ask(requests.extend(hold, ttlSeconds, options.idempotencyKey)), hold);
  }

  /** Returns what these subjects have left in every budget that a call of theirs would meet. */
  async remaining(subjects: requests.Subjects = {}): Promise<Remaining> {
    return answers.remaining(await this.ask(requests.remaining(subjects)));
  }

  /** Returns the prices in effect, of one provider or of all; fetches them again only when they changed. */
  async prices(options: { readonly provider?: string | undefined } = {}): Promise<JsonObject> {
    const held = this.#prices.get(options.provider);
    const reply = await this.ask(requests.prices(options.provider, held?.etag));
    if (reply.status === 304 && held !== undefined) return held.book;
    const book = answers.answer(reply);
    if (this.#prices.size >= PRICE_LISTS_MAX) this.#prices.clear();
    this.#prices.set(options.provider, { etag: reply.header("etag") ?? undefined, book });
    return book;
  }

  /** Runs a function as a run: its calls, and those of runs inside it, are under the run's caps. */
  run<T>(wanted: NewRun, fn: (run: runs.Running) => T | Promise<T>): Promise<T> {
    return runs.running((request) => this.ask(request), wanted, fn);
  }

  /** Starts a run; name its id in `run` of the calls. Throws BudgetExceededError below a run that is over. */
  async startRun(wanted: NewRun = {}): Promise<RunState> {
    return runs.started(await this.ask(runs.startRequest(wanted, undefined)));
  }

  /** Stops a run and all below it, from anywhere: no further call of them is let through. */
  async stopRun(run: string, reason = ""): Promise<RunState> {
    return runs.closed(await this.ask(runs.closeRequest(run, "stop", reason)));
  }

  /** Ends a run and all below it; the answer's `summary` says what they used. */
  async endRun(run: string, reason = ""): Promise<RunState> {
    return runs.closed(await this.ask(runs.closeRequest(run, "end", reason)));
  }

  /** Sends a request until it is answered, within this client's patience. Throws UnavailableError. */
  ask(request: Request): Promise<Reply> {
    return ask(this.#send, request, this.config.patience, AROUND);
  }

  /** Sends one request once. Never throws. */
  async send(request: Request): Promise<Reply | Lost> {
    const headers: Record<string, string> = { ...this.config.headers, ...request.headers };
    if (request.idempotencyKey !== undefined) headers["Idempotency-Key"] = request.idempotencyKey;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      controller.abort(new DOMException("noburn did not answer in time", "TimeoutError"));
    }, this.config.timeoutMs + request.waitMs);
    try {
      const response = await (this.#fetch ?? ownFetch())(this.config.baseUrl + request.path, {
        method: request.method,
        headers,
        signal: controller.signal,
        ...(request.body === undefined ? {} : { body: request.body }),
        ...unstored(),
      });
      const content = await response.text();
      log("debug", `${request.method} ${request.path}: ${response.status}`);
      return { status: response.status, header: (name) => response.headers.get(name), content };
    } catch (error) {
      log("debug", `${request.method} ${request.path}: ${said(error)}`);
      return { error };
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The fetch of the runtime, also where the global one is patched so that calls to providers pass the gate. */
export function ownFetch(): typeof globalThis.fetch {
  const own = state().shared.get("fetch") as typeof globalThis.fetch | undefined;
  return own ?? globalThis.fetch;
}

let cacheable: boolean | undefined;

/** Frameworks keep answers of fetch by default; a runtime without the option throws where it is named. */
function unstored(): { cache?: "no-store" } {
  if (cacheable === undefined) {
    try {
      new globalThis.Request("http://noburn.invalid", { cache: "no-store" });
      cacheable = true;
    } catch {
      cacheable = false;
    }
  }
  return cacheable ? { cache: "no-store" } : {};
}

/** A call under its hold. */
export class Call {
  readonly #client: Noburn;
  readonly #started = AROUND.clock();
  #allowed: Allowed;
  #resolved = false;

  constructor(client: Noburn, allowed: Allowed) {
    this.#client = client;
    this.#allowed = allowed;
  }

  /** The pre-flight's answer. */
  get allowed(): Allowed {
    return this.#allowed;
  }

  /** What settles this call. */
  get authorization(): string | null {
    return this.#allowed.authorization;
  }

  /** The model to call: the one asked for, or the cheaper one that a budget downgraded it to. */
  get model(): string {
    return this.#allowed.model;
  }

  /** The cap to put into the provider call; null where the call has no output, as embeddings. */
  get maxOutputTokens(): number | null {
    return this.#allowed.maxOutputTokens;
  }

  /** Reports what the call used, as `Noburn.settle` does; the latency is measured unless given. */
  async settle(usage: unknown, options: SettleOptions = {}): Promise<Settled> {
    const { idempotencyKey, latencyMs = AROUND.clock() - this.#started, ...more } = options;
    const item = { authorization: this.#allowed, usage, latencyMs, ...more };
    const request = requests.settle(item, idempotencyKey);
    this.#resolved = true;
    return answers.settled(await this.#client.ask(request));
  }

  /** Lengthens the hold's life to so long from now, for a call that takes longer than expected. */
  async extend(ttlSeconds: number): Promise<void> {
    const longer = await this.#client.extend(this.#allowed, ttlSeconds);
    const { authorization, expiresAt } = longer;
    this.#allowed = { ...this.#allowed, authorization, expiresAt };
  }

  /** Frees the hold: the call was not made, or not billed. */
  async void(): Promise<Settled> {
    const request = requests.voiding(this.#allowed);
    this.#resolved = true;
    return answers.settled(await this.#client.ask(request));
  }

  /** Resolves what is open once its function is over. Never throws. */
  async ended(failed: { readonly error: unknown } | undefined): Promise<void> {
    // A settle that was tried and failed may have arrived: sending another one would contradict it.
    if (this.#resolved || this.#allowed.authorization === null) return;
    const where = `hold ${this.#allowed.holdId}, model ${this.#allowed.model}`;
    try {
      if (failed === undefined) {
        log("warning", `a call was not settled, so its hold is presumed spent: ${where}`);
        await this.settle(null);
      } else if (neverBilled(failed.error)) {
        await this.void();
      } else {
        await this.settle(null, { outcome: "cut" });
      }
    } catch (error) {
      // The hold expires into the same presumption, and the call's own error must reach its caller.
      log("warning", `a hold could not be resolved: ${where}: ${said(error)}`);
    }
  }
}
