/** Whom a call is for, said once around it: `context({ customer: "acme" }, async () => …)`. */

import { InvalidRequestError, NoburnError } from "./errors.js";
import type { Amount } from "./money.js";
import { state } from "./state.js";

export const HEADER_PREFIX = "x-noburn-";

/**
 * Whom and what calls are for, and what is known of them. What is left out says nothing.
 *
 * `costUsd` bounds calls whose cost nothing else bounds: images, speech, batches. `maxInputTokens` is what you know of the
 * whole input where only the provider knows it; `maxOutputTokens` is the cap of calls that name none. `provider` is needed
 * where several sell the model. `task` is what a call is for, such as `extract`: rules of policies may choose its model by
 * that.
 */
export interface Attribution {
  readonly customer?: string | undefined;
  readonly user?: string | undefined;
  readonly run?: string | undefined;
  readonly project?: string | undefined;
  readonly plan?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
  readonly provider?: string | undefined;
  readonly costUsd?: Amount | undefined;
  readonly maxInputTokens?: number | undefined;
  readonly maxOutputTokens?: number | undefined;
  readonly task?: string | undefined;
}

const NAMES = [
  "customer",
  "user",
  "run",
  "project",
  "plan",
  "provider",
  "costUsd",
  "maxInputTokens",
  "maxOutputTokens",
  "task",
] as const;
const BY_HEADER: ReadonlyMap<string, (typeof NAMES)[number]> = new Map(
  NAMES.map((name) => [name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`), name]),
);
const OPTIONS = ["customer", "user", "run", "project", "plan", "provider", "costUsd", "task"] as const;
const WHOLE: ReadonlySet<string> = new Set(["maxInputTokens", "maxOutputTokens"]);

/** Says nothing. */
export const NOTHING: Attribution = Object.freeze({});

/** Returns both in one; what the first says wins, and tags are joined. */
export function over(said: Attribution | undefined, other: Attribution | undefined): Attribution {
  if (said === undefined || said === NOTHING) return other ?? NOTHING;
  if (other === undefined || other === NOTHING) return said;
  const joined: Record<string, unknown> = { ...other };
  for (const name of NAMES) if (said[name] !== undefined) joined[name] = said[name];
  if (said.tags !== undefined || other.tags !== undefined) joined.tags = { ...other.tags, ...said.tags };
  return joined as Attribution;
}

/** Returns what a pre-flight takes of this. */
export function optionsOf(said: Attribution): Pick<Attribution, (typeof OPTIONS)[number] | "tags"> {
  const found: Record<string, unknown> = {};
  for (const name of OPTIONS) if (said[name] !== undefined) found[name] = said[name];
  if (said.tags !== undefined && Object.keys(said.tags).length > 0) found.tags = { ...said.tags };
  return found;
}

/** What surrounds a piece of code, and everything that it awaits. */
export interface Surrounding {
  readonly said: Attribution;
  readonly framework: Attribution;
  readonly ungated: boolean;
  readonly run: string | undefined;
  readonly watch: { refusal: NoburnError | undefined } | undefined;
}

/** Something that carries a value through awaits: `AsyncLocalStorage`, or what is like it. */
export interface Carrier {
  getStore(): Surrounding | undefined;
  run<T>(store: Surrounding, fn: () => T): T;
}

const OUTSIDE: Surrounding = Object.freeze({
  said: NOTHING,
  framework: NOTHING,
  ungated: false,
  run: undefined,
  watch: undefined,
});

/** Sets what carries contexts: the entry `@noburn/sdk/context` does. The first one stays. */
export function setCarrier(carrier: Carrier): void {
  state().carrier ??= carrier;
}

/** Finds what the runtime offers without an import: a global of edge runtimes, or Node's own way to its modules. */
function findCarrier(): Carrier | undefined {
  const known = state();
  if (known.carrier === undefined && !known.searched) {
    known.searched = true;
    const around = globalThis as {
      AsyncLocalStorage?: new () => Carrier;
      process?: {
        getBuiltinModule?: (name: string) => { AsyncLocalStorage?: new () => Carrier } | undefined;
      };
    };
    const Found =
      around.AsyncLocalStorage ?? around.process?.getBuiltinModule?.("node:async_hooks")?.AsyncLocalStorage;
    if (Found !== undefined) known.carrier = new Found();
  }
  return known.carrier;
}

/** Returns what surrounds the code that asks. */
export function surrounding(): Surrounding {
  return findCarrier()?.getStore() ?? OUTSIDE;
}

/** Says whether anything here carries a context through awaits, so that `within` can be used. */
export function canCarry(): boolean {
  return findCarrier() !== undefined;
}

/** Runs a function, and all that it awaits, with something changed around it. */
export function within<T>(change: Partial<Surrounding>, fn: () => T): T {
  return needCarrier().run({ ...surrounding(), ...change }, fn);
}

/** Returns what carries contexts here. Throws NoburnError where nothing does. */
export function needCarrier(): Carrier {
  const carrier = findCarrier();
  if (carrier === undefined) {
    // Never to run it as if nothing had been said: its calls would meet nobody's budget.
    throw new NoburnError(
      'nothing here carries a context through awaits: import "@noburn/sdk/context" (it needs node:async_hooks), ' +
        "or say whom each call is for in the call itself",
    );
  }
  return carrier;
}

/** Returns what the surrounding contexts say together. */
export function current(): Attribution {
  return surrounding().said;
}

/** Runs a function whose calls, and those of all that it awaits, are for somebody. Nests: the inner one wins. */
export function context<T>(said: Attribution, fn: () => T): T {
  return within({ said: over(said, current()) }, fn);
}

/** Lets the calls inside go to the provider unasked and unmetered: for what is gated already, by hand. */
export function ungated<T>(fn: () => T): T {
  return within({ ungated: true }, fn);
}

/** Says whether calls here are to pass unasked. */
export function isUngated(): boolean {
  return surrounding().ungated;
}

/** Returns what frameworks know of the calls here; whatever the caller says comes before it. */
export function framework(): Attribution {
  let found = surrounding().framework;
  for (const source of state().sources) found = over(found, source());
  return found;
}

/** Runs a function with what a framework knows of its calls. */
export function tellFramework<T>(said: Attribution, fn: () => T): T {
  return within({ framework: said }, fn);
}

/** Asks a framework's integration, whenever a call is made, what it knows of it. */
export function addSource(source: () => Attribution): void {
  state().sources.add(source);
}

/** Undoes `addSource`. */
export function removeSource(source: () => Attribution): void {
  state().sources.delete(source);
}

/**
 * Reads `x-noburn-customer`, `x-noburn-tags: feature=chat,team=blue`, `x-noburn-cost-usd` and so on.
 *
 * Values may be percent-encoded, as headers hold ASCII alone. Throws InvalidRequestError for unknown ones.
 */
export function fromHeaders(headers: Iterable<readonly [string, string]>): Attribution {
  const said: Record<string, unknown> = {};
  const errors: Record<string, string> = {};
  for (const [name, value] of headers) {
    const low = name.toLowerCase();
    if (!low.startsWith(HEADER_PREFIX)) continue;
    const key = low.slice(HEADER_PREFIX.length);
    const text = unquoted(String(value)).trim();
    const known = BY_HEADER.get(key);
    if (key === "tags") {
      const pairs = text.split(",").filter((pair) => pair.trim());
      said.tags = Object.fromEntries(
        pairs.map((pair) => {
          const at = pair.indexOf("=");
          return at < 0 ? [pair.trim(), ""] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
        }),
      );
    } else if (known === undefined) {
      errors[low] = `unknown; known are tags, ${[...BY_HEADER.keys()].join(", ")}`;
    } else if (WHOLE.has(known) && !/^[0-9]{1,15}$/.test(text)) {
      errors[low] = "must be a whole number";
    } else if (text) {
      said[known] = WHOLE.has(known) ? Number(text) : text;
    }
  }
  if (Object.keys(errors).length > 0) {
    throw new InvalidRequestError("The call's noburn headers are invalid", { errors });
  }
  return said as Attribution;
}

function unquoted(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
