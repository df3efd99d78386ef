/**
 * Zero-touch gating: whatever goes to OpenAI, Anthropic and those who speak like them through the global `fetch`.
 *
 * Clients keep the fetch that they find when they are made, so `instrument` comes before them.
 */

import { type ConfigureOptions, configure, defaultGate, release } from "../../default.js";
import { InvalidRequestError } from "../../errors.js";
import { gatedFetch } from "../../gate/http.js";
import { state } from "../../state.js";
import { Addresses, type BaseUrls } from "./hosts.js";

export type { BaseUrls } from "./hosts.js";

/** What `configure` takes, and base URLs of one's own. */
export type InstrumentOptions = ConfigureOptions & {
  /** Addresses that speak like OpenAI or Anthropic: a proxy, a gateway, a server of your own. */
  readonly baseUrls?: BaseUrls | undefined;
};

interface Patch {
  readonly before: typeof fetch;
  readonly patched: typeof fetch;
  readonly addresses: Addresses;
  active: boolean;
}

const NAME = "fetch";

function known(): Patch | undefined {
  return state().shared.get(NAME) as Patch | undefined;
}

/**
 * Gates every call that goes through the global `fetch` from now on. Calling it again changes settings and adds base URLs.
 *
 * A refused call is answered 402 as problem+json, with `x-should-retry: false`. Base URLs in OPENAI_BASE_URL and
 * ANTHROPIC_BASE_URL are known. Throws InvalidRequestError, and as `Gate` does.
 */
export function instrument(options: InstrumentOptions = {}): void {
  const { baseUrls, ...settings } = options;
  const addresses = known()?.addresses ?? new Addresses();
  add(addresses, baseUrls ?? {});
  add(addresses, { openai: environment("OPENAI_BASE_URL"), anthropic: environment("ANTHROPIC_BASE_URL") });
  if (Object.values(settings).some((value) => value !== undefined)) configure(settings);
  // A missing key is told here, not at the first call.
  else defaultGate();
  const before = known();
  if (before !== undefined) {
    before.active = true;
    if (globalThis.fetch === before.before) globalThis.fetch = before.patched;
    return;
  }
  const inner = globalThis.fetch;
  const patch: Patch = {
    before: inner,
    patched: gatedFetch(inner, (url) => (patch.active ? addresses.siteOf(url) : null), defaultGate),
    addresses,
    active: true,
  };
  state().shared.set(NAME, patch);
  globalThis.fetch = patch.patched;
}

/**
 * Puts the global `fetch` back, and flushes and closes the process's gate.
 *
 * Where somebody replaced it meanwhile theirs stays, and what it calls of ours lets everything by.
 */
export async function uninstrument(): Promise<void> {
  const patch = known();
  if (patch === undefined) return;
  patch.active = false;
  if (globalThis.fetch === patch.patched) {
    globalThis.fetch = patch.before;
    state().shared.delete(NAME);
  }
  await release();
}

function add(addresses: Addresses, urls: BaseUrls): void {
  try {
    addresses.add(urls);
  } catch (cause) {
    throw new InvalidRequestError("Cannot instrument", { cause, errors: { baseUrls: "must be URLs" } });
  }
}

function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name] || undefined;
}
