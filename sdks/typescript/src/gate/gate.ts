import type { Attribution } from "../attribution.js";
import type { Denied } from "../results.js";
import type { Asked } from "./endpoints.js";
import type { HeldCall } from "./held.js";
import type { Settings } from "./settings.js";

/**
 * A gate's options: its `Settings`, where noburn is, and whom calls are for where nothing more specific says so.
 *
 * `apiKey` and `baseUrl` default to NOBURN_API_KEY and NOBURN_BASE_URL.
 */
export type GateOptions = { readonly [K in keyof Settings]?: Settings[K] | undefined } & {
  readonly apiKey?: string | undefined;
  readonly baseUrl?: string | undefined;
  readonly defaults?: Attribution | undefined;
  /** What is used in the place of the global one. Taken when the gate is made, so that a patched one never gates it. */
  readonly fetch?: typeof globalThis.fetch | undefined;
};

/** Asks noburn about calls and settles them in the background; one for a process. */
export class Gate {
  declare readonly settings: Settings;
  declare readonly defaults: Attribution;
  declare readonly baseUrl: string;
  /** Called with each call that would have been refused, in mode observe. */
  observed?: (asked: Asked, denied: Denied) => void;

  constructor(_options: GateOptions = {}) {
    throw new Error("not yet");
  }

  /** Asks about an attempt and returns it held. Throws NoburnError for whatever forbids it. */
  admit(_asked: Asked): Promise<HeldCall> {
    throw new Error("not yet");
  }

  /** Waits until every settlement so far has arrived; false if that took too long. */
  flush(_timeoutMs?: number): Promise<boolean> {
    throw new Error("not yet");
  }

  /** Flushes and closes everything. False if settlements are left. */
  close(_timeoutMs?: number): Promise<boolean> {
    throw new Error("not yet");
  }
}
