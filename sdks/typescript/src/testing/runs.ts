/** Runs of the plane in memory: caps of USD and steps, stops, ends; without seconds, since nothing here has a clock. */

import { objectOf, textOf, wholeOf } from "../answers.js";
import { newKey } from "../requests.js";
import type { JsonObject } from "../results.js";

/** One run. */
export interface MemoryRun {
  readonly id: string;
  readonly parent: string | null;
  readonly steps: number | null;
  state: "open" | "stopped" | "ended";
  reason: string;
  calls: number;
}

/** Why a call of a run is refused. */
interface RunRefusal {
  readonly decision: "deny";
  readonly reason: "run_stopped" | "run_limit";
  readonly run: JsonObject;
}

/** The runs that were started, by their ids. */
export class MemoryRuns {
  readonly byId = new Map<string, MemoryRun>();

  /** The runs above a run, the nearest first. */
  above(run: string): string[] {
    const found: string[] = [];
    let parent = this.byId.get(run)?.parent ?? null;
    while (parent !== null && !found.includes(parent)) {
      found.push(parent);
      parent = this.byId.get(parent)?.parent ?? null;
    }
    return found;
  }

  /** What refuses a call of the run, if something does. */
  refusal(run: string): RunRefusal | undefined {
    for (const id of [run, ...this.above(run)]) {
      const known = this.byId.get(id);
      if (known === undefined) continue;
      if (known.state !== "open") return { decision: "deny", reason: "run_stopped", run: { id } };
      if (known.steps !== null && known.calls >= known.steps) {
        return { decision: "deny", reason: "run_limit", run: { id, cap: "steps" } };
      }
    }
    return undefined;
  }

  /** Notes a call of the run. */
  count(run: string): void {
    for (const id of [run, ...this.above(run)]) {
      const known = this.byId.get(id);
      if (known !== undefined) known.calls += 1;
    }
  }

  /** Answers a request about runs as the gateway does; `cap` makes a cap of USD a budget. */
  answer(path: string, body: JsonObject, cap: (run: string, usd: string) => void): JsonObject {
    if (path === "/v1/runs") return this.#start(body, cap);
    const [name = "", how] = path.slice("/v1/runs/".length).split("/");
    const id = decodeURIComponent(name);
    const known = this.byId.get(id) ?? this.#made(id, null, null);
    const now = known.state === "open";
    if (now) {
      known.state = how === "stop" ? "stopped" : "ended";
      known.reason = textOf(body.reason) ?? "";
    }
    const summary = { calls: known.calls, cost_usd: "0", tokens: 0, runs: 1, models: [], refused: {} };
    return { ...shown(known), closed_now: now, summary };
  }

  #start(body: JsonObject, cap: (run: string, usd: string) => void): JsonObject {
    const caps = objectOf(body.caps);
    const parent = textOf(body.parent);
    const refused = parent === null ? undefined : this.refusal(parent);
    if (refused !== undefined) return { ...refused };
    const made = this.#made(textOf(body.run) ?? `run_memory_${newKey()}`, parent, wholeOf(caps.steps));
    const usd = textOf(caps.usd);
    if (usd !== null) cap(made.id, usd);
    return { decision: "allow", ...shown(made) };
  }

  #made(id: string, parent: string | null, steps: number | null): MemoryRun {
    const made: MemoryRun = { id, parent, steps, state: "open", reason: "", calls: 0 };
    this.byId.set(id, made);
    return made;
  }
}

function shown(run: MemoryRun): JsonObject {
  return { run: run.id, state: run.state, reason: run.reason, parent: run.parent };
}
