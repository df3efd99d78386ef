/**
 * What the bytes of a file in a request tell without being decoded: pixels, pages, seconds.
 *
 * Data comes as base64, as a data URL or as bytes. Only the few bytes that are looked at are decoded, except for PDFs, whose
 * pages can only be counted over the whole file.
 */

import { byteText } from "./bpe.js";
import type { Size } from "./images.js";
import { inflated } from "./inflate.js";
import { ceilDiv } from "./values.js";

const SEGMENTS_MAX = 2_000;
const PDF_BYTES_MAX = 64 * 2 ** 20;
const INFLATED_MAX = 64 * 2 ** 20;
const TAIL_BYTES = 65_536;
/** The lowest rate of MPEG audio is 8 kbit/s. */
const MP3_BYTES_A_SECOND = 1_000;
/** Samples of nine months: a header that tells of more is not believed. */
const SAMPLES_MAX = 2n ** 40n;

const BLANKS = /[ \t\n\r\f\v]+/g;
const PAIRS = /[\ud800-\udbff][\udc00-\udfff]/g;
const PAGE = new RegExp(`${named("Type")}[ \\t\\n\\r\\f\\v]*${named("Page")}(?![A-Za-z#])`, "g");
const OBJECT_STREAM = /\/ObjStm\b[^>]{0,400}>>[ \t\n\r\f\v]*stream\r?\n|\/ObjStm\b[\s\S]{0,400}?stream\r?\n/g;

const EMPTY = new Uint8Array(0);
const DIGITS = digits();

/** A pattern of a PDF's name, any letter of which may be written by its number. */
function named(word: string): string {
  return `/${[...word].map((letter) => `(?:${letter}|#${letter.charCodeAt(0).toString(16)})`).join("")}`;
}

function digits(): Uint8Array {
  const found = new Uint8Array(256).fill(255);
  const all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (let place = 0; place < 64; place++) found[all.charCodeAt(place)] = place;
  found[45] = 62;
  found[95] = 63;
  return found;
}

/** The bytes behind base64 text, read where they are wanted. */
export class Payload {
  readonly #raw: Uint8Array | null;
  readonly #text: string;

  constructor(data: unknown) {
    this.#raw = data instanceof Uint8Array ? data : null;
    // A letter of two halves is not base64 anyhow, and one sign more or less moves what follows.
    let text = typeof data === "string" ? data.replace(PAIRS, "\ufffd") : "";
    // MIME wraps lines; one look at the beginning tells.
    if (text.slice(0, 200).search(BLANKS) >= 0) text = text.replace(BLANKS, "");
    this.#text = text;
  }

  get length(): number {
    return this.#raw === null ? Math.floor((this.#text.length * 3) / 4) : this.#raw.length;
  }

  /** Returns up to `size` bytes from `at`; fewer at the end, none for what is not base64. */
  read(at: number, size: number): Uint8Array {
    if (at < 0) return EMPTY;
    if (this.#raw !== null) return this.#raw.subarray(at, at + size);
    const start = Math.floor(at / 3);
    const piece = this.#text.slice(start * 4, Math.floor((at + size + 2) / 3) * 4);
    const found = decoded(piece);
    return found.subarray(at - start * 3, at - start * 3 + size);
  }
}

/** Returns the bytes of base64, in either alphabet and without what fills it up; none for anything else. */
function decoded(text: string): Uint8Array {
  let end = text.length;
  while (end > 0 && text.charCodeAt(end - 1) === 61) end--;
  if (end % 4 === 1) end--;
  const found = new Uint8Array(Math.floor((end * 3) / 4));
  let [held, bits, size] = [0, 0, 0];
  for (let at = 0; at < end; at++) {
    const digit = DIGITS[text.charCodeAt(at)] ?? 255;
    if (digit === 255) return EMPTY;
    held = ((held << 6) | digit) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      found[size++] = (held >> bits) & 255;
    }
  }
  return found;
}

/** Data that came with the request: its media type, if told, and its bytes. */
export interface Data {
  readonly mediaType: string;
  readonly payload: Payload;
}

/** Reads a data URL; null for any other address. */
export function dataUrl(url: unknown): Data | null {
  if (typeof url !== "string" || url.slice(0, 5).toLowerCase() !== "data:") return null;
  const comma = url.slice(0, 256).indexOf(",");
  if (comma < 0) return null;
  const [kind = "", ...flags] = url.slice(5, comma).split(";");
  const body = url.slice(comma + 1);
  const encoded = flags.some((flag) => flag.trim().toLowerCase() === "base64");
  return { mediaType: kind.toLowerCase(), payload: new Payload(encoded ? body : bytesOf(body)) };
}

function bytesOf(text: string): Uint8Array {
  const bytes = byteText(text);
  return Uint8Array.from({ length: bytes.length }, (_, at) => bytes.charCodeAt(at));
}

/** Returns a text of one letter for each byte. */
function latin(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8_192)
    text += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  return text;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Returns the text that bytes are in UTF-8, with the replacement character for what is none. */
export function utf8Text(payload: Payload): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(payload.read(0, payload.length));
}

/** Returns width and height of a PNG, JPEG, GIF or WebP from its header; null for anything else. */
export function pixels(payload: Payload): Size | null {
  const head = payload.read(0, 32);
  const text = latin(head);
  let found: Size | null = null;
  if (text.startsWith("\x89PNG\r\n\x1a\n") && text.slice(12, 16) === "IHDR" && head.length >= 24) {
    found = [view(head).getUint32(16), view(head).getUint32(20)];
  } else if (/^GIF8[79]a/.test(text) && head.length >= 10) {
    found = [view(head).getUint16(6, true), view(head).getUint16(8, true)];
  } else if (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP" && head.length >= 30) {
    found = webp(view(head), text.slice(12, 16));
  } else if (text.startsWith("\xff\xd8")) {
    found = jpeg(payload);
  }
  return found !== null && Math.min(...found) > 0 ? found : null;
}

