/**
 * Runs of agents: `await run({ usd: "2", steps: 40 }, async (run) => …)`. A run inside another one is its child.
 *
 * A run's caps hold for its calls and for those of all runs below it, as budgets do: before a call is made, whatever process
 * makes it. Stopped from anywhere, no further call of it is let through.
 */

import type { Reply } from "./answers.js";
import * as answers from "./answers.js";
import { current, needCarrier, over, surrounding, within } from "./attribution.js";
import { BudgetExceededError, InvalidRequestError } from "./errors.js";
import { log, said } from "./log.js";
import type { Amount } from "./money.js";
import { amountText, checkAmount, checkCount, checkText, post, type Request, throwAny } from "./requests.js";
import { denial, type Json, type JsonObject } from "./results.js";

const METADATA_MAX = 16;
const REASON_MAX = 200;

/**
 * A run to be started. `seconds` and `idleSeconds` are whole numbers; what is left out caps nothing.
 *
 * `run` is an id of your own, else noburn makes one; `depth` is how many levels of runs may be below.
 */
export interface NewRun {
  readonly usd?: Amount | undefined;
  readonly steps?: number | undefined;
  readonly seconds?: number | undefined;
  readonly depth?: number | undefined;
  readonly run?: string | undefined;
  readonly parent?: string | undefined;
  readonly customer?: string | undefined;
  readonly user?: string | undefined;
  readonly project?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly idleSeconds?: number | undefined;
  readonly idempotencyKey?: string | undefined;
}

/** What a run and all below it used so far. `models` is by model: calls, cost_usd, tokens; `refused` by reason. */
export interface RunSummary {
  readonly calls: number;
  readonly costUsd: string;
  readonly tokens: number;
  readonly runs: number;
  readonly models: Readonly<Record<string, JsonObject>>;
  readonly refused: Readonly<Record<string, number>>;
}

/** A run as it stands: `state` is open, ended or stopped. `summary` is there once it is over. */
export interface RunState {
  readonly id: string;
  readonly state: string;
  readonly reason: string;
  readonly parent: string | null;
  readonly startedAt: Date | null;
  readonly endsAt: Date | null;
  readonly closedNow: boolean;
  readonly summary: RunSummary | null;
  readonly raw: JsonObject;
}

/** Returns the id of the innermost run here; undefined outside of one. */
export function currentRun(): string | undefined {
  return surrounding().run;
}

/** Returns the request that starts a run, below `parent` unless it names one of its own. Throws InvalidRequestError. */
export function startRequest(wanted: NewRun, parent: string | undefined): Request {
  const errors: Record<string, string> = {};
  checkAmount(errors, "usd", wanted.usd);
  for (const [name, least] of [
    ["steps", 0],
    ["seconds", 1],
    ["depth", 0],
    ["idleSeconds", 1],
  ] as const) {
    if (wanted[name] !== undefined) checkCount(errors, name, wanted[name], least);
  }
  for (const name of ["run", "parent", "customer", "user", "project", "idempotencyKey"] as const) {
    checkText(errors, name, wanted[name]);
  }
  const metadata = Object.entries(wanted.metadata ?? {});
  if (metadata.length > METADATA_MAX || !metadata.every(([, value]) => typeof value === "string")) {
    errors.metadata = `must be at most ${METADATA_MAX} texts`;
  }
  throwAny("The run is invalid", errors);
  const caps = stated({
    steps: wanted.steps,
    seconds: wanted.seconds,
    depth: wanted.depth,
    usd: wanted.usd === undefined ? undefined : amountText(wanted.usd),
  });
  const subject = stated({ project: wanted.project, customer: wanted.customer, user: wanted.user });
  const body = stated({
    caps: isEmpty(caps) ? undefined : caps,
    run: wanted.run,
    parent: wanted.parent ?? parent,
    subject: isEmpty(subject) ? undefined : subject,
    metadata: metadata.length > 0 ? { ...wanted.metadata } : undefined,
    idle_seconds: wanted.idleSeconds,
  });
  return post("/v1/runs", body, wanted.idempotencyKey);
}

function stated(value: Record<string, Json | undefined>): JsonObject {
  return Object.fromEntries(Object.entries(value).filter((pair) => pair[1] !== undefined));
}

