/** A run of noburn's for a tool loop: its caps hold for all steps together, and it can be stopped from anywhere. */

import { defaultGate } from "../../default.js";
import type { Gate } from "../../gate/gate.js";
import { currentRun, type NewRun, Running, started, startRequest } from "../../runs.js";

/** What a loop's call is given, to be spread into the call's own settings. */
export interface LoopSettings {
  readonly providerOptions: { readonly noburn: { readonly run: string } };
  readonly onFinish: () => Promise<void>;
  readonly onAbort: () => Promise<void>;
  readonly onError: (event: { readonly error: unknown }) => Promise<void>;
}

/** A run that is open until its loop is over. */
export class Loop {
  readonly run: Running;
  /** Spread these into `streamText` or `generateText`: they name the run, and end it with the loop. */
  readonly settings: LoopSettings;
  #ending: Promise<void> | undefined;

  constructor(run: Running) {
    this.run = run;
    this.settings = {
      providerOptions: { noburn: { run: run.id } },
      onFinish: () => this.end(),
      onAbort: () => this.end(),
      // Without this the AI SDK would print what went wrong; a refusal is no secret of the console's.
      onError: ({ error }) => this.end(error),
    };
  }

  /** Ends the run, once; never throws. */
  end(error?: unknown): Promise<void> {
    this.#ending ??= this.run.ended(error);
    return this.#ending;
  }
}

/**
 * Starts a run for a tool loop that streams: `const loop = await startLoop({ usd: "0.50", steps: 8 })`, then
 * `streamText({ …, ...loop.settings })`. A run that is never ended is ended by noburn when it is idle.
 *
 * Throws BudgetExceededError where a run above stands in its way, InvalidRequestError for caps that are none.
 */
export async function startLoop(wanted: NewRun & { readonly gate?: Gate | undefined }): Promise<Loop> {
  const { gate, ...caps } = wanted;
  const { client } = gate ?? defaultGate();
  const state = started(await client.ask(startRequest(caps, currentRun())));
  return new Loop(new Running(state, (request) => client.ask(request)));
}

/** Runs a tool loop that is awaited, in a run of its own: `inLoop({ usd: "1" }, (settings) => generateText({ … }))`. */
export async function inLoop<T>(
  wanted: NewRun & { readonly gate?: Gate | undefined },
  call: (settings: Pick<LoopSettings, "providerOptions">) => T | PromiseLike<T>,
): Promise<T> {
  const loop = await startLoop(wanted);
  try {
    const answer = await call({ providerOptions: loop.settings.providerOptions });
    await loop.end();
    return answer;
  } catch (error) {
    await loop.end(error ?? "nothing");
    throw error;
  }
}
