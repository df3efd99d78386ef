/** The middleware of LangChain's agents, to stand first: `createAgent({ …, middleware: [noburnMiddleware(), …] })`. */

import { canCarry, context } from "../../attribution.js";
import { watching } from "../../gate/watch.js";
import { type WrapOptions, wrap } from "./models.js";

const BRAND = Symbol.for("AgentMiddleware");

/** What LangChain takes for a middleware. */
export interface NoburnMiddleware {
  readonly name: string;
  wrapModelCall<Request, Answer>(
    request: Request,
    handler: (request: Request) => Answer | Promise<Answer>,
  ): Promise<Answer>;
}

/**
 * Lets a refusal out of an agent as it is, whatever the middleware inside makes of errors, and gates the agent's model.
 *
 * `options` say whom the agent's calls are for, and may name another gate. A call that is allowed after a refusal, as that of
 * a fallback's cheaper model, ends it.
 */
export function noburnMiddleware(options: WrapOptions = {}): NoburnMiddleware {
  const { gate: _, ...said } = options;
  const made = {
    [BRAND]: true,
    name: "NoburnMiddleware",
    async wrapModelCall<Request, Answer>(
      request: Request,
      handler: (request: Request) => Answer | Promise<Answer>,
    ): Promise<Answer> {
      const { model } = request as { model?: unknown };
      if (typeof model === "object" && model !== null) wrap(model, options);
      if (!canCarry()) return handler(request);
      return context(said, () =>
        watching(async (watch) => {
          let answer: Answer;
          try {
            answer = await handler(request);
          } catch (error) {
            throw watch.refusal ?? error;
          }
          if (watch.refusal !== undefined) throw watch.refusal;
          return answer;
        }),
      );
    },
  };
  return made;
}
