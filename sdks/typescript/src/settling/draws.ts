/** Reports of draws, one request for each lease and process, answered draw by draw; and leases that nobody drew from. */

import * as answers from "../answers.js";
import type { Noburn } from "../client.js";
import { NoburnError } from "../errors.js";
import { readNano, toUsd } from "../money.js";
import { post } from "../requests.js";
import type { JsonObject, Settled } from "../results.js";
import type { Resolution } from "./resolution.js";

/** Draws in one report. */
export const DRAWS_MAX = 500;

/** What a report of draws was answered. */
export interface Reported {
  /** What is wrong with each draw, if something is. */
  readonly errors: readonly (NoburnError | null)[];
  readonly results: readonly JsonObject[];
  readonly answer: JsonObject;
}

/** One draw by its number, and what it cost, where that was told. */
export type Heard = readonly [sequence: number, costNano: bigint | null];

/** Draws cut by lease and process, and so that no report has too many. */
export function partsOf(items: readonly Resolution[]): Resolution[][] {
  const found = new Map<string, Resolution[]>();
  for (const item of items) {
    const key = `${item.body.id} ${item.body.nonce}`;
    const part = found.get(key);
    if (part === undefined) found.set(key, [item]);
    else part.push(item);
  }
  const parts: Resolution[][] = [];
  for (const part of found.values()) {
    for (let start = 0; start < part.length; start += DRAWS_MAX) {
      parts.push(part.slice(start, start + DRAWS_MAX));
    }
  }
  return parts;
}

/** Reports draws of one lease. Throws NoburnError when the report failed. */
export async function report(client: Noburn, part: readonly Resolution[]): Promise<Reported> {
  const first = answers.objectOf(part[0]?.body);
  const body = {
    authorization: first.authorization,
    nonce: first.nonce,
    draws: part.map((item) => answers.objectOf(item.body.draw)),
  };
  const reply = await client.ask(post(`/v1/leases/${first.id}/report`, body));
  const answer = answers.answer(reply);
  const results = answers.objectsOf(answer.results);
  if (results.length !== part.length) {
    throw new NoburnError("noburn answered another number of draws than were reported", {
      status: reply.status,
    });
  }
  return { errors: results.map((item) => answers.failureOfItem(item, reply)), results, answer };
}

/** A draw's number and cost, of what was told and answered. */
export function heardOf(item: Resolution, result: JsonObject): Heard {
  return [Number(answers.objectOf(item.body.draw).seq), readNano(result.cost_usd)];
}

/**
 * Closes a lease of which nothing was drawn. One whose answer was lost is asked for again, with the same key, to learn which
 * it is. Throws NoburnError when that failed.
 */
export async function giveBack(client: Noburn, item: Resolution): Promise<void> {
  let { id, authorization } = item.body;
  if (id == null) {
    const value = answers.answer(
      await client.ask(post("/v1/leases", answers.objectOf(item.body.ask), item.key)),
    );
    if (value.decision !== "allow") return;
    id = answers.objectOf(value.lease).id;
    authorization = value.authorization;
  }
  const end = { authorization, nonce: item.body.nonce, total: 0, draws: [] };
  answers.answer(await client.ask(post(`/v1/leases/${id}/close`, end)));
}

/** What became of a draw: its bound is what it held. */
export function settledOfDraw(item: Resolution, result: JsonObject): Settled {
  const bound = readNano(answers.objectOf(item.body.draw).bound_usd) ?? 0n;
  const cost = readNano(result.cost_usd);
  const beyond = (nano: bigint): string => toUsd(nano > 0n ? nano : 0n);
  return {
    ...answers.settledOf(result),
    releasedUsd: cost === null ? null : beyond(bound - cost),
    overrunUsd: cost === null ? "0" : beyond(cost - bound),
  };
}
