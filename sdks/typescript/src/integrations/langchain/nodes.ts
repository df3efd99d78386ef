/**
 * A call inside a node of LangGraph, a tool or a chain is for whom the configuration says that it runs with.
 *
 * It is read when a call is made, where LangChain keeps it for whatever runs inside, so that it holds for clients that know
 * nothing of LangChain as well.
 */

import { type Attribution, addSource, NOTHING, removeSource } from "../../attribution.js";
import { saidIn } from "./said.js";

/** Where @langchain/core keeps what surrounds a run, and the run's configuration in it. */
const STORAGE = Symbol.for("ls:tracing_async_local_storage");
const CONFIG = Symbol.for("lc:child_config");

interface Storage {
  getStore?(): { readonly extra?: { readonly [CONFIG]?: unknown } } | undefined;
}

/** Reads, from now on, what LangChain and LangGraph know of a call. `instrument` of the fetch entry gates the calls. */
export function readNodes(): void {
  addSource(insideNode);
}

/** Undoes `readNodes`. */
export function forgetNodes(): void {
  removeSource(insideNode);
}

/** Whom calls are for in the node that runs here; nothing outside of one. */
export function insideNode(): Attribution {
  const storage = (globalThis as { [STORAGE]?: Storage })[STORAGE];
  const config = storage?.getStore?.()?.extra?.[CONFIG];
  return config === undefined ? NOTHING : saidIn(config);
}
