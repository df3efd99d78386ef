/** The gate that everything uses which was given none of its own, made from the environment when first needed. */

import type { Attribution } from "./attribution.js";
import { InvalidRequestError } from "./errors.js";
import { Gate, type GateOptions } from "./gate/gate.js";
import { state } from "./state.js";

/** What `configure` takes: the options of a gate, whom calls are for by default, or a gate alone. */
export type ConfigureOptions = GateOptions &
  Pick<Attribution, "customer" | "user" | "run" | "project" | "plan" | "tags" | "provider"> & {
    readonly gate?: Gate | undefined;
  };

const SAID = ["customer", "user", "run", "project", "plan", "tags", "provider"] as const;

/** Returns the process's gate. Throws AuthenticationError where NOBURN_API_KEY is missing. */
export function defaultGate(): Gate {
  const known = state();
  known.gate ??= new Gate();
  return known.gate;
}

/** Whether the process has a gate already. */
export function isConfigured(): boolean {
  return state().gate !== undefined;
}

/**
 * Makes the process's gate anew, from options or as the one given; the one before is flushed and closed in the background.
 *
 * Throws as `Gate` does.
 */
export function configure(options: ConfigureOptions = {}): Gate {
  const { gate, ...given } = options;
  if (gate !== undefined && Object.values(given).some((value) => value !== undefined)) {
    throw new InvalidRequestError("Cannot configure", {
      errors: { gate: "must be given alone; it has settings of its own" },
    });
  }
  const said: Record<string, unknown> = { ...given.defaults };
  for (const name of SAID) if (given[name] !== undefined) said[name] = given[name];
  const made = gate ?? new Gate({ ...given, defaults: said as Attribution });
  const known = state();
  const before = known.gate;
  known.gate = made;
  if (before !== undefined && before !== made) void before.close();
  return made;
}

/** Closes the process's gate; the next use makes a new one. */
export async function release(): Promise<void> {
  const known = state();
  const before = known.gate;
  delete known.gate;
  await before?.close();
}

/** Waits until every settlement of this process so far has arrived; false if that took too long. */
export async function flush(timeoutMs?: number): Promise<boolean> {
  return (await state().gate?.flush(timeoutMs)) ?? true;
}
