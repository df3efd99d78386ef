/** A noburn in memory, for tests of programs: budgets of USD without windows, and all that it was asked and told. */

import { objectOf, objectsOf, textOf, wholeOf } from "../answers.js";
import { readNano, toNano, toUsd } from "../money.js";
import { newKey } from "../requests.js";
import type { Json, JsonObject } from "../results.js";
import { MemoryRuns } from "./runs.js";

const CAP_DEFAULT = 4_096;
/** What a token costs where no price was set, in nano-USD. */
const INPUT_NANO = 1_000n;
const OUTPUT_NANO = 2_000n;
const SCOPES = ["customer", "user", "project", "run", "plan"] as const;
const ANSWERS_MAX = 100_000;

export type MemoryScope = (typeof SCOPES)[number];

/** A pre-flight that was answered: what was asked, and what came of it. */
export interface MemoryDecision {
  readonly asked: JsonObject;
  readonly allowed: boolean;
  readonly amountUsd: string;
  readonly reason: string | null;
  readonly holdId: string | null;
  readonly model: string;
  readonly subject: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
}

/** What became of a hold: settled, voided or presumed. */
export interface MemorySettlement {
  readonly holdId: string;
  readonly state: "settled" | "voided" | "presumed";
  readonly costUsd: string;
  readonly outcome: string;
  readonly usage: JsonObject | null;
  readonly decision: MemoryDecision;
}

interface Budget {
  readonly id: string;
  readonly scope: string;
  readonly subject: string;
  readonly limit: bigint;
  spent: bigint;
  held: bigint;
}

interface Hold {
  readonly decision: MemoryDecision;
  readonly nano: bigint;
  readonly budgets: readonly Budget[];
}

/** Everything that was decided and settled is in its lists, oldest first. */
export class MemoryPlane {
  readonly decisions: MemoryDecision[] = [];
  readonly settlements: MemorySettlement[] = [];
  /** Path and body of whatever was sent to it. */
  readonly requests: { readonly path: string; readonly body: string }[] = [];
  /** The runs that were started. */
  readonly runs = new MemoryRuns();
  defaultMaxOutputTokens = CAP_DEFAULT;
  /** Whether it answers nothing, as in an outage. */
  unavailable = false;
  readonly #budgets: Budget[] = [];
  readonly #holds = new Map<string, Hold>();
  readonly #answers = new Map<string, JsonObject>();
  readonly #prices = new Map<string, readonly [bigint, bigint]>();

  /** Gives a customer, user, project, run or plan so much, once; a call of it is refused beyond that. */
  budget(scope: MemoryScope, subject: string, limitUsd: string): void {
    if (!SCOPES.includes(scope)) throw new RangeError(`scope: must be one of ${SCOPES.join(", ")}`);
    const id = `bud_memory_${this.#budgets.length + 1}`;
    this.#budgets.push({ id, scope, subject, limit: toNano(limitUsd), spent: 0n, held: 0n });
  }

  /** Sets what a million tokens of a model cost. */
  price(model: string, usd: { readonly input: string; readonly output: string }): void {
    this.#prices.set(model, [toNano(usd.input) / 1_000_000n, toNano(usd.output) / 1_000_000n]);
  }

  /** What was refused. */
  get refusals(): MemoryDecision[] {
    return this.decisions.filter((one) => !one.allowed);
  }

  /** How many holds are open. */
  get held(): number {
    return this.#holds.size;
  }

  /** What was spent of these budgets, in USD. */
  spentUsd(scope: MemoryScope, subject: string): string {
    const mine = this.#budgets.filter((one) => one.scope === scope && one.subject === subject);
    return toUsd(mine.reduce((sum, one) => sum + one.spent, 0n));
  }