function isEmpty(value: JsonObject): boolean {
  return Object.keys(value).length === 0;
}

/** Returns the request that stops or ends a run. */
export function closeRequest(run: string, how: "stop" | "end", reason: string): Request {
  if (typeof run !== "string" || !run) {
    throw new InvalidRequestError("No run", { errors: { run: "must be the id of a run" } });
  }
  const body = reason ? { reason: reason.slice(0, REASON_MAX) } : {};
  return post(`/v1/runs/${encodeURIComponent(run)}/${how}`, body);
}

/** Reads the answer of a start. Throws BudgetExceededError where a run above stands in its way. */
export function started(reply: Reply): RunState {
  const value = answers.answer(reply);
  if (value.decision === "deny") {
    const [reason, detail] = [answers.textOf(value.reason) ?? "", answers.textOf(value.detail)];
    throw new BudgetExceededError(denial({ reason, detail, raw: value }));
  }
  return stateOf(value);
}

/** Reads the answer of a stop or an end. */
export function closed(reply: Reply): RunState {
  return stateOf(answers.answer(reply));
}

function stateOf(value: JsonObject): RunState {
  const told = value.summary;
  return {
    id: answers.textOf(value.run) ?? "",
    state: answers.textOf(value.state) ?? "",
    reason: answers.textOf(value.reason) ?? "",
    parent: answers.textOf(value.parent),
    startedAt: answers.timeOf(value.started_at),
    endsAt: answers.timeOf(value.ends_at),
    closedNow: value.closed_now === true,
    summary: typeof told === "object" && told !== null ? summaryOf(answers.objectOf(told)) : null,
    raw: value,
  };
}

function summaryOf(value: JsonObject): RunSummary {
  const models = answers.objectsOf(value.models).map((one) => [String(one.model), one] as const);
  const refused = Object.entries(answers.objectOf(value.refused));
  return {
    calls: answers.wholeOf(value.calls) ?? 0,
    costUsd: answers.amountOf(value.cost_usd) ?? "0",
    tokens: answers.wholeOf(value.tokens) ?? 0,
    runs: answers.wholeOf(value.runs) ?? 0,
    models: Object.fromEntries(models),
    refused: Object.fromEntries(refused.map(([name, count]) => [name, answers.wholeOf(count) ?? 0])),
  };
}

/** A run while its function is inside. `result` is what became of it, once outside. */
export class Running {
  readonly state: RunState;
  result: RunState | undefined;
  readonly #ask: (request: Request) => Promise<Reply>;

  constructor(state: RunState, ask: (request: Request) => Promise<Reply>) {
    this.state = state;
    this.#ask = ask;
  }

  /** The run's id. */
  get id(): string {
    return this.state.id;
  }

  /** Stops it, and all below it: no further call is let through. */
  async stop(reason = ""): Promise<RunState> {
    return closed(await this.#ask(closeRequest(this.id, "stop", reason)));
  }

  /** Ends it. Never throws: an idle run is ended by noburn itself. */
  async ended(error: unknown): Promise<void> {
    try {
      const why = error === undefined ? "" : `failed: ${error instanceof Error ? error.name : typeof error}`;
      this.result = closed(await this.#ask(closeRequest(this.id, "end", why)));
    } catch (failed) {
      log("warning", `run ${this.id} could not be ended: ${said(failed)}`);
    }
  }
}

/** Starts a run, runs a function inside it, and ends it, whatever came of the function. */
export async function running<T>(
  ask: (request: Request) => Promise<Reply>,
  wanted: NewRun,
  fn: (run: Running) => T | Promise<T>,
): Promise<T> {
  needCarrier();
  const run = new Running(started(await ask(startRequest(wanted, currentRun()))), ask);
  const { customer, user, project } = wanted;
  let failed: { error: unknown } | undefined;
  try {
    const said = over({ run: run.id, customer, user, project }, current());
    return await within({ said, run: run.id }, async () => fn(run));
  } catch (error) {
    failed = { error };
    throw error;
  } finally {
    await run.ended(failed === undefined ? undefined : (failed.error ?? "nothing"));
  }
}
