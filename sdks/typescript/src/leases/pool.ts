/** The leases of one process: which calls they are for, how large the next is to be, and when one is given back. */

import * as answers from "../answers.js";
import { neverLeft } from "../calls.js";
import type { Noburn } from "../client.js";
import { InvalidRequestError, UnavailableError } from "../errors.js";
import { type Rates, ratesFrom, UnpricedError } from "../estimate/index.js";
import { log, said } from "../log.js";
import { readNano, toUsd } from "../money.js";
import { newKey, type PreflightOptions, post } from "../requests.js";
import type { Json, JsonObject } from "../results.js";
import type { Heard } from "../settling/draws.js";
import { Pause } from "../settling/pause.js";
import type { Settler } from "../settling/settler.js";
import { type Drawn, Lease } from "./lease.js";

/** So many calls of one kind within BURN_MS are worth a lease. */
const CALLS_MIN = 3;
const BURN_MS = 5_000;
/** A lease is for so many calls at least, and for twice what was drawn in the last BURN_MS. */
const CALLS_AHEAD = 8;
/** An open lease is reported on so often, calls or none: an edit reaches its holder that soon. */
const REPORT_MS = 2_000;
/** A lease that no call was drawn from for so long is given back. */
const IDLE_MS = 5_000;
/** A lease is renewed so long before its last draw, or when only this part of it is left. */
const RENEW_MS = 15_000;
const RENEW_PART = 4n;
const PAUSE_MS = 250;
/** How long a kind of call is not leased after noburn refused to. */
const REFUSED_MS = 1_000;
const KINDS_MAX = 2_000;
const LEASES_MAX = 200;
/** Draws end so much before the server's draw_until, which begins when the lease is placed, not when it is asked for. */
const MARGIN_MS = 500;
const NANO_WANTED_MAX = 10n ** 15n;
const TOKENS_WANTED_MAX = 10 ** 9;
/** A first bound of a token, before any price is known: noburn grants less if that is too much. */
const GUESSED_NANO = 10_000n;
const CAP_GUESSED = 4_096;
const SUBJECT = ["project", "customer", "user", "run", "plan"] as const;

export interface LeasesOptions {
  readonly client: Noburn;
  readonly settler: Settler;
  readonly ttlSeconds: number;
  readonly clock: () => number;
}

/** Calls for one subject, tags and model: what they burn, and the lease that they draw from. */
interface Kind {
  readonly asked: PreflightOptions;
  lease: Lease | undefined;
  since: number;
  calls: number;
  burnt: bigint;
  tokens: number;
  least: readonly [nano: bigint, tokens: number];
  wanted: boolean;
  notBefore: number;
}

/**
 * Decides about calls from leases, and keeps these: opens them, reports on them and closes them, in the background.
 *
 * Whatever it cannot decide is to be asked about. It belongs to one process.
 */
export class Leases {
  /** Leases that were given up without a close: what is left of them is presumed spent. */
  closedUnheard = 0;
  readonly #client: Noburn;
  readonly #settler: Settler;
  readonly #clock: () => number;
  readonly #ttlSeconds: number;
  readonly #nonce = newKey();
  readonly #kinds = new Map<string, Kind>();
  readonly #open = new Map<string, Lease>();
  readonly #pause = new Pause();
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(options: LeasesOptions) {
    this.#client = options.client;
    this.#settler = options.settler;
    this.#clock = options.clock;
    this.#ttlSeconds = Math.max(60, options.ttlSeconds);
    options.settler.onReport = (id, heard, answer) => this.#heard(id, heard, answer);
  }

