/** Where settlements lie until noburn has them. The core knows no disk: `@noburn/sdk/outbox-node` makes one of files. */

import type { JsonObject } from "../results.js";

/** A resolution as it is kept. */
export interface Kept {
  readonly key: string;
  readonly op: string;
  readonly body: JsonObject;
}

/** Keeps resolutions beyond the life of the process. No method throws. */
export interface Outbox {
  /** Says which server and key the resolutions are of; called once, by the gate, before anything else. */
  open(baseUrl: string, apiKey: string): void;
  /** Keeps a resolution; false where it could not be kept. It survives the end of this process once this returns. */
  append(item: Kept): boolean;
  /** Notes that noburn has these. */
  done(keys: readonly string[]): void;
  /** Makes sure that what was appended survives the end of the machine. */
  sync(): Promise<void>;
  /** Returns this process's undelivered resolutions, oldest first, at most so many. */
  held(most: number): readonly Kept[];
  /** Takes over what processes that ended left; how many resolutions these are, which `held` returns from then on. */
  claim(): Promise<number>;
  /** Lets go of everything. What is not done is delivered by the next process. */
  close(): void;
}
