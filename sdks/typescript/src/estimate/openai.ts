/** Requests to OpenAI's Chat Completions, Embeddings and Completions, and to whatever speaks like them. */

import type { Frame } from "./families.js";
import { imageTokens, pageTokens } from "./images.js";
import { audioMs, type Data, dataUrl, Payload, pdfPages, pixels, utf8Text } from "./media.js";
import { utf8Bytes } from "./ranks.js";
import { addFunctions, addSchema, JSON_OBJECT_FRAME } from "./schemas.js";
import type { Tally } from "./tally.js";
import type { How } from "./types.js";
import {
  each,
  fields,
  full,
  isMapping,
  isWhole,
  iterated,
  lengthOf,
  type Mapping,
  plain,
  quoted,
  read,
  written,
} from "./values.js";

/** OpenAI's cookbook: 3 a message beside its role and text, 1 beside a name, 3 to prime the answer. */
export const MESSAGE_FRAME = 3;
export const NAME_FRAME = 1;
export const CHAT_FRAME = 3;
/** Models that answer in channels: what a message, an instruction and a request take beyond that at most. */
export const CHANNEL_FRAME = 6;
export const INSTRUCTION_FRAME = 12;
export const CHANNELS_FRAME = 16;
/** Open models: their chat templates begin with a preamble of their own, and frame messages by a few tokens. */
export const OPEN_FRAME = 256;
export const OTHER_FRAME = 512;
export const OTHER_MESSAGE_FRAME = 16;
export const CLAUDE_FRAME = 12;
export const CLAUDE_TURN_FRAME = 5;
export const BLOCK_FRAME = 4;
export const GEMINI_FRAME = 16;
export const GEMINI_TURN_FRAME = 8;
/** Around a call of a function in the history, within the wrapper for several calls. */
export const CALL_FRAME = 24;
export const FORCED_FRAME = 8;

/** The text of a page: the most that Anthropic's guide names for a dense one. */
export const PAGE_TEXT_TOKENS = 3_000;
/** The longest PDF that a provider takes. */
export const PAGES_MAX = 1_000;
/** Tokens: OpenAI's hear 10 a second, Gemini 32, which is the most of any. */
export const AUDIO_A_SECOND = 10;
export const AUDIO_A_SECOND_MAX = 32;
export const AUDIO_FRAME = 16;

/** One token each in both ranks. */
const ROLES = new Set(["system", "user", "assistant", "tool", "developer", "function"]);
/** Where OpenAI, xAI and OpenRouter are told to search. */
const SEARCHES = ["web_search_options", "search_parameters", "plugins"];
/** Uses of a provider's own tool in one call, where the request sets no limit. */
export const USES_ASSUMED = 10;

/** Adds a content block of Anthropic's; given by its module, which needs this one. */
type AddBlock = (tally: Tally, found: Mapping) => void;
let addBlock: AddBlock = () => {
  throw new Error("blocks cannot be read yet");
};

/** Says how Anthropic's blocks are read, which OpenAI's messages may hold where something translates them. */
export function readBlocksBy(adder: AddBlock): void {
  addBlock = adder;
}

/** Adds a Chat Completions body. */
export function chat(tally: Tally, body: Mapping): void {
  const { frame } = tally.family;
  for (const message of each(read(body, "messages"))) addMessage(tally, plain(message));
  addChatFrame(tally);
  const functions: Mapping[] = [];
  for (const tool of each(read(body, "tools"))) {
    const found = plain(tool);
    const one = plain(read(found, "function"));
    if (typeOr(found, "function") === "function" && isMapping(one)) functions.push(one);
    else tally.json("tools", found, CALL_FRAME);
  }
  addFunctions(tally, functions, read(body, "parallel_tool_calls") !== false);
  const older = each(read(body, "functions")).map((one) => mapping(plain(one)));
  addFunctions(tally, older, false);
  if ((functions.length || older.length) && frame !== "published" && frame !== "channels") {
    addForeignTools(tally);
  }
  for (const name of ["tool_choice", "function_call"]) addChoice(tally, read(body, name));
  addResponseFormat(tally, read(body, "response_format"));
  const modalities = read(body, "modalities");
  tally.audio ||= Array.isArray(modalities) && modalities.includes("audio");
  if (SEARCHES.some((name) => full(read(body, name))) || tally.family.name.includes("-search")) {
    tally.unknown("what a web search finds");
    tally.tools.set("web_search", USES_ASSUMED);
  }
}

