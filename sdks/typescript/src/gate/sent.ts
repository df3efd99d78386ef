/** A request that is about to be sent, as `fetch` is told of it: its body can be read, and still be sent afterwards. */

import { HEADER_PREFIX } from "../attribution.js";
import { InvalidRequestError } from "../errors.js";
import type { JsonObject } from "../results.js";

/** A mark on a request that an outer gate has seen already; every copy of this package knows it. */
export const PASSED: unique symbol = Symbol.for("noburn.passed") as never;

/** How much of a body that streams is read. */
const BODY_BYTES_MAX = 64 * 1024 * 1024;

type Input = Parameters<typeof fetch>[0];
export type Marked = RequestInit & { [PASSED]?: boolean };

/** What to send instead: another body, or the same. */
export interface Change {
  readonly body?: string | undefined;
}

export class Sent {
  readonly url: string;
  readonly method: string;
  /** As the caller gave them, noburn's own among them. */
  readonly headers: Headers;
  readonly signal: AbortSignal | undefined;
  readonly #input: Input;
  readonly #init: Marked;
  /** The body that was read where it can be read only once. */
  #read: Uint8Array<ArrayBuffer> | undefined;

  constructor(input: Input, init: RequestInit = {}) {
    this.#input = input;
    this.#init = init;
    const request = isRequest(input) ? input : undefined;
    this.url = request?.url ?? String(input);
    this.method = (init.method ?? request?.method ?? "GET").toUpperCase();
    this.headers = new Headers(init.headers ?? request?.headers);
    this.signal = init.signal ?? request?.signal ?? undefined;
  }

  /** Whether an outer gate has seen it. */
  get passed(): boolean {
    return this.#init[PASSED] === true;
  }

  /** The form that is its body, if it is one. */
  form(): FormData | null {
    return this.#init.body instanceof FormData ? this.#init.body : null;
  }

  /** The body as text. Throws InvalidRequestError for one that is none, or that is too long. */
  async text(): Promise<string> {
    const body: unknown = this.#init.body;
    if (body === undefined && isRequest(this.#input)) return this.#keep(this.#input.body);
    if (body === undefined || body === null) return "";
    if (typeof body === "string") return body;
    if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return new TextDecoder().decode(body);
    if (body instanceof Blob) return body.text();
    if (body instanceof URLSearchParams) return body.toString();
    if (isIterable(body)) return this.#keep(body);
    throw new InvalidRequestError("The call cannot be read", { errors: { body: "is of an unknown kind" } });
  }

  /** Sends it by `fetcher`, without noburn's headers, and marked as seen by a gate. */
  forward(fetcher: typeof fetch, change: Change = {}): Promise<Response> {
    const init: Marked = { ...this.#init, headers: this.#plainHeaders(change), [PASSED]: true };
    const body = change.body ?? this.#read;
    if (body !== undefined) init.body = body;
    // A request of its own has a body that may have been read: it is made anew, with that one.
    const input = isRequest(this.#input) ? new Request(this.#input, init) : this.#input;
    return fetcher.call(
      undefined,
      input as string,
      input instanceof Request ? ({ [PASSED]: true } as Marked) : init,
    );
  }

  #plainHeaders(change: Change): HeadersInit {
    const own = [...this.headers.keys()].filter((name) => name.startsWith(HEADER_PREFIX));
    const counted = change.body !== undefined && this.headers.has("content-length");
    const given = this.#init.headers;
    if (own.length === 0 && !counted && given !== undefined) return given;
    const plain = new Headers(this.headers);
    for (const name of own) plain.delete(name);
    if (counted) plain.delete("content-length");
    return plain;
  }

  async #keep(body: AsyncIterable<unknown> | ReadableStream | null): Promise<string> {
    if (this.#read === undefined) this.#read = body === null ? new Uint8Array(0) : await bytesOf(body);
    return new TextDecoder().decode(this.#read);
  }
}

function isRequest(value: unknown): value is Request {
  return typeof Request !== "undefined" && value instanceof Request;
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

async function bytesOf(body: AsyncIterable<unknown> | ReadableStream): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body as AsyncIterable<unknown>) {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : (part as Uint8Array);
    length += bytes.length;
    if (length > BODY_BYTES_MAX) {
      throw new InvalidRequestError("The call cannot be read", { errors: { body: "is too long" } });
    }
    parts.push(bytes);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Returns a request's JSON object. Throws InvalidRequestError. */
export function objectOf(text: string): JsonObject {
  let value: unknown = {};
  try {
    if (text !== "") value = JSON.parse(text);
  } catch (cause) {
    throw new InvalidRequestError("The call cannot be read", { cause, errors: { body: "is not JSON" } });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidRequestError("The call cannot be read", { errors: { body: "is no JSON object" } });
  }
  return value as JsonObject;
}