  /** Answers a request as noburn's gateway does: what a client takes as its `fetch`. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const address = input instanceof Request ? input.url : String(input);
    const path = new URL(address).pathname;
    const body = typeof init?.body === "string" ? init.body : "";
    if (this.unavailable) {
      const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
      throw new TypeError("fetch failed", { cause: refused });
    }
    this.requests.push({ path, body });
    const key = `${path} ${new Headers(init?.headers).get("idempotency-key") ?? newKey()}`;
    const known = this.#answers.get(key);
    if (known !== undefined) return Response.json(known);
    const value = this.#answer(path, body ? objectOf(JSON.parse(body)) : {});
    if (value === undefined) {
      return Response.json({ title: "The plane in memory has no such path", status: 404 }, { status: 404 });
    }
    if (value.decision !== "deny" && this.#answers.size < ANSWERS_MAX) this.#answers.set(key, value);
    return Response.json(value);
  };

  #answer(path: string, body: JsonObject): JsonObject | undefined {
    switch (path) {
      case "/v1/preflight":
        return this.#preflight(body);
      case "/v1/settle":
        return this.#settle(body);
      case "/v1/settle/batch":
        return {
          results: objectsOf(body.settlements).map((item) => ({ status: 200, ...this.#settle(item) })),
        };
      case "/v1/void":
        return this.#void(body);
      case "/v1/remaining":
        return { budgets: this.#budgets.map(shown) };
      case "/v1/prices":
        return { prices: [] };
      default:
        if (!path.startsWith("/v1/runs")) return undefined;
        return this.runs.answer(path, body, (run, usd) => this.budget("run", run, usd));
    }
  }

  #cost(model: string, inputs: number, outputs: number): bigint {
    const [input, output] = this.#prices.get(model) ?? [INPUT_NANO, OUTPUT_NANO];
    return BigInt(inputs) * input + BigInt(outputs) * output;
  }

  #preflight(asked: JsonObject): JsonObject {
    const subject = textsOf(asked.subject);
    const model = textOf(asked.model) ?? "";
    const cap = wholeOf(asked.max_output_tokens) ?? this.defaultMaxOutputTokens;
    const counted = this.#cost(model, wholeOf(asked.input_tokens) ?? 0, cap * (wholeOf(asked.n) ?? 1));
    const stated = readNano(asked.cost_usd) ?? 0n;
    const nano = counted > stated ? counted : stated;
    const note = (reason: string | null, holdId: string | null): MemoryDecision => {
      const tags = textsOf(asked.tags);
      const amountUsd = toUsd(nano);
      const made = { asked, allowed: reason === null, amountUsd, reason, holdId, model, subject, tags };
      this.decisions.push(made);
      return made;
    };
    const { run } = subject;
    const stopped = run === undefined ? undefined : this.runs.refusal(run);
    if (stopped !== undefined) {
      note(stopped.reason, null);
      return { ...stopped };
    }
    const runs = run === undefined ? [] : [run, ...this.runs.above(run)];
    const budgets = this.#budgets.filter((one) =>
      one.scope === "run" ? runs.includes(one.subject) : subject[one.scope] === one.subject,
    );
    for (const one of budgets) {
      if (one.spent + one.held + nano <= one.limit) continue;
      const busy = one.spent + nano <= one.limit;
      const full = one.scope === "run" ? "run_limit" : "budget_exceeded";
      const reason = busy ? "budget_busy" : full;
      note(reason, null);
      const estimate_usd = toUsd(nano);
      return { decision: "deny", reason, estimate_usd, budget: shown(one), alternatives: [] };
    }
    if (asked.dry_run) return { decision: "allow", estimate_usd: toUsd(nano), model };
    const id = `hold_memory_${newKey()}`;
    const decision = note(null, id);
    if (run !== undefined) this.runs.count(run);
    for (const one of budgets) one.held += nano;
    this.#holds.set(id, { decision, nano, budgets });
    return {
      decision: "allow",
      authorization: `nba1.memory.${id}`,
      hold: { id, amount_usd: toUsd(nano) },
      model,
      max_output_tokens: cap,
      budgets: budgets.map(shown),
    };
  }

  #settle(body: JsonObject): JsonObject {
    const hold = this.#holdOf(body);
    if (hold === undefined) return { cost_usd: "0", replayed: true };
    const stated = readNano(body.cost_usd);
    if (stated !== null) return this.#resolve(body, hold, "settled", stated);
    if (body.usage == null) return this.#resolve(body, hold, "presumed", hold.nano);
    const usage = objectOf(body.usage);
    const [inputs, outputs] = [wholeOf(usage.input_tokens) ?? 0, wholeOf(usage.output_tokens) ?? 0];
    return this.#resolve(body, hold, "settled", this.#cost(hold.decision.model, inputs, outputs));
  }

  #void(body: JsonObject): JsonObject {
    const hold = this.#holdOf(body);
    if (hold === undefined) return { cost_usd: "0", replayed: true };
    return this.#resolve(body, hold, "voided", 0n);
  }

  #holdOf(body: JsonObject): Hold | undefined {
    return this.#holds.get(String(body.authorization).split(".").pop() ?? "");
  }

  #resolve(body: JsonObject, hold: Hold, state: MemorySettlement["state"], cost: bigint): JsonObject {
    const holdId = hold.decision.holdId ?? "";
    this.#holds.delete(holdId);
    for (const one of hold.budgets) {
      one.held -= hold.nano;
      one.spent += cost;
    }
    this.settlements.push({
      holdId,
      state,
      costUsd: toUsd(cost),
      outcome: textOf(body.outcome) ?? "ok",
      usage: body.usage == null ? null : objectOf(body.usage),
      decision: hold.decision,
    });
    const beyond = (nano: bigint): Json => toUsd(nano > 0n ? nano : 0n);
    return {
      state,
      cost_usd: toUsd(cost),
      released_usd: beyond(hold.nano - cost),
      overrun_usd: beyond(cost - hold.nano),
      replayed: false,
    };
  }
}

function shown(one: Budget): JsonObject {
  const left = one.limit - one.spent - one.held;
  return {
    id: one.id,
    scope: one.scope,
    subject: one.subject,
    limit_usd: toUsd(one.limit),
    remaining_usd: toUsd(left > 0n ? left : 0n),
  };
}

function textsOf(value: unknown): Readonly<Record<string, string>> {
  const found = Object.entries(objectOf(value)).filter(
    (pair): pair is [string, string] => typeof pair[1] === "string",
  );
  return Object.fromEntries(found);
}