/** Adds the tool that an answer is made to use. */
export function addChoice(tally: Tally, choice: unknown): void {
  if (isMapping(choice)) tally.json("tools", choice, FORCED_FRAME);
  else if (choice !== null && choice !== "auto") tally.add("tools", FORCED_FRAME, "measured");
}

/** Adds what surrounds the whole of a chat. */
export function addChatFrame(tally: Tally): void {
  tally.add("frame", ...CHAT_FRAMES[tally.family.frame]);
}

/** Adds what surrounds one message, its role included. */
export function addMessageFrame(tally: Tally, role: string): void {
  tally.add("frame", ...messageFrame(tally.family.frame, role));
}

const CHAT_FRAMES: Readonly<Record<Frame, readonly [tokens: number, how: How, note?: string]>> = {
  published: [CHAT_FRAME, "exact"],
  channels: [CHAT_FRAME + CHANNELS_FRAME, "maximum"],
  open: [OPEN_FRAME, "maximum"],
  claude: [CLAUDE_FRAME - CLAUDE_TURN_FRAME, "measured"],
  gemini: [GEMINI_FRAME, "maximum"],
  other: [OTHER_FRAME, "maximum", "a chat template that is not known"],
};

function messageFrame(frame: Frame, role: string): readonly [tokens: number, how: How] {
  const own = ROLES.has(role) ? 1 : utf8Bytes(role);
  switch (frame) {
    case "published":
      return [MESSAGE_FRAME + own, "exact"];
    case "channels": {
      const instruction = role === "system" || role === "developer";
      const more = role === "user" ? 0 : instruction ? INSTRUCTION_FRAME : CHANNEL_FRAME;
      return [MESSAGE_FRAME + own + more, "maximum"];
    }
    case "claude":
      return [CLAUDE_TURN_FRAME, "measured"];
    case "gemini":
      return [GEMINI_TURN_FRAME, "maximum"];
    default:
      return [OTHER_MESSAGE_FRAME + own, "maximum"];
  }
}

/** Adds the hidden instruction on how to use tools, where the model is not one of OpenAI's. */
export function addForeignTools(tally: Tally): void {
  if (tally.family.vendor !== "anthropic") tally.add("tools", 512, "maximum");
  else tally.add("tools", tally.family.late ? 1_000 : 530, "maximum");
}

/** Returns the type of a tool or an item; `otherwise` where none is named, null where it is named as null. */
function typeOr(value: unknown, otherwise: string): unknown {
  return isMapping(value) && Object.hasOwn(value, "type") ? value.type : otherwise;
}

/** Returns a value that has fields. Throws MisshapenError for one that has none. */
export function mapping(value: unknown): Mapping {
  read(value, "");
  return value as Mapping;
}

/** Returns a text of the request, or `otherwise` where there is none. */
export function textOr(value: unknown, otherwise: string): string {
  return full(value) ? written(value) : otherwise;
}

