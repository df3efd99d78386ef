/** What every integration stands on: admission before a call, settlement after it. */

export type { Asked, Bound, Endpoint } from "./endpoints.js";
export { Gate, type GateOptions } from "./gate.js";
export { HeldCall } from "./held.js";
export type { Meter } from "./meters.js";
export type { Mode, OnUnavailable, Settings, WaitUntil } from "./settings.js";