  /** The leases that are open. */
  get open(): readonly Lease[] {
    return [...this.#open.values()];
  }

  /** Allows a call from a lease, or says nothing: it is then to be asked about. Sends nothing. */
  draw(
    asked: PreflightOptions,
    fingerprint: () => Promise<string | undefined> = async () => undefined,
  ): Drawn | undefined {
    if (asked.costUsd !== undefined || asked.dryRun || asked.models?.length || this.#stopped)
      return undefined;
    const key = keyOf(asked);
    const kind = this.#kinds.get(key);
    const now = this.#clock();
    if (kind === undefined) {
      this.#remember(key, asked, now);
      return undefined;
    }
    const { lease } = kind;
    if (lease === undefined) {
      if (now - kind.since > BURN_MS) {
        kind.since = now;
        kind.calls = 0;
      }
      kind.calls += 1;
      if (kind.calls >= CALLS_MIN) this.#want(kind, now);
      return undefined;
    }
    const cap = asked.maxOutputTokens ?? lease.terms.cap;
    const nano = boundOf(lease, asked, cap);
    if (nano === undefined) return undefined;
    const tokens = asked.inputTokens + (asked.n ?? 1) * cap;
    const draw = lease.draw(nano, tokens, now, asked);
    note(kind, nano, tokens, now);
    const { terms } = lease;
    if (draw === undefined || lease.left * RENEW_PART < terms.nano || now > terms.until - RENEW_MS) {
      this.#want(kind, now);
    }
    if (draw === undefined) return undefined;
    // It is there by the time that the provider has answered.
    fingerprint().then(
      (found) => {
        draw.fingerprint = found;
      },
      (error: unknown) => log("debug", `no fingerprint: ${said(error)}`),
    );
    return {
      decision: "allow",
      authorization: "leased",
      holdId: `${terms.id}:${draw.sequence}`,
      amountUsd: toUsd(nano),
      expiresAt: null,
      model: asked.model,
      maxOutputTokens: cap,
      budgets: [],
      warnings: [],
      rerouted: null,
      raw: {},
      draw,
    };
  }

  #remember(key: string, asked: PreflightOptions, now: number): void {
    if (this.#kinds.size >= KINDS_MAX) {
      const old = [...this.#kinds].filter(([, kind]) => kind.lease === undefined);
      for (const [name] of old.slice(0, KINDS_MAX / 2)) this.#kinds.delete(name);
    }
    this.#kinds.set(key, {
      asked,
      lease: undefined,
      since: now,
      calls: 1,
      burnt: 0n,
      tokens: 0,
      least: [0n, 1],
      wanted: false,
      notBefore: now,
    });
  }