function addMessage(tally: Tally, message: unknown): void {
  addMessageFrame(tally, textOr(read(message, "role"), "user"));
  for (const [name, value] of fields(message)) {
    if (value === null || name === "role") continue;
    switch (name) {
      case "content":
        content(tally, value);
        break;
      case "name":
        tally.add("frame", NAME_FRAME, "exact");
        tally.text("text", value);
        break;
      case "tool_calls":
        for (const call of iterated(value)) addCall(tally, plain(call));
        break;
      case "function_call":
        addCall(tally, { function: plain(value) });
        break;
      case "tool_call_id":
        tally.add("calls", CALL_FRAME, "measured");
        tally.text("calls", value);
        break;
      case "reasoning_content":
      case "reasoning":
      case "refusal":
        tally.text("text", value);
        break;
      case "audio":
        tally.unknown("audio of an earlier answer", true);
        break;
      case "annotations":
      case "weight":
        break;
      default:
        tally.json("text", value);
    }
  }
}

function addCall(tally: Tally, call: unknown): void {
  const given = plain(firstFull(call, "function", "custom"));
  const one = full(given) ? given : {};
  tally.add("calls", CALL_FRAME, "measured");
  tally.text("calls", read(call, "id"));
  tally.text("calls", read(one, "name"));
  tally.text("calls", firstFull(one, "arguments", "input"));
}

/** Returns the first of these fields that holds anything, else the last of them. */
export function firstFull(value: unknown, ...names: string[]): unknown {
  let found: unknown = null;
  for (const name of names) {
    found = read(value, name);
    if (full(found)) break;
  }
  return found;
}

/** Adds a message's content: a text, or parts. */
export function content(tally: Tally, value: unknown): void {
  if (typeof value === "string") {
    tally.text("text", value);
    return;
  }
  let before = false;
  (isMapping(value) ? [value] : iterated(value)).forEach((part, place) => {
    const found = plain(part);
    addPart(tally, found);
    const text = typeof found === "string" || (isMapping(found) && Object.hasOwn(found, "text"));
    // Nobody publishes what stands between two texts of one message.
    if (place && (tally.family.frame !== "published" || (text && before))) {
      tally.add("frame", BLOCK_FRAME, "measured");
    }
    before = text;
  });
}

function addPart(tally: Tally, part: unknown): void {
  if (typeof part === "string") {
    tally.text("text", part);
    return;
  }
  const kind = read(part, "type");
  switch (kind) {
    case "text":
    case "input_text":
    case "output_text":
    case "summary_text":
    case "reasoning_text":
      tally.text("text", read(part, "text"));
      break;
    case "refusal":
      tally.text("text", read(part, "refusal"));
      break;
    case "image_url":
    case "input_image": {
      let image = plain(read(part, "image_url"));
      let detail = read(part, "detail");
      if (isMapping(image)) {
        if (Object.hasOwn(image, "detail")) detail = read(image, "detail");
        image = read(image, "url");
      }
      addImage(tally, dataUrl(image), detail);
      break;
    }
    case "input_audio": {
      const given = plain(read(part, "input_audio"));
      const sound = full(given) ? given : {};
      const mediaType = textOr(read(sound, "format"), "");
      addAudio(tally, { mediaType, payload: new Payload(read(sound, "data")) });
      break;
    }
    case "file":
    case "input_file": {
      const given = read(part, "file");
      const file = plain(full(given) ? given : part);
      addFile(tally, file, read(file, "file_data"));
      break;
    }
    case "image":
    case "document":
    case "tool_result":
    case "tool_use":
    case "thinking":
    case "redacted_thinking":
      addBlock(tally, mapping(part));
      break;
    default:
      tally.unknown(`a part of type ${quoted(kind)}`, true);
  }
}

/** Adds an image, given by its data or else by an address. */
export function addImage(tally: Tally, data: Data | null, detail: unknown = null): void {
  tally.images += 1;
  const size = data === null ? null : pixels(data.payload);
  const [tokens, how] = imageTokens(tally.family, size, typeof detail === "string" ? detail : null);
  tally.add("images", tokens, how, size === null ? "of unknown size" : "");
}

