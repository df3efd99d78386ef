/** The gate: asks about a call before it is made, says what to send, and sees to it that its hold ends. */

import { objectOf } from "../answers.js";
import { type Attribution, NOTHING } from "../attribution.js";
import { Noburn } from "../client.js";
import { type ClientOptions, type Config, readConfig } from "../config.js";
import { isNoburnError } from "../errors.js";
import { AROUND, decide } from "../exchange.js";
import { Leases } from "../leases/pool.js";
import { livesLong } from "../leases/runtime.js";
import { log } from "../log.js";
import { toNano } from "../money.js";
import type { PreflightOptions } from "../requests.js";
import type { Allowed, Denied } from "../results.js";
import { atEnd } from "../settling/ending.js";
import { Settler } from "../settling/settler.js";
import { findWaitUntil } from "../settling/waiting.js";
import { telemetry } from "../telemetry.js";
import { Allowance } from "./allowance.js";
import { Asking } from "./asking.js";
import { Breaker } from "./breaker.js";
import type { Asked } from "./endpoints.js";
import { Fingerprints } from "./fingerprints.js";
import type { HeldCall } from "./held.js";
import { PriceCache } from "./prices.js";
import { type Settings, settingsOf } from "./settings.js";

/** How a client in the background asks, where nobody waits. */
const PATIENT = { timeoutMs: 10_000, maxRetries: 2, retryTimeoutMs: 10_000 };

/**
 * A gate's options: its `Settings`, where noburn is, and whom calls are for where nothing more specific says so.
 *
 * `apiKey` and `baseUrl` default to NOBURN_API_KEY and NOBURN_BASE_URL.
 */
export type GateOptions = { readonly [K in keyof Settings]?: Settings[K] | undefined } & {
  readonly apiKey?: string | undefined;
  readonly baseUrl?: string | undefined;
  readonly defaults?: Attribution | undefined;
  /** What is used in the place of the global one to reach noburn. */
  readonly fetch?: typeof globalThis.fetch | undefined;
};

/**
 * Asks noburn about calls and settles them in the background; one for a process.
 *
 * Throws AuthenticationError without a key, InvalidRequestError for bad settings.
 */
export class Gate {
  readonly settings: Settings;
  readonly defaults: Attribution;
  readonly breaker = new Breaker(AROUND.clock);
  readonly allowance: Allowance | undefined;
  readonly fingerprints: Fingerprints;
  readonly settler: Settler;
  readonly leases: Leases | undefined;
  /** The client that callers are asked through. */
  readonly client: Noburn;
  /** Called with each call that would have been refused, in mode observe. */
  observed: ((asked: Asked, denied: Denied) => void) | undefined;
  readonly #config: Config;
  readonly #patient: Noburn;
  readonly #forget: () => void;
  #prices: PriceCache | undefined;
  #closing: Promise<boolean> | undefined;

