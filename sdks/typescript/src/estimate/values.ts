/**
 * Reading a request that nobody has checked: what has not the form of its API is refused, never guessed.
 *
 * Emptiness, lengths and the writing of values are those of the Python estimator, so that both say the same of one body.
 */

export type Mapping = Readonly<Record<string, unknown>>;

/** What is read has not the form that its API gives it. */
export class MisshapenError extends Error {
  override name = "MisshapenError";
}

/** Returns a value as it is sent: what an object's `toJSON` makes of it, null for what is not there. */
export function plain(value: unknown): unknown {
  if (value === undefined || value === null) return null;
  if (typeof value !== "object") return value;
  const dump = (value as { toJSON?: unknown }).toJSON;
  return typeof dump === "function" ? (dump.call(value) as unknown) : value;
}

/** Whether a value is an object with named fields. */
export function isMapping(value: unknown): value is Mapping {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  );
}

/** Reads a field; null where there is none. Throws MisshapenError for what has no fields. */
export function read(value: unknown, name: string): unknown {
  if (!isMapping(value)) throw new MisshapenError(`no field ${name} in ${kindOf(value)}`);
  return Object.hasOwn(value, name) ? (value[name] ?? null) : null;
}

/** The fields of an object, in its order. Throws MisshapenError for what has none. */
export function fields(value: unknown): [string, unknown][] {
  if (!isMapping(value)) throw new MisshapenError(`${kindOf(value)} is not an object`);
  return Object.entries(value).filter(([, one]) => one !== undefined);
}

/** Whether anything is there: not null, false, 0, nor an empty text, list or object. */
export function full(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isMapping(value)) return Object.keys(value).length > 0;
  return value instanceof Uint8Array ? value.length > 0 : Boolean(value);
}

/** What a list holds; nothing for what is empty. Throws MisshapenError for what cannot be gone through. */
export function each(value: unknown): readonly unknown[] {
  return full(value) ? iterated(value) : [];
}

/** What a list holds, a text's letters, an object's names. Throws MisshapenError for anything else. */
export function iterated(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  if (typeof value === "string") return [...value];
  if (isMapping(value)) return Object.keys(value);
  throw new MisshapenError(`${kindOf(value)} is not a list`);
}

/** How long a text, a list or an object is. Throws MisshapenError for anything else. */
export function lengthOf(value: unknown): number {
  if (typeof value === "string") return points(value);
  if (value instanceof Uint8Array) return value.length;
  return iterated(value).length;
}

/** Whether this is a whole number; true and false are none. */
export function isWhole(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value);
}

/** Returns a text as it is, and any other value as the JSON that is sent of it. */
export function written(value: unknown): string {
  return typeof value === "string" ? value : dumped(value, ", ", ": ");
}

/** Returns a value as notes name it. */
export function quoted(value: unknown): string {
  return dumped(value, ", ", ": ");
}

/** The spacings in which JSON is sent over the wire and shown to models: without blanks, and with them. */
export function renderings(value: unknown): readonly string[] {
  return typeof value === "string" ? [value] : [dumped(value, ",", ":"), dumped(value, ", ", ": ")];
}

/** Returns a value as JSON with the given signs between. */
export function dumped(value: unknown, comma: string, colon: string): string {
  const found = plain(value);
  switch (typeof found) {
    case "string":
      return quote(found);
    case "number":
      return Number.isFinite(found) ? String(found) : "null";
    case "boolean":
    case "bigint":
      return String(found);
    case "object": {
      if (found === null) return "null";
      if (Array.isArray(found)) return `[${found.map((one) => dumped(one, comma, colon)).join(comma)}]`;
      const parts: string[] = [];
      for (const [name, one] of Object.entries(found)) {
        if (one === undefined || typeof one === "function" || typeof one === "symbol") continue;
        parts.push(quote(name) + colon + dumped(one, comma, colon));
      }
      return `{${parts.join(comma)}}`;
    }
    default:
      return "null";
  }
}

function quote(text: string): string {
  // Half a surrogate pair becomes the replacement character, as on its way to the provider; its escape would be longer.
  return JSON.stringify(text.replace(/\p{Surrogate}/gu, "\ufffd"));
}

/** Returns the letters of a text, each pair of surrogates being one. */
export function points(text: string): number {
  let pairs = 0;
  if (/[\ud800-\udbff]/.test(text)) {
    for (let at = 0; at + 1 < text.length; at++) {
      if (isPair(text, at)) {
        pairs++;
        at++;
      }
    }
  }
  return text.length - pairs;
}

/** Whether two halves of one letter stand here. */
export function isPair(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xd800 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00;
}

/** Returns the quotient of two whole numbers rounded up, exactly: the divisor is positive. */
export function ceilDiv(value: number, divisor: number): number {
  const rest = value % divisor;
  return (value - rest) / divisor + (rest > 0 ? 1 : 0);
}

function kindOf(value: unknown): string {
  return value === null || value === undefined
    ? "nothing"
    : Array.isArray(value)
      ? "a list"
      : `a ${typeof value}`;
}
