import type { Noburn } from "../client.js";
import type { PreflightOptions } from "../requests.js";
import type { Settler } from "../settling/settler.js";
import type { Drawn } from "./lease.js";

export interface LeasesOptions {
  readonly client: Noburn;
  readonly settler: Settler;
  readonly ttlSeconds: number;
  readonly clock: () => number;
}

export class Leases {
  constructor(_options: LeasesOptions) {}

  draw(_asked: PreflightOptions, _fingerprint: () => Promise<string | undefined>): Drawn | undefined {
    return undefined;
  }

  async close(_timeoutMs: number): Promise<void> {}
}
