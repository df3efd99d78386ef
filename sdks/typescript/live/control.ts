/** The noburn and the provider double that live tests run against: pytest started them (tests/typescript). */

function named(name: string): string {
  const found = process.env[name];
  if (found === undefined) throw new Error(`${name} is not set: run pytest tests/typescript`);
  return found;
}

export const BASE_URL = named("NOBURN_BASE_URL");
export const API_KEY = named("NOBURN_API_KEY");
/** `${DOUBLE_URL}/v1` is OpenAI's base URL, `DOUBLE_URL` Anthropic's. */
export const DOUBLE_URL = named("DOUBLE_URL");
const CONTROL_URL = named("CONTROL_URL");

/** One entry of a customer's ledger. */
export interface Entry {
  readonly kind: string;
  readonly cost_usd: string;
  readonly tokens: number;
  readonly outcome: string;
  readonly model: string;
  readonly reported_model: string | null;
  readonly flags: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
  readonly usage: Readonly<Record<string, unknown>> | null;
}

/** One call that reached the double. */
export interface Called {
  readonly model: string;
  readonly status: number;
  readonly noburn_headers: readonly string[];
  readonly metered: Readonly<Record<string, number>>;
  readonly [field: string]: unknown;
}

async function post(url: string, body: unknown): Promise<unknown> {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(body ?? {}) });
  const value: unknown = await answer.json();
  if (!answer.ok) throw new Error(`${url}: ${JSON.stringify(value)}`);
  return value;
}

function ask<T>(path: string, body?: unknown): Promise<T> {
  return post(`${CONTROL_URL}/${path}`, body) as Promise<T>;
}

/** Makes a customer with a budget and returns its name. `fields` are those of a budget, as `window`. */
export async function customer(limitUsd = "10", fields: Record<string, unknown> = {}): Promise<string> {
  return (await ask<{ name: string }>("customer", { limit_usd: limitUsd, ...fields })).name;
}

/** Makes a budget; `fields` say its scope, subject and window. */
export async function budget(name: string, limitUsd: string, fields: Record<string, unknown>): Promise<void> {
  await ask("budget", { name, limit_usd: limitUsd, ...fields });
}

/** Changes the limit of a customer's budget, or of another one by its name. */
export async function limit(name: string, limitUsd: string): Promise<void> {
  await ask("limit", { name, limit_usd: limitUsd });
}

/** A customer's ledger, oldest first. Flush the gate before. */
export function ledger(name: string): Promise<Entry[]> {
  return ask("ledger", { customer: name });
}

/** What a customer's budget has left, holds taken off. */
export async function remaining(name: string): Promise<string> {
  return (await ask<{ usd: string }>("remaining", { customer: name })).usd;
}

/** A budget's counter in nano-USD: limit, spent, authority, stranded. */
export function counter(name: string): Promise<Record<"limit" | "spent" | "authority" | "stranded", string>> {
  return ask("counter", { name });
}

/** Recomputes the tenant's figures from their sources, once nothing is under way. */
export function verify(): Promise<{ differences: string[]; unread: number }> {
  return ask("verify");
}

/** Sets what a model costs this tenant from now on: USD for one unit, as `{ input_tokens: "0.000001" }`. */
export async function price(provider: string, model: string, usd: Record<string, string>): Promise<void> {
  await ask("price", { provider, model, ...usd });
}

/** A gateway of its own on the same noburn, which may go away and come back. */
export async function gateway(): Promise<{
  readonly url: string;
  readonly stop: () => Promise<void>;
  readonly start: () => Promise<void>;
}> {
  const { port, url } = await ask<{ port: number; url: string }>("gateway");
  return {
    url,
    stop: () => ask("gateway/stop", { port }),
    start: () => ask("gateway/start", { port }),
  };
}

/** The provider double. */
export const double = {
  /** Sets how calls are answered: fields of tests/doubles/provider/controls.py. */
  control: (settings: Record<string, unknown>) => post(`${DOUBLE_URL}/__control`, settings),
  /** Goes back to the defaults and forgets every call. */
  reset: () => post(`${DOUBLE_URL}/__control`, { reset: true }),
  /** The calls that reached it, oldest first. */
  ledger: async (): Promise<Called[]> => {
    const answer = await fetch(`${DOUBLE_URL}/__ledger`);
    return (await answer.json()) as Called[];
  },
};
