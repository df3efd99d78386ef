/**
 * What is read of the AI SDK's provider specification, in the words that V2, V3 and V4 have in common.
 *
 * Written down here, so that the same objects work on ai 6 and ai 7, whose own types differ in names alone.
 */

export type Fields = Record<string, unknown>;

export type ProviderOptions = Record<string, Fields>;

export interface Part extends Fields {
  type: string;
}

export interface Message extends Fields {
  role: string;
  content: unknown;
}

/** What a language model is called with. */
export interface LanguageOptions extends Fields {
  prompt: readonly Message[];
}

/** What is wrapped: a model of whatever kind and version. */
export interface AnyModel {
  readonly specificationVersion: string;
  readonly provider: string;
  readonly modelId: string;
}

export interface StreamPart extends Fields {
  type: string;
}

/** Reads a mapping; an empty one for anything else. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

/** Reads a list of mappings; what is none is left out. */
export function listOf(value: unknown): Part[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "object" && one !== null) : [];
}

/** Reads a whole number of at least 0. */
export function countOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** Returns a value as JSON, whatever is in it: what has no JSON counts as its text. */
export function jsonOf(value: unknown): string {
  if (typeof value === "string") return value;
  try {
    return JSON.stringify(value, (_, one) => (typeof one === "bigint" ? String(one) : one)) ?? "";
  } catch {
    return String(value);
  }
}
