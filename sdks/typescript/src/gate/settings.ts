/** A gate's settings, checked whole. */

import type { Amount } from "../money.js";
import { checkAmount, checkCount, TTL_SECONDS_MAX, throwAny, WAIT_MS_MAX } from "../requests.js";
import type { Outbox } from "../settling/outbox.js";

export type Mode = "enforce" | "observe";
export type OnUnavailable = "deny" | "allow";

/** Keeps a serverless instance alive until a promise is settled: `ctx.waitUntil`, Next's `after`. */
export type WaitUntil = (promise: Promise<unknown>) => void;

/**
 * How calls are gated. Milliseconds, unless named otherwise.
 *
 * `mode`: observe refuses nothing and changes no call, but holds, settles and tells what it would have refused. `timeoutMs`:
 * one attempt to ask noburn; `retryTimeoutMs`: all of them, beside waiting on holds in flight, which `waitMs` and
 * `busyTimeoutMs` bound. `onUnavailable`: deny, or allow, which is soft: then up to `allowUsdMax` a day and process goes
 * through unasked and unrecorded. `maxOutputTokens`: the cap of calls that name none; without it the tenant's default.
 * `ttlSeconds`: how long a hold lives until it is presumed spent. `cutStreams`: end a stream where it would cost more than its
 * hold. `outbox`: where settlements are kept until noburn has them, as `@noburn/sdk/outbox-node` makes one. `leases`: decide
 * about calls that come often from amounts that this process was given beforehand, instead of asking about each; by default
 * where a process lives long. `flushTimeoutMs`: how long the end of the process may wait for settlements. `waitUntil`: keeps
 * a serverless instance alive until settlements are out.
 */
export interface Settings {
  readonly mode: Mode;
  readonly onUnavailable: OnUnavailable;
  readonly allowUsdMax: Amount | undefined;
  readonly timeoutMs: number;
  readonly maxRetries: number;
  readonly retryTimeoutMs: number;
  readonly waitMs: number;
  readonly busyTimeoutMs: number;
  readonly maxOutputTokens: number | undefined;
  readonly ttlSeconds: number;
  readonly cutStreams: boolean;
  readonly outbox: Outbox | undefined;
  readonly leases: boolean | undefined;
  readonly flushTimeoutMs: number;
  readonly waitUntil: WaitUntil | undefined;
}

const DEFAULTS: Settings = {
  mode: "enforce",
  onUnavailable: "deny",
  allowUsdMax: undefined,
  timeoutMs: 300,
  maxRetries: 1,
  retryTimeoutMs: 800,
  waitMs: 2_000,
  busyTimeoutMs: 10_000,
  maxOutputTokens: undefined,
  ttlSeconds: 600,
  cutStreams: false,
  outbox: undefined,
  leases: undefined,
  flushTimeoutMs: 2_000,
  waitUntil: undefined,
};

/** Returns the settings with their defaults. Throws InvalidRequestError naming every bad value. */
export function settingsOf(given: { readonly [K in keyof Settings]?: Settings[K] | undefined }): Settings {
  const found = { ...DEFAULTS } as Record<keyof Settings, unknown>;
  for (const name of Object.keys(DEFAULTS) as (keyof Settings)[]) {
    if (given[name] !== undefined) found[name] = given[name];
  }
  const made = found as unknown as Settings;
  const errors: Record<string, string> = {};
  if (!["enforce", "observe"].includes(made.mode)) errors.mode = "must be enforce or observe";
  if (!["deny", "allow"].includes(made.onUnavailable)) errors.onUnavailable = "must be deny or allow";
  if (made.onUnavailable === "allow" && made.allowUsdMax === undefined) {
    errors.allowUsdMax = 'is needed with onUnavailable: "allow": USD a day and process';
  }
  checkAmount(errors, "allowUsdMax", made.allowUsdMax);
  checkCount(errors, "maxRetries", made.maxRetries, 0, 10);
  checkCount(errors, "waitMs", made.waitMs, 0, WAIT_MS_MAX);
  checkCount(errors, "ttlSeconds", made.ttlSeconds, 1, TTL_SECONDS_MAX);
  if (made.maxOutputTokens !== undefined) checkCount(errors, "maxOutputTokens", made.maxOutputTokens, 1);
  if (!(made.timeoutMs > 0)) errors.timeoutMs = "must be above 0 ms";
  for (const name of ["retryTimeoutMs", "busyTimeoutMs", "flushTimeoutMs"] as const) {
    if (!(made[name] >= 0)) errors[name] = "must be at least 0 ms";
  }
  throwAny("The gate's settings are invalid", errors);
  return made;
}
