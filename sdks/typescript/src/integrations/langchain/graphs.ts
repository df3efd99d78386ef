/** A run of noburn's for each invocation of a graph, under caps of its own: `withRun(graph, { usd: "2", steps: 40 })`. */

import { current, over, within } from "../../attribution.js";
import { defaultGate } from "../../default.js";
import type { Gate } from "../../gate/gate.js";
import { currentRun, type NewRun, Running, started, startRequest } from "../../runs.js";
import { stepsInside } from "./steps.js";

type Method = (...given: unknown[]) => unknown;

/** What returns its answer bit by bit. */
const STREAMS = new Set(["stream", "streamEvents", "streamLog"]);

/**
 * Returns a compiled graph, an agent or a chain whose every invocation is a run; everything else of it is its own.
 *
 * One that is invoked inside a node of another has a child run. A stream is an async iterable; whoever leaves it half-way
 * ends its run.
 */
export function withRun<G extends object>(
  graph: G,
  wanted: NewRun & { readonly gate?: Gate | undefined } = {},
): G {
  const { gate, ...caps } = wanted;
  const gateOf = (): Gate => gate ?? defaultGate();
  return new Proxy(graph, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== "function") return value;
      const call = value.bind(target) as Method;
      if (name === "invoke") return (...given: unknown[]) => gateOf().client.run(caps, () => call(...given));
      if (typeof name === "string" && STREAMS.has(name)) {
        return (...given: unknown[]) => streamed(gateOf(), caps, () => call(...given));
      }
      return call;
    },
  });
}

async function* streamed(gate: Gate, caps: NewRun, call: () => unknown): AsyncGenerator<unknown> {
  const { client } = gate;
  const state = started(await client.ask(startRequest(caps, currentRun())));
  const run = new Running(state, (request) => client.ask(request));
  const { customer, user, project } = caps;
  const said = over({ run: run.id, customer, user, project }, current());
  let failed: unknown;
  try {
    yield* stepsInside((fn) => within({ said, run: run.id }, fn), call);
  } catch (error) {
    failed = error ?? "nothing";
    throw error;
  } finally {
    await run.ended(failed);
  }
}