  #want(kind: Kind, now: number): void {
    if (kind.wanted || now < kind.notBefore || this.#stopped) return;
    kind.wanted = true;
    this.#pause.end();
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async #run(): Promise<void> {
    while (!this.#stopped && (this.#open.size > 0 || this.#wanted().length > 0)) {
      try {
        await this.#round();
      } catch (error) {
        // Whatever it was: what is leased is bounded, and everything else is asked about.
        log("error", `leases could not be kept: ${said(error)}`);
      }
      if (!this.#stopped && this.#wanted().length === 0) await this.#pause.wait(PAUSE_MS);
    }
  }

  #wanted(): Kind[] {
    return [...this.#kinds.values()].filter((kind) => kind.wanted);
  }

  async #round(): Promise<void> {
    await Promise.all(this.#wanted().map((kind) => this.#renew(kind)));
    const now = this.#clock();
    const current = new Set([...this.#kinds.values()].map((kind) => kind.lease));
    const due: Promise<unknown>[] = [];
    for (const lease of this.#open.values()) {
      const idle = now - lease.drawnAt > IDLE_MS;
      const drawable = current.has(lease) && lease.recalled === undefined && now < lease.terms.until && !idle;
      if (!drawable && lease.standing.quiet && now >= lease.triesAt) {
        due.push(this.#close(lease));
      } else if (now - Math.max(lease.heardAt, lease.triesAt) >= REPORT_MS) {
        lease.triesAt = now;
        due.push(this.#report(lease));
      }
    }
    await Promise.all(due);
    for (const kind of this.#kinds.values()) {
      const { lease } = kind;
      if (lease !== undefined && (lease.recalled !== undefined || now >= lease.terms.until)) {
        kind.lease = undefined;
      }
    }
  }

  async #renew(kind: Kind): Promise<void> {
    kind.wanted = false;
    if (this.#open.size >= LEASES_MAX) {
      kind.notBefore = this.#clock() + REFUSED_MS;
      return;
    }
    const body = this.#wish(kind);
    const key = newKey();
    const sent = this.#clock();
    let answer: JsonObject;
    try {
      answer = await this.#ask("/v1/leases", body, key);
    } catch (error) {
      log("debug", `no lease: ${said(error)}`);
      kind.notBefore = this.#clock() + REFUSED_MS;
      if (error instanceof UnavailableError && !(error.cause !== undefined && neverLeft(error.cause))) {
        // It may have been placed, and would stand in others' way until it expires.
        this.#settler.put({ op: "unlease", key, body: { ask: body, nonce: this.#nonce } });
      }
      return;
    }
    const lease = this.#leaseOf(answer, kind.asked, sent);
    if (lease === undefined) {
      kind.notBefore = this.#clock() + REFUSED_MS;
      return;
    }
    this.#open.set(lease.terms.id, lease);
    kind.lease = lease;
  }

  #wish(kind: Kind): JsonObject {
    const { asked } = kind;
    let [nano, tokens] = kind.least;
    if (kind.lease === undefined && nano === 0n) {
      tokens = asked.inputTokens + (asked.n ?? 1) * (asked.maxOutputTokens ?? CAP_GUESSED);
      nano = BigInt(tokens) * GUESSED_NANO;
    }
    const ahead = nano * BigInt(CALLS_AHEAD);
    const wanted = ahead > 2n * kind.burnt ? ahead : 2n * kind.burnt;
    const body: Record<string, Json> = {
      model: asked.model,
      amount_usd: toUsd(wanted < NANO_WANTED_MAX ? wanted : NANO_WANTED_MAX),
      least_usd: toUsd(nano),
      least_tokens: tokens,
      tokens: Math.min(TOKENS_WANTED_MAX, Math.max(CALLS_AHEAD * tokens, 2 * kind.tokens)),
      requests: Math.max(CALLS_AHEAD, 2 * kind.calls),
      ttl_seconds: this.#ttlSeconds,
    };
    if (asked.provider !== undefined) body.provider = asked.provider;
    const subject = subjectOf(asked);
    if (Object.keys(subject).length > 0) body.subject = subject;
    if (asked.tags !== undefined) body.tags = { ...asked.tags };
    return body;
  }

  #leaseOf(answer: JsonObject, asked: PreflightOptions, sent: number): Lease | undefined {
    if (answer.decision !== "allow") return undefined;
    const told = answers.objectOf(answer.lease);
    const rates = this.#ratesOf(answer, asked.model);
    const nano = readNano(told.amount_usd);
    // A guard that this version does not know needs the server: each call is asked about.
    if (hasGuards(answer.guards) || rates === undefined || nano === null || this.#stopped) {
      this.#giveBack(answer);
      return undefined;
    }
    const now = this.#clock();
    return new Lease({
      id: String(told.id),
      authorization: String(answer.authorization),
      nonce: this.#nonce,
      nano,
      tokens: answers.wholeOf(told.tokens) ?? undefined,
      requests: answers.wholeOf(told.requests) ?? undefined,
      until: sent + Number(told.draw_seconds) * 1000 - MARGIN_MS,
      rates,
      cap: answers.wholeOf(answer.max_output_tokens) ?? CAP_GUESSED,
      put: (item) => this.#settler.put(item),
      now,
    });
  }

  #ratesOf(answer: JsonObject, model: string): Rates | undefined {
    try {
      return ratesFrom(answer, model, answers.textOf(answer.provider));
    } catch (error) {
      if (error instanceof InvalidRequestError) return undefined;
      throw error;
    }
  }

  /** Closes a lease that nothing is drawn from, as often as it takes: by the settler. */
  #giveBack(answer: JsonObject): void {
    const id = String(answers.objectOf(answer.lease).id);
    const body = { id, authorization: answer.authorization, nonce: this.#nonce };
    this.#settler.put({ op: "unlease", key: id, body });
  }

  /** Asks whether a lease is to be given back. Its draws are told by the settler. */
  async #report(lease: Lease): Promise<void> {
    const { id, authorization, nonce } = lease.terms;
    try {
      const answer = await this.#ask(`/v1/leases/${id}/report`, { authorization, nonce, draws: [] });
      lease.heard([], answers.textOf(answer.recall) ?? undefined, this.#clock());
    } catch (error) {
      log("debug", `lease ${id} was not reported on: ${said(error)}`);
    }
  }

  async #close(lease: Lease): Promise<void> {
    // Before the total is read: nothing may be drawn after it.
    lease.retire("replaced");
    const { told, quiet } = lease.standing;
    if (!quiet) return;
    const { id, authorization, nonce, until } = lease.terms;
    const now = this.#clock();
    lease.triesAt = now + REPORT_MS;
    try {
      const body = { authorization, nonce, total: told, draws: [] };
      const answer = await this.#ask(`/v1/leases/${id}/close`, body);
      if (answer.closed !== true) {
        // noburn has other draws of it than this process knows of: what is left is presumed spent.
        log("warning", `lease ${id} has ${answer.draws} draws, not ${told}: it is not released`);
        this.closedUnheard += 1;
      }
      this.#open.delete(id);
    } catch (error) {
      log("debug", `lease ${id} could not be closed: ${said(error)}`);
      if (now > until + this.#ttlSeconds * 1000) {
        this.closedUnheard += 1;
        this.#open.delete(id);
      }
    }
  }

