/** Retries and waiting. What sends, what tells the time and what sleeps is given, so that no socket and no clock is needed. */

import type { Reply } from "./answers.js";
import { decision, failure, retryAfterMs } from "./answers.js";
import { UnavailableError } from "./errors.js";
import { said } from "./log.js";
import { type PreflightOptions, preflight, type Request, WAIT_MS_MAX } from "./requests.js";
import type { Allowed, Denied } from "./results.js";

/** Nothing was decided there, or it cannot be known: the same key makes another attempt safe. */
const RETRIED: ReadonlySet<number> = new Set([502, 503, 504]);

const BUSY_PAUSE_MS_MIN = 10;
const BUSY_PAUSE_MS_DEFAULT = 100;
const BACKOFF_MS = 50;
const BACKOFF_MS_MAX = 2_000;

/** No answer came. Whether the request arrived is not known. */
export interface Lost {
  readonly error: unknown;
}

/** Sends one request once. Never throws. */
export type Send = (request: Request) => Promise<Reply | Lost>;

/** How often and how long to try. */
export interface Patience {
  readonly maxRetries: number;
  readonly retryTimeoutMs: number;
  readonly waitMs: number;
  readonly busyTimeoutMs: number;
}

/** What a request may ask of the world: a monotonic clock in milliseconds, chance from 0 to 1, and sleep. */
export interface Around {
  readonly clock: () => number;
  readonly chance: () => number;
  readonly sleep: (ms: number) => Promise<void>;
}

export const AROUND: Around = {
  clock: () => performance.now(),
  chance: Math.random,
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};

/** Says whether an outcome is that no answer came. */
export function isLost(outcome: Reply | Lost): outcome is Lost {
  return "error" in outcome;
}

/**
 * Sends a request until it is answered, always with the same text and key.
 *
 * Throws UnavailableError when the bounds of number or time are reached.
 */
export async function ask(
  send: Send,
  request: Request,
  patience: Patience,
  around: Around = AROUND,
): Promise<Reply> {
  const started = around.clock();
  for (let attempt = 0; ; attempt += 1) {
    const outcome = await send(request);
    if (!isLost(outcome) && !RETRIED.has(outcome.status)) return outcome;
    const named = isLost(outcome) ? null : retryAfterMs(outcome);
    const backoff = Math.min(BACKOFF_MS * 2 ** attempt, BACKOFF_MS_MAX);
    // Never earlier than told; beyond that at random, so that callers do not return together.
    const pause = backoff * (0.5 + around.chance() / 2) + (named ?? 0);
    const spent = around.clock() - started;
    if (attempt >= patience.maxRetries || spent + pause > patience.retryTimeoutMs) {
      throw gaveUp(outcome, attempt + 1, spent);
    }
    await around.sleep(pause);
  }
}

function gaveUp(outcome: Reply | Lost, attempts: number, spent: number): UnavailableError {
  const tried = `after ${attempts} attempts in ${(spent / 1000).toFixed(1)} s`;
  if (isLost(outcome)) {
    return new UnavailableError(`noburn could not be reached: ${said(outcome.error)} ${tried}`, {
      cause: outcome.error,
    });
  }
  const failed = failure(outcome);
  return new UnavailableError(`${failed.message} ${tried}`, {
    retryAfterMs: retryAfterMs(outcome),
    status: outcome.status,
    requestId: failed.requestId,
  });
}

/**
 * Asks whether a call may be made, waiting a bounded time while only holds in flight stand in its way.
 *
 * The server waits first (`wait_ms`), then this side asks again with the same key and body: a refusal is not stored, so it
 * is evaluated anew, and an answer that got lost is replayed. No new attempt starts that could end after `busyTimeoutMs`.
 */
export async function decide(
  send: Send,
  asked: PreflightOptions,
  patience: Patience,
  around: Around = AROUND,
): Promise<Allowed | Denied> {
  const left = patience.busyTimeoutMs;
  const wished = asked.waitMs ?? patience.waitMs;
  const waitMs = asked.dryRun ? 0 : Math.min(wished, WAIT_MS_MAX, Math.trunc(left));
  const request = preflight(asked, waitMs);
  const started = around.clock();
  for (;;) {
    const found = decision(await ask(send, request, patience, around));
    if (found.decision === "allow" || found.reason !== "budget_busy" || !waitMs) return found;
    const named = found.retryAfterMs;
    const least = named === null ? BUSY_PAUSE_MS_DEFAULT : Math.max(named, BUSY_PAUSE_MS_MIN);
    const pause = least * (1 + around.chance() / 2);
    if (around.clock() - started + pause + waitMs > left) return found;
    await around.sleep(pause);
  }
}
