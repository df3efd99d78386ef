/** Providers all of whose models ask before each call. */

import { InvalidRequestError, UnboundedError } from "../../errors.js";
import type { NoburnModelOptions } from "./calls.js";
import { isModel, wrapped } from "./models.js";
import type { AnyModel } from "./spec.js";

const WRAPPED = Symbol.for("noburn.ai.wrapped");

type Make = (modelId: string, ...rest: unknown[]) => unknown;

/**
 * Returns a provider, called or asked for models as before, whose models ask before each call.
 *
 * Takes a provider of ai 6 or ai 7, a registry, or a custom provider. Sockets pass no gate, so realtime models are refused.
 */
export function wrapProvider<P extends object>(provider: P, options: NoburnModelOptions = {}): P {
  if ((provider as { [WRAPPED]?: boolean })[WRAPPED]) return provider;
  return new Proxy(provider, {
    get(target, name) {
      if (name === WRAPPED) return true;
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof name !== "string" || value === undefined || value === null) return value;
      if (/realtime/i.test(name)) return refusing(value as object, name);
      return typeof value === "function" ? making(value.bind(target) as Make, options) : value;
    },
    apply(target, self, given) {
      return making((target as unknown as Make).bind(self) as Make, options)(...(given as [string]));
    },
  });
}

function making(make: Make, options: NoburnModelOptions): Make {
  return (modelId, ...rest) => {
    const made = make(modelId, ...rest);
    if (!isModel(made)) return made;
    return wrapped(
      made,
      options,
      typeof modelId === "string" ? anotherOf(make, modelId, made, rest) : undefined,
    );
  };
}

function anotherOf(make: Make, modelId: string, made: AnyModel, rest: unknown[]): (name: string) => AnyModel {
  // A registry's names begin with the provider's: openai:gpt-4o.
  const prefix = modelId.endsWith(made.modelId) ? modelId.slice(0, modelId.length - made.modelId.length) : "";
  return (name) => make(prefix + name, ...rest) as AnyModel;
}

function refusing(value: object, name: string): unknown {
  const refuse = (): never => {
    throw new UnboundedError(
      `noburn cannot bound ${name}: a session is made of calls over a socket, which pass no gate`,
    );
  };
  if (typeof value !== "object" && typeof value !== "function") return value;
  return new Proxy(value, {
    apply: refuse,
    get: (target, key) => {
      const found = Reflect.get(target, key, target) as unknown;
      return typeof found === "function" && typeof key === "string" ? refuse : found;
    },
  });
}

/** The global by which ai finds models that are named by a text alone. */
interface Around {
  AI_SDK_DEFAULT_PROVIDER?: unknown;
}

/**
 * Gates every model that is named by a text alone: sets ai's default provider, wrapped. Returns what undoes it.
 *
 * `provider` is the one to use; without it the one that is set already. Throws InvalidRequestError where there is neither:
 * Vercel's gateway, which ai would take then, is passed as `gateway` of ai.
 */
export function useDefaultProvider(provider?: object, options: NoburnModelOptions = {}): () => void {
  const around = globalThis as Around;
  const before = around.AI_SDK_DEFAULT_PROVIDER;
  const chosen = provider ?? before;
  if (typeof chosen !== "object" && typeof chosen !== "function") {
    const errors = { provider: "is needed: openai of @ai-sdk/openai, gateway of ai, or another one" };
    throw new InvalidRequestError("No default provider", { errors });
  }
  const made = wrapProvider(chosen as object, options);
  around.AI_SDK_DEFAULT_PROVIDER = made;
  return () => {
    // Somebody who set another one after this wants that one.
    if (around.AI_SDK_DEFAULT_PROVIDER === made) around.AI_SDK_DEFAULT_PROVIDER = before;
  };
}
