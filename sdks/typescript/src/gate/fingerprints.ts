/** What tells the same request from another without saying anything of it: a keyed digest. */

/** Of a larger request none is made: a loop of those is caught by what they cost. */
const CHARACTERS_MAX = 4_000_000;
const BYTES = 16;
const DEPTH_MAX = 100;

/** Makes fingerprints under one API key. */
export class Fingerprints {
  readonly #apiKey: string;
  #key: Promise<CryptoKey> | undefined;

  constructor(apiKey: string) {
    this.#apiKey = apiKey;
  }

  /**
   * Returns the same text for the same request under the same API key, in whatever process; undefined for a huge one.
   *
   * Keyed, so that nobody who sees it can try prompts against it. What has no JSON form is told by its text.
   */
  async of(model: string, body: unknown, size = 0): Promise<string | undefined> {
    if (size > CHARACTERS_MAX) return undefined;
    const text = canonical([model, body], 0);
    if (text.length > CHARACTERS_MAX) return undefined;
    this.#key ??= this.#import();
    const digest = await crypto.subtle.sign("HMAC", await this.#key, new TextEncoder().encode(text));
    const bytes = [...new Uint8Array(digest, 0, BYTES)];
    return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  #import(): Promise<CryptoKey> {
    const secret = new TextEncoder().encode(`noburn fingerprint\0${this.#apiKey}`);
    return crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  }
}

/** JSON with the names of every object in order. */
function canonical(value: unknown, depth: number): string {
  if (typeof value === "bigint") return `${value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  if (depth > DEPTH_MAX) return JSON.stringify(String(value));
  const own = (value as { toJSON?: unknown }).toJSON;
  if (typeof own === "function") return canonical(own.call(value), depth + 1);
  if (Array.isArray(value)) return `[${value.map((item) => canonical(item, depth + 1)).join(",")}]`;
  const found: string[] = [];
  for (const name of Object.keys(value).sort()) {
    const item = (value as Record<string, unknown>)[name];
    if (item !== undefined) found.push(`${JSON.stringify(name)}:${canonical(item, depth + 1)}`);
  }
  return `{${found.join(",")}}`;
}
