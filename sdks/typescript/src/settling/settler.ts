/** Sends settlements in the background, in batches, and keeps at it while noburn does not answer. */

import * as answers from "../answers.js";
import type { Noburn } from "../client.js";
import {
  ConflictError,
  InvalidRequestError,
  isNoburnError,
  type NoburnError,
  UnavailableError,
} from "../errors.js";
import { log, said } from "../log.js";
import { BATCH_MAX, post } from "../requests.js";
import type { JsonObject, Settled } from "../results.js";
import * as draws from "./draws.js";
import type { Kept, Outbox } from "./outbox.js";
import { Pause } from "./pause.js";
import { isAside, OPS, type Op, type Resolution } from "./resolution.js";

/** Resolutions waiting in memory; more wait in the outbox alone. */
export const MEMORY_MAX = 10_000;
const BATCH_CHARACTERS_MAX = 1024 * 1024;
/** How long the first of a batch waits for others. */
const LINGER_MS = 20;
/** How often it is looked for what processes that ended left. */
const LOOK_MS = 60_000;
const BACKOFF_MS = 250;
const BACKOFF_MS_MAX = 30_000;
/** What the gateway may wait for others' holds when a pre-flight is asked again. */
const RECLAIM_WAIT_MS = 10_000;

export interface SettlerOptions {
  readonly client: Noburn;
  readonly outbox?: Outbox | undefined;
  /** Called with each answer. */
  readonly told?: ((item: Resolution, result: Settled) => void) | undefined;
  /** Called whenever something is put, with what waits until all that is put so far is delivered. */
  readonly hold?: ((idle: () => Promise<void>) => void) | undefined;
}

/** Takes resolutions and sends them. `put` returns at once and never throws. */
export class Settler {
  /** Called with the lease, its draws' numbers and costs, and the answer to each report of them. */
  onReport: ((leaseId: string, heard: readonly draws.Heard[], answer: JsonObject) => void) | undefined;
  readonly #client: Noburn;
  readonly #outbox: Outbox | undefined;
  readonly #told: SettlerOptions["told"];
  readonly #hold: SettlerOptions["hold"];
  #queue: Resolution[] = [];
  // Reclaims. Each may wait at the gateway for others' holds, and what frees those are settlements: so they stand aside of
  // them, in a line of their own.
  #aside: Resolution[] = [];
  /** What was put and is not delivered, in memory or in the outbox. */
  readonly #waiting = new Map<Resolution, number>();
  #sequence = 0;
  #spilled = false;
  readonly #foreign = new Set<string>();
  #dropped = 0;
  #sending: Promise<void> | undefined;
  #sendingAside: Promise<void> | undefined;
  #look: ReturnType<typeof setInterval> | undefined;
  #stopped = false;
  readonly #pause = new Pause();
  readonly #pauseAside = new Pause();
  #listeners: (() => void)[] = [];

