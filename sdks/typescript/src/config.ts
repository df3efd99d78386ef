/** Settings of a client, from options and environment. */

import { AuthenticationError } from "./errors.js";
import type { Patience } from "./exchange.js";
import { environment } from "./log.js";
import { checkCount, throwAny, WAIT_MS_MAX } from "./requests.js";
import { version } from "./version.js";

/** Where `make serve` listens. */
export const DEFAULT_BASE_URL = "http://127.0.0.1:8420";

/** How a client is set up. Milliseconds. */
export interface ClientOptions {
  /** Defaults to NOBURN_API_KEY. */
  readonly apiKey?: string | undefined;
  /** Defaults to NOBURN_BASE_URL. */
  readonly baseUrl?: string | undefined;
  /** For one HTTP attempt. */
  readonly timeoutMs?: number | undefined;
  /** The server's share of waiting on holds in flight, at most 10,000; 0 waits on neither side. */
  readonly waitMs?: number | undefined;
  /** For all waiting on holds in flight. */
  readonly busyTimeoutMs?: number | undefined;
  readonly maxRetries?: number | undefined;
  /** For all attempts of a request. */
  readonly retryTimeoutMs?: number | undefined;
  /** What is used in the place of the global `fetch`. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/** A client's settings, checked. */
export interface Config {
  readonly apiKey: string;
  readonly baseUrl: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly patience: Patience;
}

/** Returns the settings. Throws AuthenticationError without a key, InvalidRequestError for bad values. */
export function readConfig(options: ClientOptions): Config {
  const apiKey = (options.apiKey || environment("NOBURN_API_KEY") || "").trim();
  if (!apiKey) throw new AuthenticationError("No API key: set NOBURN_API_KEY or pass apiKey");
  const baseUrl = (options.baseUrl || environment("NOBURN_BASE_URL") || DEFAULT_BASE_URL)
    .trim()
    .replace(/\/+$/, "");
  const { timeoutMs = 5_000, waitMs = 2_000, busyTimeoutMs = 10_000 } = options;
  const { maxRetries = 4, retryTimeoutMs = 10_000 } = options;
  const errors: Record<string, string> = {};
  if (!/^[\x20-\x7e]+$/.test(apiKey)) errors.apiKey = "must be printable ASCII";
  if (!/^https?:\/\//.test(baseUrl)) errors.baseUrl = "must begin with http:// or https://";
  checkCount(errors, "waitMs", waitMs, 0, WAIT_MS_MAX);
  checkCount(errors, "maxRetries", maxRetries, 0);
  if (!(timeoutMs > 0)) errors.timeoutMs = "must be above 0 ms";
  if (!(busyTimeoutMs >= 0)) errors.busyTimeoutMs = "must be at least 0 ms";
  if (!(retryTimeoutMs >= 0)) errors.retryTimeoutMs = "must be at least 0 ms";
  throwAny("The client's settings are invalid", errors);
  return {
    apiKey,
    baseUrl,
    headers: {
      Authorization: `Bearer ${apiKey}`,
      "Content-Type": "application/json",
      Accept: "application/json, application/problem+json",
      "User-Agent": `noburn-sdk-typescript/${version}`,
    },
    timeoutMs,
    patience: { maxRetries, retryTimeoutMs, waitMs, busyTimeoutMs },
  };
}