function webp(head: DataView, kind: string): Size | null {
  if (kind === "VP8 ") return [head.getUint16(26, true) & 0x3fff, head.getUint16(28, true) & 0x3fff];
  if (kind === "VP8L") {
    const bits = head.getUint32(21, true);
    return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
  }
  if (kind === "VP8X") return [(head.getUint32(23, true) >>> 8) + 1, (head.getUint32(26, true) >>> 8) + 1];
  return null;
}

function jpeg(payload: Payload): Size | null {
  let at = 2;
  for (let left = SEGMENTS_MAX; left > 0; left--) {
    const head = payload.read(at, 10);
    const marker = head[1];
    if (head.length < 4 || head[0] !== 0xff || marker === undefined) return null;
    if (marker === 0xff || (marker >= 0xd0 && marker <= 0xd7) || marker === 0x01) {
      at += marker === 0xff ? 1 : 2;
      continue;
    }
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      return head.length < 9 ? null : [view(head).getUint16(7), view(head).getUint16(5)];
    }
    if (marker === 0xda) return null;
    at += 2 + view(head).getUint16(2);
  }
  return null;
}

/** Returns the pages of a PDF, at least as many as it has; null where they cannot be counted. */
export function pdfPages(payload: Payload): number | null {
  if (payload.length > PDF_BYTES_MAX) return null;
  const bytes = payload.read(0, payload.length);
  const raw = latin(bytes);
  if (!/^[ \t\n\r\f\v]*%PDF-/.test(raw) || raw.includes("/Encrypt")) return null;
  let pages = pagesIn(raw);
  let room = INFLATED_MAX;
  for (const found of raw.matchAll(OBJECT_STREAM)) {
    const end = found.index + found[0].length;
    const head = raw.slice(Math.max(0, found.index - 400), end);
    // From the object's beginning on, before the last mention of its kind.
    const kind = head.lastIndexOf("/ObjStm");
    const begin = kind < 3 ? -1 : head.lastIndexOf("obj", kind - 3);
    if (head.slice(begin + 1).includes("/Predictor")) return null;
    const unpacked = inflated(bytes.subarray(end), Math.max(1, room));
    if (unpacked === null) return null;
    room -= unpacked.length;
    pages += pagesIn(latin(unpacked));
  }
  return pages || null;
}

function pagesIn(raw: string): number {
  let pages = 0;
  for (const _ of raw.matchAll(PAGE)) pages++;
  return pages;
}

/**
 * Returns the milliseconds of audio, rounded up: from the header of WAV, FLAC and Ogg, by the lowest rate of MP3; null for
 * anything else.
 */
export function audioMs(payload: Payload, kind: string): number | null {
  const head = payload.read(0, 64);
  const text = latin(head);
  const size = payload.length;
  if (text.startsWith("RIFF") && text.slice(8, 12) === "WAVE") return wavMs(payload, size);
  if (text.startsWith("fLaC") && head.length >= 26) {
    const [high, low] = [view(head).getUint32(18), view(head).getUint32(22)];
    const rate = high >>> 12;
    const samples = (high & 15) * 2 ** 32 + low;
    return rate && samples ? ceilDiv(samples * 1000, rate) : null;
  }
  if (text.startsWith("OggS")) return oggMs(payload, text, head, size);
  const [first, second] = head;
  const framed = first === 0xff && second !== undefined && (second & 0xe0) === 0xe0 && !kind.includes("aac");
  return text.startsWith("ID3") || framed ? ceilDiv(size * 1000, MP3_BYTES_A_SECOND) : null;
}

function wavMs(payload: Payload, size: number): number | null {
  let at = 12;
  for (let left = SEGMENTS_MAX; left > 0; left--) {
    const head = payload.read(at, 24);
    if (head.length < 8) return null;
    const length = view(head).getUint32(4, true);
    if (latin(head.subarray(0, 4)) === "fmt " && head.length >= 20) {
      const sampled = view(head).getUint32(12, true);
      const told = view(head).getUint32(16, true);
      const block = (head[20] ?? 0) + 256 * (head[21] ?? 0);
      // A header whose rates contradict each other is believed where it makes the sound longer.
      const rate = Math.min(told, sampled * block) || told;
      // The whole file: what a header says of its data's length is often wrong in recordings.
      return rate ? ceilDiv(size * 1000, rate) : null;
    }
    at += 8 + length + (length % 2);
  }
  return null;
}

function oggMs(payload: Payload, text: string, head: Uint8Array, size: number): number | null {
  const tail = payload.read(Math.max(0, size - TAIL_BYTES), TAIL_BYTES + 3);
  const last = latin(tail).lastIndexOf("OggS");
  if (last < 0 || tail.length < last + 14) return null;
  const samples = view(tail).getBigUint64(last + 6, true);
  let rate = 0;
  if (text.includes("OpusHead")) {
    rate = 48_000;
  } else {
    const vorbis = text.indexOf("\x01vorbis");
    if (vorbis < 0) return null;
    for (let place = 15; place >= 12; place--) rate = rate * 256 + (head[vorbis + place] ?? 0);
  }
  // All ones: no packet ends on that page.
  if (!rate || samples >= SAMPLES_MAX) return null;
  return ceilDiv(Number(samples) * 1000, rate);
}