  constructor(options: GateOptions = {}) {
    this.settings = settingsOf(options);
    this.defaults = options.defaults ?? NOTHING;
    const { timeoutMs, maxRetries, retryTimeoutMs, waitMs, busyTimeoutMs } = this.settings;
    const named: ClientOptions = { apiKey: options.apiKey, baseUrl: options.baseUrl, fetch: options.fetch };
    const asking = { ...named, timeoutMs, maxRetries, retryTimeoutMs, waitMs, busyTimeoutMs };
    this.#config = readConfig(asking);
    this.client = new Noburn(asking);
    this.#patient = new Noburn({ ...named, ...PATIENT });
    this.fingerprints = new Fingerprints(this.#config.apiKey);
    if (this.settings.onUnavailable === "allow") {
      this.allowance = new Allowance(toNano(this.settings.allowUsdMax ?? 0));
    }
    this.settings.outbox?.open(this.#config.baseUrl, this.#config.apiKey);
    this.settler = new Settler({
      client: this.#patient,
      outbox: this.settings.outbox,
      told: (item, result) => {
        const body = objectOf(item.body.draw ?? item.body);
        telemetry()?.settled(typeof body.model === "string" ? body.model : "", result);
        if (result.overrunUsd !== "0") {
          log("info", `${item.key} cost ${result.overrunUsd} USD more than it held`);
        }
      },
      hold: (idle) => (this.settings.waitUntil ?? findWaitUntil())?.(idle()),
    });
    if ((this.settings.leases ?? livesLong()) && this.settings.mode === "enforce") {
      this.leases = new Leases({
        client: this.#patient,
        settler: this.settler,
        ttlSeconds: this.settings.ttlSeconds,
        clock: AROUND.clock,
      });
    }
    if (this.settings.cutStreams || this.allowance !== undefined) this.wantPrices().book();
    this.#forget = atEnd(() => this.close());
  }

  /** Where noburn is. */
  get baseUrl(): string {
    return this.#config.baseUrl;
  }

  /** The prices held here, if they were wanted. */
  get prices(): PriceCache | undefined {
    return this.#prices;
  }

  /** Returns the prices held here; the first call begins to fetch them. */
  wantPrices(): PriceCache {
    this.#prices ??= new PriceCache(this.#patient, AROUND.clock);
    return this.#prices;
  }

  /**
   * Asks about an attempt and returns it held. Throws NoburnError for whatever forbids it.
   *
   * Once `asked.signal` is aborted its reason is thrown, and a hold that was placed meanwhile is freed.
   */
  async admit(asked: Asked): Promise<HeldCall> {
    asked.signal?.throwIfAborted();
    const asking = new Asking(this, asked);
    try {
      const drawn = asking.drawn();
      if (drawn !== undefined) return asking.decided(drawn);
      await asking.fingerprinted();
      while (asking.question !== undefined && asking.mayAsk()) {
        let decision: Allowed | Denied;
        try {
          decision = await this.#ask(asking, asking.question);
        } catch (error) {
          if (!isNoburnError(error)) throw error;
          return asking.undecided(error);
        }
        if (!asking.countsAnew(decision)) return asking.decided(decision);
      }
      return asking.without();
    } catch (error) {
      asking.refused(error);
      throw error;
    }
  }

  async #ask(asking: Asking, question: PreflightOptions): Promise<Allowed | Denied> {
    const { waitMs, busyTimeoutMs, maxRetries, retryTimeoutMs } = this.settings;
    const patience = { waitMs, busyTimeoutMs, maxRetries, retryTimeoutMs };
    const answer = decide((request) => this.client.send(request), question, patience).then(
      (decision) => {
        this.breaker.answered();
        return decision;
      },
      (error: unknown) => {
        if (isNoburnError(error) && error.name !== "UnavailableError") this.breaker.answered();
        else this.breaker.failed();
        asking.reclaim(question, error);
        throw error;
      },
    );
    const { signal } = asking.asked;
    return signal === undefined ? answer : orAborted(answer, signal, (allowed) => asking.free(allowed));
  }

  /** Waits until every settlement so far has arrived; false if that took too long. */
  flush(timeoutMs: number = this.settings.flushTimeoutMs): Promise<boolean> {
    return this.settler.flush(timeoutMs);
  }

  /** Flushes and closes everything. False if settlements are left, which only an outbox keeps. */
  close(timeoutMs: number = this.settings.flushTimeoutMs): Promise<boolean> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  async #close(timeoutMs: number): Promise<boolean> {
    this.#forget();
    if (this.leases !== undefined) {
      // A lease is given back once what was drawn of it is told.
      await this.settler.flush(timeoutMs);
      await this.leases.close(timeoutMs);
    }
    const done = await this.settler.close(timeoutMs);
    if (!done) {
      const where = this.settings.outbox === undefined ? "lost" : "left in the outbox, for the next process";
      log("warning", `settlements are ${where}`);
    }
    return done;
  }
}

/** Waits for an answer or for the caller's abort, whichever is first; what is allowed after that is freed. */
function orAborted(
  answer: Promise<Allowed | Denied>,
  signal: AbortSignal,
  free: (allowed: Allowed) => void,
): Promise<Allowed | Denied> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      answer.then(
        (decision) => {
          if (decision.decision === "allow") free(decision);
        },
        () => undefined,
      );
      reject(signal.reason);
    };
    if (signal.aborted) {
      aborted();
      return;
    }
    signal.addEventListener("abort", aborted, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}
