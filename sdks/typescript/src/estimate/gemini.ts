/** Requests to Gemini's generateContent, in REST's names or in those of Google's Python client. */

import { Payload, utf8Text } from "./media.js";
import {
  addAudio,
  addImage,
  addPdf,
  CALL_FRAME,
  GEMINI_FRAME,
  GEMINI_TURN_FRAME,
  mapping,
  textOr,
  USES_ASSUMED,
} from "./openai.js";
import { SCHEMA_FRAME } from "./schemas.js";
import type { Tally } from "./tally.js";
import { each, full, isMapping, lengthOf, type Mapping, plain, quoted, read, written } from "./values.js";

const PART_FRAME = 2;
const TOOL_FRAME = 32;
const TOOLS_FRAME = 256;
/** Google's own tools, and the name of their fee; null where they cost tokens and nothing else. */
const HOSTED = [
  ["google_search", "web_search"],
  ["google_search_retrieval", "web_search"],
  ["enterprise_web_search", "web_search"],
  ["google_maps", "google_maps"],
  ["retrieval", "retrieval"],
  ["url_context", null],
  ["code_execution", null],
  ["file_search", null],
  ["computer_use", null],
  ["mcp_servers", null],
] as const;

/** Reads a field by its name in snake case or in camel case; null where there is none. */
export function either(value: unknown, name: string): unknown {
  if (!isMapping(value)) return null;
  if (Object.hasOwn(value, name)) return read(value, name);
  return read(value, camel(name));
}

function camel(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** Returns what configures the answer: `generationConfig`, or the Python client's `config`. */
export function configOf(body: Mapping): Mapping {
  const own = either(body, "generation_config");
  const found = plain(full(own) ? own : read(body, "config"));
  return isMapping(found) ? found : {};
}

/** Adds a generateContent body. */
export function generateContent(tally: Tally, body: Mapping): void {
  const config = configOf(body);
  const resolution = either(config, "media_resolution");
  tally.add("frame", GEMINI_FRAME, "maximum");
  if (full(either(body, "cached_content")) || full(either(config, "cached_content"))) {
    tally.unknown("cached content", true);
  }
  for (const source of [body, config]) {
    const system = either(source, "system_instruction");
    if (full(system)) addContent(tally, plain(system), resolution);
  }
  const contents = plain(read(body, "contents"));
  for (const one of Array.isArray(contents) ? contents : [contents])
    addContent(tally, plain(one), resolution);
  for (const source of [body, config]) {
    for (const tool of each(either(source, "tools"))) addTool(tally, plain(tool));
  }
  for (const name of ["response_schema", "response_json_schema"]) {
    const schema = either(config, name);
    if (schema !== null) tally.json("schema", plain(schema), SCHEMA_FRAME);
  }
  const modalities = new Set(
    each(either(config, "response_modalities")).map((one) => written(one).toUpperCase()),
  );
  tally.audio ||= modalities.has("AUDIO");
  if (modalities.has("IMAGE") || tally.family.name.includes("-image")) tally.images += 1;
}

function addContent(tally: Tally, value: unknown, resolution: unknown): void {
  if (value === null) return;
  tally.add("frame", GEMINI_TURN_FRAME, "maximum");
  if (typeof value === "string") {
    tally.text("text", value);
    return;
  }
  const whole = mapping(value);
  const given = Object.hasOwn(whole, "parts") ? plain(read(whole, "parts")) : [whole];
  for (const part of typeof given === "string" || isMapping(given) ? [given] : each(given)) {
    tally.add("frame", PART_FRAME, "maximum");
    addPart(tally, plain(part), resolution);
  }
}

function addPart(tally: Tally, part: unknown, resolution: unknown): void {
  if (typeof part === "string") {
    tally.text("text", part);
    return;
  }
  let seen = false;
  const text = read(part, "text");
  if (text !== null) {
    tally.text("text", text);
    seen = true;
  }
  const signature = either(part, "thought_signature");
  if (full(signature)) {
    tally.add("text", lengthOf(signature), "bytes", "encrypted thinking");
    seen = true;
  }
  const own = plain(either(part, "media_resolution"));
  const level = isMapping(own) ? either(own, "level") : own;
  const detail = full(level) ? level : resolution;
  const inline = plain(either(part, "inline_data"));
  if (isMapping(inline)) {
    const kind = textOr(either(inline, "mime_type"), "").toLowerCase();
    addData(tally, kind, new Payload(read(inline, "data")), detail);
    seen = true;
  }
  const named = plain(either(part, "file_data"));
  if (isMapping(named)) {
    const kind = textOr(either(named, "mime_type"), "");
    if (kind.startsWith("image/")) {
      addImage(tally, null, detail);
    } else {
      const filmed = !kind || kind.startsWith("video/");
      tally.audio ||= filmed || kind.startsWith("audio/");
      tally.images += filmed ? 1 : 0;
      tally.unknown("a file that is not in the request");
    }
    seen = true;
  }
  for (const name of ["function_call", "function_response", "executable_code", "code_execution_result"]) {
    const value = plain(either(part, name));
    if (value === null) continue;
    tally.json("calls", value, CALL_FRAME);
    seen = true;
  }
  if (!seen) tally.unknown("a part of a kind that is not known", true);
}

function addData(tally: Tally, kind: string, payload: Payload, detail: unknown): void {
  if (kind.startsWith("image/")) {
    addImage(tally, { mediaType: kind, payload }, detail);
  } else if (kind.startsWith("audio/")) {
    addAudio(tally, { mediaType: kind, payload });
  } else if (kind.includes("pdf")) {
    addPdf(tally, payload);
  } else if (kind.startsWith("text/") || kind === "application/json") {
    tally.text("files", utf8Text(payload));
  } else {
    tally.images += 1;
    tally.audio = true;
    tally.unknown(`a file of type ${quoted(kind)}`);
  }
}

function addTool(tally: Tally, tool: unknown): void {
  const declarations = each(either(tool, "function_declarations"));
  if (declarations.length) tally.add("tools", TOOLS_FRAME, "maximum");
  for (const one of declarations) tally.json("tools", plain(one), TOOL_FRAME);
  for (const [name, fee] of HOSTED) {
    if (either(tool, name) === null) continue;
    tally.unknown(`what the tool ${quoted(name)} finds`);
    if (fee !== null) tally.tools.set(fee, (tally.tools.get(fee) ?? 0) + USES_ASSUMED);
    tally.rounds += USES_ASSUMED;
  }
}
