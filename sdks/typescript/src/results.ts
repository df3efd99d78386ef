/** What the SDK returns. Amounts are USD as exact decimal texts (`toNano` makes them whole numbers); times are Dates. */

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json | undefined;
}

/** One budget as it stands. USD fields are null where it counts tokens or requests; `raw` has it whole. */
export interface BudgetState {
  readonly id: string;
  readonly scope: string;
  readonly subject: string | null;
  readonly window: string | null;
  readonly limitUsd: string | null;
  readonly remainingUsd: string | null;
  readonly resetsAt: Date | null;
  readonly raw: JsonObject;
}

/** A model that the same call could use within budget, and what it may cost at most. */
export interface Alternative {
  readonly model: string;
  readonly estimateUsd: string | null;
}

/**
 * The call may be made, with `model` and with output capped at `maxOutputTokens`.
 *
 * Put that cap into the provider call: a bound that the provider does not enforce is no bound. `authorization` is what
 * settles it and `amountUsd` what is held; a dry run has no authorization, and its amount is the estimate.
 */
export interface Allowed {
  readonly decision: "allow";
  readonly authorization: string | null;
  readonly holdId: string | null;
  readonly amountUsd: string | null;
  readonly expiresAt: Date | null;
  readonly model: string;
  readonly maxOutputTokens: number | null;
  readonly budgets: readonly BudgetState[];
  readonly warnings: readonly Json[];
  /** Why `model` is another one than was asked for: `policy pol_…: short strict JSON`, `budget bud_…`. */
  readonly rerouted: string | null;
  readonly raw: JsonObject;
}

/** The call must not be made. `reason` says why, `budget` which one, the rest what would fit instead. */
export interface Denied {
  readonly decision: "deny";
  readonly reason: string;
  readonly estimateUsd: string | null;
  readonly fitsMaxOutputTokens: number | null;
  readonly budget: BudgetState | null;
  readonly alternatives: readonly Alternative[];
  readonly retryAfterMs: number | null;
  readonly detail: string | null;
  readonly raw: JsonObject;
}

/**
 * What a settle or void did. An amount is null where the server did not name it.
 *
 * `state` is settled, voided or presumed. `overrunUsd` is what the call cost beyond its hold; `replayed` says that this had
 * been applied before, `late` that it corrected an earlier resolution.
 */
export interface Settled {
  readonly costUsd: string | null;
  readonly releasedUsd: string | null;
  readonly overrunUsd: string;
  readonly replayed: boolean;
  readonly state: string;
  readonly late: boolean;
  readonly warnings: readonly Json[];
  readonly raw: JsonObject;
}

/** A hold with a longer life. Settle or extend it further with this, in place of the first answer. */
export interface Extended {
  readonly holdId: string;
  readonly expiresAt: Date | null;
  readonly authorization: string;
  readonly raw: JsonObject;
}

/** What the asked subjects have left, budget by budget. `remainingUsd`: the least of the USD budgets, null without one. */
export interface Remaining {
  readonly budgets: readonly BudgetState[];
  readonly remainingUsd: string | null;
  readonly raw: JsonObject;
}

/** Returns a refusal with the fields that are not given left empty. */
export function denial(fields: Partial<Denied> & { readonly reason: string }): Denied {
  return {
    decision: "deny",
    estimateUsd: null,
    fitsMaxOutputTokens: null,
    budget: null,
    alternatives: [],
    retryAfterMs: null,
    detail: null,
    raw: {},
    ...fields,
  };
}

/** Returns a refusal as a sentence that a person can act on. */
export function explain(denied: Denied): string {
  const parts = [`noburn refused the call: ${denied.reason}`];
  if (denied.detail) parts.push(denied.detail);
  const budget = denied.budget;
  if (budget !== null) {
    let text = `${budget.scope} budget ${budget.id}`;
    if (budget.limitUsd !== null) text += ` of $${budget.limitUsd}`;
    if (budget.remainingUsd !== null) text += ` has $${budget.remainingUsd} left`;
    if (budget.resetsAt !== null) text += ` until ${budget.resetsAt.toISOString()}`;
    parts.push(text);
  }
  if (denied.estimateUsd !== null) parts.push(`the call may cost $${denied.estimateUsd}`);
  if (denied.fitsMaxOutputTokens) parts.push(`maxOutputTokens: ${denied.fitsMaxOutputTokens} would fit`);
  if (denied.alternatives.length > 0) {
    parts.push(`cheaper: ${denied.alternatives.map((other) => other.model).join(", ")}`);
  }
  return parts.join("; ");
}
