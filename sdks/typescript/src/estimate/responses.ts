/** Requests to OpenAI's Responses. */

import { dataUrl } from "./media.js";
import {
  addChatFrame,
  addChoice,
  addFile,
  addForeignTools,
  addImage,
  addMessageFrame,
  CALL_FRAME,
  content,
  mapping,
  textOr,
  USES_ASSUMED,
} from "./openai.js";
import { addFunctions, addSchema, JSON_OBJECT_FRAME } from "./schemas.js";
import type { Tally } from "./tally.js";
import { each, full, isMapping, isWhole, lengthOf, type Mapping, plain, quoted, read } from "./values.js";

/** The hidden description of a tool that the caller runs: shell, patch, computer. */
export const CLIENT_TOOL_TOKENS = 1_500;

const STORED = [
  ["previous_response_id", "an earlier response"],
  ["conversation", "a stored conversation"],
  ["prompt", "a stored prompt"],
] as const;
const HOSTED = [
  ["web_search", "web_search"],
  ["file_search", "file_search"],
  ["code_interpreter", "code_execution"],
  ["image_generation", "image_generation"],
] as const;
/** What costs tokens and nothing else. */
const FREE = /^(?:mcp|tool_search|namespace)/;
const CLIENT = /^(?:computer|local_shell|shell|apply_patch)/;

/** Adds a Responses body. */
export function responses(tally: Tally, body: Mapping): void {
  for (const [name, what] of STORED) if (full(read(body, name))) tally.unknown(what, true);
  const instructions = read(body, "instructions");
  if (full(instructions)) {
    addMessageFrame(tally, "developer");
    tally.text("text", instructions);
  }
  const given = read(body, "input");
  if (typeof given === "string") {
    addMessageFrame(tally, "user");
    tally.text("text", given);
  } else {
    for (const item of each(given)) addItem(tally, plain(item));
  }
  addChatFrame(tally);
  addTools(tally, body);
  const text = plain(read(body, "text"));
  const wanted = isMapping(text) ? plain(read(text, "format")) : null;
  if (!full(wanted)) return;
  const kind = read(wanted, "type");
  if (kind === "json_schema") {
    addSchema(tally, read(wanted, "name"), read(wanted, "description"), read(wanted, "schema"));
  } else if (kind === "json_object") {
    tally.add("schema", JSON_OBJECT_FRAME, "measured");
  }
}

function addItem(tally: Tally, item: unknown): void {
  if (typeof item === "string") {
    addMessageFrame(tally, "user");
    tally.text("text", item);
    return;
  }
  const told = read(item, "type");
  const found = mapping(item);
  const kind = full(told) ? told : Object.hasOwn(found, "role") ? "message" : null;
  if (kind === "message") {
    addMessageFrame(tally, textOr(read(item, "role"), "user"));
    addContent(tally, read(item, "content"));
    return;
  }
  addMessageFrame(tally, "tool");
  tally.add("calls", CALL_FRAME, "measured");
  switch (kind) {
    case "function_call":
    case "custom_tool_call":
      for (const name of ["call_id", "name", "arguments", "input"]) tally.text("calls", read(item, name));
      break;
    case "function_call_output":
    case "custom_tool_call_output":
      tally.text("calls", read(item, "call_id"));
      addContent(tally, read(item, "output"));
      break;
    case "reasoning": {
      const encrypted = read(item, "encrypted_content");
      // What was encrypted is shorter than its base64.
      tally.add("text", full(encrypted) ? lengthOf(encrypted) : 0, "bytes", "encrypted reasoning");
      addContent(tally, read(item, "summary"));
      addContent(tally, read(item, "content"));
      if (!full(encrypted) && !full(read(item, "content"))) tally.unknown("stored reasoning");
      break;
    }
    case "computer_call_output": {
      const output = plain(read(item, "output"));
      addImage(tally, dataUrl(full(output) ? read(output, "image_url") : null), "original");
      break;
    }
    case "image_generation_call": {
      const made = `data:image/png;base64,${textOr(read(item, "result"), "")}`;
      addImage(tally, dataUrl(made), "original");
      break;
    }
    case "computer_call":
    case "local_shell_call":
    case "local_shell_call_output":
    case "shell_call":
    case "shell_call_output":
    case "apply_patch_call":
    case "apply_patch_call_output":
    case "web_search_call":
    case "file_search_call":
    case "code_interpreter_call":
    case "mcp_call":
    case "mcp_list_tools":
    case "mcp_approval_request":
    case "mcp_approval_response":
      tally.json("calls", item);
      if ((kind === "web_search_call" || kind === "file_search_call") && !full(read(item, "results"))) {
        tally.unknown("the results of an earlier search");
      }
      break;
    case "input_file":
      addFile(tally, item, read(item, "file_data"));
      break;
    default:
      tally.unknown(`an item of type ${quoted(kind)}`, true);
  }
}

function addContent(tally: Tally, value: unknown): void {
  content(tally, full(value) ? value : []);
}

function addTools(tally: Tally, body: Mapping): void {
  const functions: Mapping[] = [];
  const told = read(body, "max_tool_calls");
  const limit = isWhole(told) && told > 0 ? told : null;
  const uses = limit ?? USES_ASSUMED;
  for (const tool of each(read(body, "tools"))) {
    const found = mapping(plain(tool));
    const kind = textOr(read(found, "type"), "function");
    if (kind === "function") {
      functions.push(found);
    } else if (kind === "custom") {
      tally.json("tools", found, CALL_FRAME);
    } else if (CLIENT.test(kind)) {
      tally.add("tools", CLIENT_TOOL_TOKENS, "maximum");
      tally.json("tools", found);
    } else {
      const name = HOSTED.find(([start]) => kind.startsWith(start))?.[1] ?? kind;
      tally.unknown(`what the tool ${quoted(kind)} finds`);
      tally.json("tools", found);
      if (!FREE.test(kind)) tally.tools.set(name, uses);
      // The request's limit is for all tools together.
      tally.rounds = limit === null ? tally.rounds + uses : limit + 1;
      if (name === "image_generation") tally.images += 1;
    }
  }
  const shown = functions.map((one) => {
    return {
      name: read(one, "name"),
      description: read(one, "description"),
      parameters: read(one, "parameters"),
    };
  });
  addFunctions(tally, shown, read(body, "parallel_tool_calls") !== false);
  if (functions.length && tally.family.vendor !== "openai") addForeignTools(tally);
  addChoice(tally, read(body, "tool_choice"));
}