  /** Called by the settler with each answer to draws that it told. */
  #heard(id: string, results: readonly Heard[], answer: JsonObject): void {
    const lease = this.#open.get(id);
    if (lease === undefined) return;
    lease.heard(results, answers.textOf(answer.recall) ?? undefined, this.#clock());
    if (lease.recalled !== undefined) this.#pause.end();
  }

  async #ask(path: string, body: JsonObject, key?: string): Promise<JsonObject> {
    return answers.answer(await this.#client.ask(post(path, body, key)));
  }

  /** Gives everything back that is not in use, once its draws are told. Then nothing is drawn any more. */
  async close(timeoutMs: number): Promise<void> {
    this.#stopped = true;
    this.#pause.end();
    const late = new Pause();
    await Promise.race([this.#running, late.wait(timeoutMs)]);
    for (const lease of this.#open.values()) lease.retire("closed");
    await Promise.race([Promise.all(this.open.map((lease) => this.#close(lease))), late.wait(timeoutMs)]);
    late.end();
  }
}

function keyOf(asked: PreflightOptions): string {
  const tags = Object.entries(asked.tags ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
  const { model, provider, customer, user, project, run, plan } = asked;
  return JSON.stringify([model, provider, customer, user, project, run, plan, tags]);
}

function subjectOf(asked: PreflightOptions): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of SUBJECT) if (asked[name] !== undefined) found[name] = asked[name];
  return found;
}

function boundOf(lease: Lease, asked: PreflightOptions, cap: number): bigint | undefined {
  try {
    return lease.bound(asked, cap);
  } catch (error) {
    if (error instanceof UnpricedError) return undefined;
    throw error;
  }
}

/** Counts a call. */
function note(kind: Kind, nano: bigint, tokens: number, now: number): void {
  if (now - kind.since > BURN_MS) {
    kind.since = now;
    kind.calls = Math.trunc(kind.calls / 2);
    kind.burnt /= 2n;
    kind.tokens = Math.trunc(kind.tokens / 2);
  }
  kind.calls += 1;
  kind.burnt += nano;
  kind.tokens += tokens;
  kind.least = [nano, tokens];
}

function hasGuards(guards: Json | undefined): boolean {
  if (Array.isArray(guards)) return guards.length > 0;
  if (typeof guards === "object" && guards !== null) return Object.keys(guards).length > 0;
  return Boolean(guards);
}