  constructor(options: SettlerOptions) {
    this.#client = options.client;
    this.#outbox = options.outbox;
    this.#told = options.told;
    this.#hold = options.hold;
    if (this.#outbox !== undefined) {
      // What an earlier process left is delivered now, not only when this one settles something.
      void this.#takeOver();
      this.#look = setInterval(() => void this.#takeOver(), LOOK_MS);
      (this.#look as { unref?: () => void }).unref?.();
    }
  }

  /** How many resolutions wait in memory. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Takes a resolution. It is in the outbox when this returns, where there is one. */
  put(item: Resolution): void {
    try {
      const kept = this.#outbox?.append(item) ?? false;
      if (this.#waiting.size >= MEMORY_MAX) {
        this.#overflow(kept);
      } else {
        this.#take(item);
      }
      this.#start();
      this.#hold?.(() => this.#idle());
    } catch (error) {
      log("error", `a settlement could not be queued: ${item.key}: ${said(error)}`);
    }
  }

  #take(item: Resolution): void {
    this.#sequence += 1;
    this.#waiting.set(item, this.#sequence);
    (isAside(item) ? this.#aside : this.#queue).push(item);
  }

  #overflow(kept: boolean): void {
    if (kept) {
      this.#spilled = true;
      return;
    }
    this.#dropped += 1;
    // At each power of two: a line each would drown the log.
    if ((this.#dropped & (this.#dropped - 1)) === 0) {
      log("error", `${this.#dropped} settlements were dropped: more than ${MEMORY_MAX} wait`);
    }
  }

  #start(): void {
    if (this.#stopped) return;
    if (this.#sending === undefined && (this.#queue.length > 0 || this.#spilled)) {
      this.#sending = this.#send().finally(() => {
        this.#sending = undefined;
        this.#changed();
        this.#start();
      });
    }
    if (this.#sendingAside === undefined && this.#aside.length > 0) {
      this.#sendingAside = this.#sendAside().finally(() => {
        this.#sendingAside = undefined;
        this.#changed();
        this.#start();
      });
    }
  }

  #changed(): void {
    const found = this.#listeners;
    this.#listeners = [];
    for (const listener of found) listener();
  }

  /** Fulfilled with the next change of what waits. */
  #change(): Promise<void> {
    return new Promise((resolve) => this.#listeners.push(resolve));
  }

  /** Fulfilled once all that was put so far is delivered, or given up at the end. */
  async #idle(): Promise<void> {
    const last = this.#sequence;
    while (!this.#stopped && (this.#spilled || this.#oldest() <= last)) await this.#change();
  }

  #oldest(): number {
    // A Map keeps the order in which things were put into it.
    for (const sequence of this.#waiting.values()) return sequence;
    return Number.POSITIVE_INFINITY;
  }

  /** Waits until everything put so far was delivered; false if that took too long. */
  async flush(timeoutMs: number): Promise<boolean> {
    if (this.#waiting.size === 0 && !this.#spilled) return true;
    this.#pause.end();
    this.#pauseAside.end();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    try {
      return await Promise.race([this.#idle().then(() => !this.#stopped), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Delivers what it can within the time and ends. False if something remains, which only an outbox keeps. */
  async close(timeoutMs: number): Promise<boolean> {
    const done = await this.flush(timeoutMs);
    this.#stopped = true;
    clearInterval(this.#look);
    this.#pause.end();
    this.#pauseAside.end();
    this.#changed();
    if (this.#outbox !== undefined) {
      await this.#outbox.sync();
      this.#outbox.close();
    }
    return done;
  }

  async #send(): Promise<void> {
    while (!this.#stopped && (this.#queue.length > 0 || this.#spilled)) {
      if (this.#queue.length < BATCH_MAX) await this.#pause.wait(LINGER_MS);
      const batch = this.#queue.splice(0, BATCH_MAX);
      if (batch.length === 0) this.#reload();
      else await this.#deliverAll(batch);
    }
  }

  async #takeOver(): Promise<void> {
    try {
      const count = (await this.#outbox?.claim()) ?? 0;
      if (count > 0 && !this.#stopped) {
        log("info", `${count} settlements of an ended process are taken over`);
        this.#spilled = true;
        this.#start();
      }
    } catch (error) {
      log("error", `the outbox failed: ${said(error)}`);
    }
  }

  /** Brings back what lies in the outbox alone, once memory is empty. */
  #reload(): void {
    if (!this.#spilled || this.#queue.length > 0) return;
    // What is under way now, reclaims for the most part, lies there as well.
    const known = new Set([...this.#waiting.keys()].map((item) => item.key));
    const room = Math.min(MEMORY_MAX - this.#waiting.size, BATCH_MAX);
    const held = this.#outbox?.held(known.size + this.#foreign.size + room) ?? [];
    const found: Resolution[] = [];
    for (const item of held) {
      if (known.has(item.key)) continue;
      const read = resolutionOf(item);
      // Of a later version of this package: it stays, for a process that knows what it means.
      if (read === undefined) this.#foreign.add(item.key);
      else found.push(read);
    }
    if (found.length === 0) this.#spilled = false;
    for (const item of found) this.#take(item);
    this.#start();
    this.#changed();
  }

  /** Sends until noburn has them all, or until this process ends. */
  async #deliverAll(batch: readonly Resolution[]): Promise<void> {
    await this.#outbox?.sync();
    let left = batch;
    let pause = BACKOFF_MS;
    while (left.length > 0 && !this.#stopped) {
      left = await this.#deliver(left);
      if (left.length > 0) {
        log("warning", `${left.length} settlements wait: noburn does not answer`);
        await this.#pause.wait(pause * (0.5 + Math.random() / 2));
        pause = Math.min(pause * 2, BACKOFF_MS_MAX);
      }
    }
  }

  /** Sends once; returns what is to be sent again. */
  async #deliver(batch: readonly Resolution[]): Promise<Resolution[]> {
    const again: Resolution[] = [];
    for (const part of parts(batch.filter((item) => item.op === "settle"))) {
      again.push(...(again.length > 0 ? part : await this.#settle(part)));
    }
    for (const part of draws.partsOf(batch.filter((item) => item.op === "draw"))) {
      again.push(...(again.length > 0 ? part : await this.#report(part)));
    }
    for (const item of batch.filter((one) => one.op === "void")) {
      // It does not answer: not to be asked about each of the others as well.
      again.push(...(again.length > 0 ? [item] : await this.#one(item)));
    }
    return again;
  }

  async #settle(part: Resolution[]): Promise<Resolution[]> {
    let results: (Settled | NoburnError)[];
    try {
      const body = { settlements: part.map((item) => item.body) };
      results = answers.settledBatch(await this.#client.ask(post("/v1/settle/batch", body)), part.length);
    } catch (error) {
      return this.#failedBatch(part, error, (items) => this.#settle(items));
    }
    const again: Resolution[] = [];
    const done: Resolution[] = [];
    part.forEach((item, index) => {
      const result = results[index];
      if (isNoburnError(result)) again.push(...this.#failed(item, result));
      else if (result !== undefined) {
        done.push(item);
        this.#tell(item, result);
      }
    });
    this.#done(done);
    return again;
  }

  /** Tells of draws of one lease; returns what is to be told again. */
  async #report(part: Resolution[]): Promise<Resolution[]> {
    let reported: draws.Reported;
    try {
      reported = await draws.report(this.#client, part);
    } catch (error) {
      return this.#failedBatch(part, error, (items) => this.#report(items));
    }
    const again: Resolution[] = [];
    const heard: draws.Heard[] = [];
    const done: Resolution[] = [];
    part.forEach((item, index) => {
      const [error, result] = [reported.errors[index] ?? null, reported.results[index] ?? {}];
      const left = error === null ? [] : this.#failed(item, error);
      again.push(...left);
      if (left.length === 0) heard.push(draws.heardOf(item, result));
      if (error === null) {
        done.push(item);
        this.#tell(item, draws.settledOfDraw(item, result));
      }
    });
    this.#done(done);
    try {
      this.onReport?.(String(part[0]?.body.id), heard, reported.answer);
    } catch (error) {
      log("error", `what was told of a lease failed: ${said(error)}`);
    }
    return again;
  }

  /** One poisonous item must not fail its batch: it is found by halves. */
  async #failedBatch(
    part: Resolution[],
    error: unknown,
    send: (items: Resolution[]) => Promise<Resolution[]>,
  ): Promise<Resolution[]> {
    const [first] = part;
    if (!(error instanceof InvalidRequestError) || first === undefined) return this.#putOff(part, error);
    if (part.length === 1) return this.#failed(first, error);
    const middle = part.length >> 1;
    return [...(await send(part.slice(0, middle))), ...(await send(part.slice(middle)))];
  }

  async #sendAside(): Promise<void> {
    let pause = BACKOFF_MS;
    while (!this.#stopped && this.#aside.length > 0) {
      const item = this.#aside[0] as Resolution;
      await this.#outbox?.sync();
      const left = await this.#one(item);
      if (left.length === 0) {
        this.#aside.shift();
        pause = BACKOFF_MS;
      } else {
        await this.#pauseAside.wait(pause * (0.5 + Math.random() / 2));
        pause = Math.min(pause * 2, BACKOFF_MS_MAX);
      }
    }
  }

  async #one(item: Resolution): Promise<Resolution[]> {
    try {
      if (item.op === "reclaim") await this.#reclaim(item);
      else if (item.op === "unlease") await draws.giveBack(this.#client, item);
      else {
        this.#tell(item, answers.settled(await this.#client.ask(post("/v1/void", item.body))));
      }
    } catch (error) {
      if (error instanceof ConflictError || error instanceof InvalidRequestError) {
        return this.#failed(item, error);
      }
      return this.#putOff([item], error);
    }
    this.#done([item]);
    return [];
  }

  async #reclaim(item: Resolution): Promise<void> {
    const reply = await this.#client.ask(post("/v1/preflight", item.body, item.key, RECLAIM_WAIT_MS));
    const found = answers.decision(reply);
    if (found.decision === "allow" && found.authorization) await this.#client.void(found.authorization);
  }

  #putOff(items: Resolution[], error: unknown): Resolution[] {
    if (!(error instanceof UnavailableError)) {
      // A key that is refused may be replaced; what it settles stays true.
      log("error", `noburn does not take settlements: ${said(error)}`);
    }
    return items;
  }

  #failed(item: Resolution, error: NoburnError): Resolution[] {
    if (error instanceof UnavailableError) return [item];
    log("warning", `noburn did not take the settlement of ${item.key}: ${error.message}`);
    this.#done([item]);
    return [];
  }

  #done(items: readonly Resolution[]): void {
    this.#outbox?.done(items.map((item) => item.key));
    for (const item of items) this.#waiting.delete(item);
    if (this.#listeners.length > 0) this.#changed();
  }

  #tell(item: Resolution, result: Settled): void {
    try {
      this.#told?.(item, result);
    } catch (error) {
      log("error", `what was told of a settlement failed: ${said(error)}`);
    }
  }
}

function resolutionOf(item: Kept): Resolution | undefined {
  const known = (OPS as readonly string[]).includes(item.op);
  return known ? { op: item.op as Op, key: item.key, body: item.body } : undefined;
}

/** Cuts a batch where its body would grow too large. */
function parts(items: readonly Resolution[]): Resolution[][] {
  const found: Resolution[][] = [];
  let size = BATCH_CHARACTERS_MAX;
  for (const item of items) {
    const length = JSON.stringify(item.body).length;
    if (size + length > BATCH_CHARACTERS_MAX) {
      found.push([]);
      size = 0;
    }
    found[found.length - 1]?.push(item);
    size += length + 1;
  }
  return found;
}
