/** Middleware for `wrapLanguageModel`, `wrapEmbeddingModel` and `wrapImageModel` of ai 6 and ai 7. */

import { embed, generate, image, type NoburnModelOptions, stream } from "./calls.js";
import type { AnyModel, Fields, LanguageOptions } from "./spec.js";

/** What ai hands to a middleware, in every version. */
interface Around {
  readonly params: unknown;
  readonly model: unknown;
}

/** Gates a language model's calls. */
export interface LanguageMiddleware {
  readonly specificationVersion: "v3";
  wrapGenerate<R>(around: Around & { doGenerate: () => PromiseLike<R> }): Promise<R>;
  wrapStream<R>(around: Around & { doStream: () => PromiseLike<R> }): Promise<R>;
}

/** Gates an embedding model's calls. */
export interface EmbeddingMiddleware {
  readonly specificationVersion: "v3";
  wrapEmbed<R>(around: Around & { doEmbed: () => PromiseLike<R> }): Promise<R>;
}

/** Gates an image model's calls. */
export interface ImageMiddleware {
  readonly specificationVersion: "v3";
  wrapGenerate<R>(around: Around & { doGenerate: () => PromiseLike<R> }): Promise<R>;
}

/**
 * Returns a middleware that asks about each call of a language model: `wrapLanguageModel({ model, middleware: noburn() })`.
 *
 * Put it last among several, next to the model, so that it sees what the provider gets.
 */
export function noburn(options: NoburnModelOptions = {}): LanguageMiddleware {
  return {
    specificationVersion: "v3",
    wrapGenerate: <R>({ params, model }: Around) =>
      generate(
        { model: model as AnyModel, options },
        params as LanguageOptions,
      ) as Promise<unknown> as Promise<R>,
    wrapStream: <R>({ params, model }: Around) =>
      stream(
        { model: model as AnyModel, options },
        params as LanguageOptions,
      ) as Promise<unknown> as Promise<R>,
  };
}

/** Returns a middleware that asks about each call of an embedding model. */
export function noburnEmbedding(options: NoburnModelOptions = {}): EmbeddingMiddleware {
  return {
    specificationVersion: "v3",
    wrapEmbed: <R>({ params, model }: Around) =>
      embed({ model: model as AnyModel, options }, params as Fields) as Promise<unknown> as Promise<R>,
  };
}

/** Returns a middleware that asks about each call of an image model, which `costUsd` bounds. */
export function noburnImage(options: NoburnModelOptions = {}): ImageMiddleware {
  return {
    specificationVersion: "v3",
    wrapGenerate: <R>({ params, model }: Around) =>
      image({ model: model as AnyModel, options }, params as Fields) as Promise<unknown> as Promise<R>,
  };
}
