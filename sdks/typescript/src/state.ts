/** What is one for a process, though it may hold this package twice: as ESM and as CommonJS. */

import type { Attribution, Carrier } from "./attribution.js";
import type { Gate } from "./gate/gate.js";

export interface State {
  carrier?: Carrier;
  /** Whether the runtime was looked through for a carrier. */
  searched: boolean;
  readonly sources: Set<() => Attribution>;
  gate?: Gate;
  /** What else is one for a process, by its owner's name. */
  readonly shared: Map<string, unknown>;
}

const KEY = Symbol.for("noburn.sdk.state.1");

/** Returns the process's state. */
export function state(): State {
  const around = globalThis as { [KEY]?: State };
  let found = around[KEY];
  if (found === undefined) {
    found = { searched: false, sources: new Set(), shared: new Map() };
    around[KEY] = found;
  }
  return found;
}
