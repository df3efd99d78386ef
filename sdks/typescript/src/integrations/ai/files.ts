/** Files in a prompt: bytes, base64, an address, a provider's id, or text, in V3's form or V4's. */

import { type Fields, fieldsOf } from "./spec.js";

/** Where a file is. Nothing of it: only the provider has it. */
export interface Given {
  mediaType: string;
  base64?: string;
  url?: string;
  text?: string;
}

const SLICE_BYTES = 0x8000;

/** Reads what a part calls its data. */
export function given(data: unknown, mediaType: unknown): Given {
  const kind = typeof mediaType === "string" ? mediaType.toLowerCase() : "";
  if (data instanceof Uint8Array) return { mediaType: kind, base64: base64Of(data) };
  if (data instanceof ArrayBuffer) return { mediaType: kind, base64: base64Of(new Uint8Array(data)) };
  if (data instanceof URL) return addressed(data.toString(), kind);
  if (typeof data === "string") return written(data, kind);
  const tagged = fieldsOf(data) as Fields;
  if (tagged.type === "data") return given(tagged.data, mediaType);
  if (tagged.type === "url")
    return given(tagged.url, mediaType).url ? given(tagged.url, mediaType) : { mediaType: kind };
  if (tagged.type === "text" && typeof tagged.text === "string")
    return { mediaType: kind, text: tagged.text };
  return { mediaType: kind };
}

/** Returns a file as a data URL, an address, or nothing where only the provider has it. */
export function dataUrl(file: Given): string | undefined {
  if (file.base64 !== undefined) return `data:${file.mediaType};base64,${file.base64}`;
  return file.url;
}

function written(data: string, kind: string): Given {
  if (/^(?:data|https?|gs|s3):/i.test(data)) return addressed(data, kind);
  // A provider's id of a file is no data.
  return /^(?:assistant-|file[-_])/.test(data) ? { mediaType: kind } : { mediaType: kind, base64: data };
}

function addressed(url: string, kind: string): Given {
  if (!/^data:/i.test(url)) return { mediaType: kind, url };
  const comma = url.indexOf(",");
  const head = url.slice(5, Math.max(5, comma)).toLowerCase();
  const mediaType = head.split(";")[0] || kind;
  const body = url.slice(comma + 1);
  if (head.includes(";base64")) return { mediaType, base64: body };
  try {
    return { mediaType, base64: base64Of(new TextEncoder().encode(decodeURIComponent(body))) };
  } catch {
    return { mediaType, base64: base64Of(new TextEncoder().encode(body)) };
  }
}

function base64Of(bytes: Uint8Array): string {
  const pieces: string[] = [];
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    pieces.push(String.fromCharCode(...bytes.subarray(at, at + SLICE_BYTES)));
  }
  return btoa(pieces.join(""));
}
