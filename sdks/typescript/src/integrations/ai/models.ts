/** Models that ask before each call. They stay of the version and the class that they are. */

import { embed, generate, image, type NoburnModelOptions, other, type Site, stream } from "./calls.js";
import { type AnyModel, type Fields, fieldsOf, type LanguageOptions } from "./spec.js";

const WRAPPED = Symbol.for("noburn.ai.wrapped");

/** What reads or ends something that was paid for when it began. */
const FREE = new Set(["doCancelBatch", "doGetBatchResults", "doGetBatchStatus", "doListBatches"]);

/** Says whether a value is a model, or something else of a provider that makes calls. */
export function isModel(value: unknown): value is AnyModel {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as AnyModel).specificationVersion === "string" &&
    typeof (value as AnyModel).provider === "string"
  );
}

/**
 * Returns a model whose calls are asked about: for language, embedding and image models, and whatever else has a model's form.
 *
 * Works on models of ai 6 and ai 7. A model that is wrapped already is returned as it is.
 */
export function wrapModel<M extends object>(model: M, options: NoburnModelOptions = {}): M {
  return wrapped(model, options, undefined);
}

/** Wraps a model whose provider can make another one, for policies that choose a cheaper one. */
export function wrapped<M extends object>(
  model: M,
  options: NoburnModelOptions,
  another: ((modelId: string) => AnyModel) | undefined,
): M {
  if (!isModel(model) || (model as { [WRAPPED]?: boolean })[WRAPPED]) return model;
  const site: Site = { model, options, other: another };
  return new Proxy(model, {
    get(target, name) {
      if (name === WRAPPED) return true;
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof name !== "string" || typeof value !== "function") return value;
      if (!/^do[A-Z]/.test(name) || FREE.has(name)) return value.bind(target);
      return (given: Fields, ...rest: unknown[]) =>
        callOf(site, name, given, () => value.call(target, given, ...rest));
    },
  });
}

function callOf(
  site: Site,
  name: string,
  given: unknown,
  call: () => PromiseLike<unknown>,
): Promise<unknown> {
  const options = fieldsOf(given);
  const { model } = site;
  if (name === "doEmbed") return embed(site, options);
  if (isLanguage(model) && name === "doGenerate") return generate(site, options as LanguageOptions);
  if (isLanguage(model) && name === "doStream") return stream(site, options as LanguageOptions);
  if ("maxImagesPerCall" in model && name === "doGenerate") return image(site, options);
  return other(site, name, call, options);
}

function isLanguage(model: AnyModel): boolean {
  return "supportedUrls" in model && "doStream" in model;
}
