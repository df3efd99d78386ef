/**
 * noburn refuses an LLM call before it fires when nobody has budget left to pay for it.
 *
 *     import { configure, context } from "@noburn/sdk";
 *     import { instrument } from "@noburn/sdk/instrument";
 *
 *     instrument(); // every client that goes through fetch, without a change where it is called
 *     await context({ customer: "acme" }, () => client.chat.completions.create({ … }));
 */

export {
  type Attribution,
  context,
  current,
  isUngated,
  ungated,
} from "./attribution.js";
export { Call, Noburn, type SettleOptions } from "./client.js";
export type { ClientOptions } from "./config.js";
export { type ConfigureOptions, configure, defaultGate, flush, isConfigured, release } from "./default.js";
export {
  AuthenticationError,
  BudgetExceededError,
  ConflictError,
  InvalidRequestError,
  isBudgetExceeded,
  isNoburnError,
  NoburnError,
  noburnErrorOf,
  PriceUnknownError,
  StreamCutError,
  UnavailableError,
  UnboundedError,
} from "./errors.js";
export * from "./gate/index.js";
export { type Amount, toNano, toUsd } from "./money.js";
export type { CallOptions, Outcome, PreflightOptions, Settlement } from "./requests.js";
export type {
  Allowed,
  Alternative,
  BudgetState,
  Denied,
  Extended,
  Json,
  JsonObject,
  Remaining,
  Settled,
} from "./results.js";
export { currentRun, type NewRun, type Running, type RunState, type RunSummary } from "./runs.js";
export type { Outbox } from "./settling/outbox.js";
export type { Usage } from "./usage.js";
export * as usage from "./usage.js";
export { version } from "./version.js";
