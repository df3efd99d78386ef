import type { Api } from "./types.js";

/** Returns `output` and `steps` of a pre-flight, as far as a request says them. Never content. */
export function shapeOf(_api: Api, _body: unknown): { output?: string; steps?: number } {
  throw new Error("not yet");
}