/** Adds audio by its seconds, where its header or its size tells them. */
export function addAudio(tally: Tally, data: Data): void {
  tally.audio = true;
  const milliseconds = audioMs(data.payload, data.mediaType);
  if (milliseconds === null) {
    tally.add("audio", data.payload.length + AUDIO_FRAME, "bytes", "of unknown length");
    return;
  }
  const rate = tally.family.vendor === "openai" ? AUDIO_A_SECOND : AUDIO_A_SECOND_MAX;
  // Exact beyond 2^53: a header may tell of months.
  const tokens = (BigInt(milliseconds) * BigInt(rate) + 999n) / 1000n;
  tally.add("audio", Number(tokens) + AUDIO_FRAME, "measured");
}

/** Adds a file that came with the request; one that is only named is unknown. */
export function addFile(tally: Tally, file: unknown, value: unknown): void {
  tally.text("files", firstFull(file, "filename", "title"));
  if (value === null) {
    tally.unknown("a file that is not in the request", true);
    return;
  }
  const data = dataUrl(value) ?? { mediaType: "application/pdf", payload: new Payload(value) };
  const { mediaType, payload } = data;
  if (mediaType.includes("pdf") || !mediaType) addPdf(tally, payload);
  else if (mediaType.startsWith("image/")) addImage(tally, data);
  else if (/^text\/|^application\/(?:json|xml)$/.test(mediaType)) tally.text("files", utf8Text(payload));
  else tally.unknown(`the text of a ${mediaType} file`, true);
}

/** Adds a PDF: each page is read as text and as an image. */
export function addPdf(tally: Tally, payload: Payload): void {
  const pages = pdfPages(payload);
  const page = Math.floor((PAGE_TEXT_TOKENS * tally.family.percent) / 100) + pageTokens(tally.family);
  tally.images += pages ?? PAGES_MAX;
  if (pages === null) {
    tally.add("files", PAGES_MAX * page, "maximum", `its pages cannot be counted: ${PAGES_MAX}`);
  } else {
    tally.add("files", pages * page, "maximum", "a page of dense text");
  }
}

function addResponseFormat(tally: Tally, value: unknown): void {
  const wanted = plain(value);
  if (!isMapping(wanted)) return;
  const kind = read(wanted, "type");
  if (kind === "json_schema") {
    const given = plain(read(wanted, "json_schema"));
    const inner = full(given) ? given : {};
    addSchema(tally, read(inner, "name"), read(inner, "description"), read(inner, "schema"));
  } else if (kind === "json_object") {
    tally.add("schema", JSON_OBJECT_FRAME, "measured");
  } else if (kind !== "text") {
    tally.json("schema", wanted, JSON_OBJECT_FRAME);
  }
}

/** Returns the prompts of a request that takes one or many, as texts or as lists of tokens. */
export function prompts(value: unknown): readonly unknown[] {
  if (value === null) return [];
  if (typeof value === "string" || (Array.isArray(value) && isWhole(value[0]))) return [value];
  return iterated(value);
}

/** Adds an Embeddings body: its texts, or tokens that were counted already. */
export function embeddings(tally: Tally, body: Mapping): void {
  for (const given of prompts(read(body, "input"))) {
    const prompt = plain(given);
    if (typeof prompt === "string") tally.text("text", prompt);
    else if (isMapping(prompt)) content(tally, [prompt]);
    else tally.add("text", lengthOf(prompt), "exact");
    if (tally.family.vendor !== "openai") {
      // Open models begin and end a text by tokens of their own, and some models prefix a task.
      tally.add("frame", OTHER_MESSAGE_FRAME, "maximum");
    }
  }
}

/** Adds a Completions body; a `suffix` is part of the prompt. */
export function completions(tally: Tally, body: Mapping): void {
  const given = prompts(read(body, "prompt"));
  for (const prompt of given.length ? given : [""]) {
    tally.add("frame", tally.family.vendor === "openai" ? 1 : OTHER_MESSAGE_FRAME, "measured");
    if (typeof prompt === "string") tally.text("text", prompt);
    else tally.add("text", lengthOf(prompt), "exact");
    tally.text("text", read(body, "suffix"));
  }
}
