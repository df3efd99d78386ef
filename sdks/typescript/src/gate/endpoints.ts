/** What an integration knows of a provider's endpoint, and what it found in one request to it. */

import type { Attribution } from "../attribution.js";
import type { Api } from "../estimate/types.js";
import type { PreflightOptions } from "../requests.js";
import type { JsonObject } from "../results.js";
import type { Usage } from "../usage.js";
import type { Meter } from "./meters.js";

/** What a pre-flight is told where no estimate can be made. */
export type Bound = Partial<PreflightOptions>;

/**
 * One kind of call. `operation` is its name in OpenTelemetry's terms.
 *
 * `api` is the estimator's; without one `bound` finds what the call can use, or null where nothing bounds it. `read` reads a
 * whole answer: null, or an InvalidRequestError, for one without usage; without it the answer never says what the call used,
 * so that its hold is presumed spent. `meter` makes what reads a stream, of the model's name and whether to count at once.
 */
export interface Endpoint {
  readonly name: string;
  readonly operation: string;
  readonly api: Api | null;
  readonly read?: (answer: unknown) => Usage | null;
  readonly meter?: (model: string, live: boolean) => Meter;
  readonly bound?: (body: JsonObject) => Bound | null;
  /** Where nothing bounds the call: what to tell the caller about it. */
  readonly why?: string;
}

/**
 * One attempt that is about to be made: `body` is what the provider would be sent.
 *
 * `said` is this call's own attribution, `framework` what a framework knows of it. `signed`: the body cannot be changed any
 * more. `modelFixed`: the model stands in the address as well, so that it cannot be changed. `fit`: lower the cap to what
 * fits instead of refusing. `waitMs` and `cut` stand in the place of the gate's own `waitMs` and `cutStreams` for this call.
 * `size`: the body's bytes, where they are known. `signal`: the caller's; once it is aborted nobody waits for the answer, and
 * a hold that it brings is freed.
 */
export interface Asked {
  readonly endpoint: Endpoint;
  readonly model: string;
  readonly body: JsonObject;
  readonly stream: boolean;
  readonly provider?: string | undefined;
  readonly said?: Attribution | undefined;
  readonly framework?: Attribution | undefined;
  /** Whether `body` is another one already than the caller's. */
  readonly changed?: boolean | undefined;
  readonly modelFixed?: boolean | undefined;
  readonly signed?: boolean | undefined;
  readonly waitMs?: number | undefined;
  readonly cut?: boolean | undefined;
  readonly fit?: boolean | undefined;
  readonly size?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}
