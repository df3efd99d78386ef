/** Requests to Anthropic's Messages. */

import { Payload } from "./media.js";
import {
  addForeignTools,
  addImage,
  addPdf,
  BLOCK_FRAME,
  CALL_FRAME,
  CLAUDE_FRAME,
  CLAUDE_TURN_FRAME,
  mapping,
  readBlocksBy,
  textOr,
  USES_ASSUMED,
} from "./openai.js";
import { SCHEMA_FRAME } from "./schemas.js";
import type { Tally } from "./tally.js";
import { each, full, isMapping, isWhole, type Mapping, plain, points, quoted, read } from "./values.js";

const TOOL_FRAME = 16;
/** The hidden instruction on how to cite. */
const CITATIONS_TOKENS = 1_024;
/** Tools that Anthropic defines and the caller runs: above what its guides name for each (245, 700, 735). */
const OWN_TOOL_TOKENS = [
  ["bash", 512],
  ["text_editor", 1_024],
  ["computer", 2_048],
  ["memory", 2_048],
] as const;

const HOSTED = ["web_search", "web_fetch", "code_execution", "tool_search", "advisor", "mcp"];
/** What costs tokens and nothing else. */
const FREE = new Set(["web_fetch", "tool_search", "mcp"]);

/** Adds a Messages body, in the order in which prompt caching sees it: tools, system, messages. */
export function messages(tally: Tally, body: Mapping): void {
  addTools(tally, body);
  const config = plain(read(body, "output_config"));
  const inner = full(config) ? plain(read(config, "format")) : null;
  // A schema is explained to the model ahead of everything said.
  for (const wanted of [plain(read(body, "output_format")), inner]) {
    if (isMapping(wanted)) tally.json("schema", wanted, SCHEMA_FRAME);
  }
  addContent(tally, read(body, "system"));
  if (full(read(body, "thinking"))) tally.add("frame", 64, "maximum", "thinking");
  tally.add("frame", CLAUDE_FRAME - CLAUDE_TURN_FRAME, "measured");
  for (const message of each(read(body, "messages"))) {
    tally.add("frame", CLAUDE_TURN_FRAME, "measured");
    addContent(tally, read(plain(message), "content"));
  }
  for (const name of ["container", "mcp_servers"]) {
    if (full(read(body, name))) tally.unknown(`what ${quoted(name)} brings`);
  }
  if (full(read(body, "cache_control"))) tally.mark();
  const dearer = dearerTier(body);
  if (dearer !== null) {
    tally.warnings.push(`${dearer}: without a price of its own, bounded by 2.5 times the dearest`);
  }
}

/** Returns the name of the prices that a faster speed or a region is billed by. */
export function dearerTier(body: Mapping): string | null {
  const speed = read(body, "speed");
  const region = read(body, "inference_geo");
  if (typeof speed === "string" && speed !== "standard") return speed;
  if (typeof region === "string" && region !== "global" && region !== "not_available") {
    return `inference_geo:${region}`;
  }
  return null;
}

function addContent(tally: Tally, value: unknown): void {
  if (typeof value === "string") tally.text("text", value);
  else addBlocks(tally, each(value));
}

function addBlocks(tally: Tally, blocks: readonly unknown[]): void {
  blocks.forEach((one, place) => {
    const found = plain(one);
    if (place) tally.add("frame", BLOCK_FRAME, "measured");
    if (typeof found === "string") {
      tally.text("text", found);
      return;
    }
    addBlock(tally, mapping(found));
    if (full(read(found, "cache_control"))) tally.mark();
  });
}

/** Adds one content block. */
export function addBlock(tally: Tally, found: Mapping): void {
  const kind = read(found, "type");
  switch (kind) {
    case "text": {
      tally.text("text", read(found, "text"));
      const citations = read(found, "citations");
      if (full(citations)) tally.json("text", citations);
      break;
    }
    case "image":
      addSource(tally, read(found, "source"), true);
      break;
    case "document": {
      tally.text("files", read(found, "title"));
      tally.text("files", read(found, "context"));
      const citations = plain(read(found, "citations"));
      if (full(citations) && full(read(citations, "enabled"))) {
        tally.add("files", CITATIONS_TOKENS, "maximum", "citations");
      }
      addSource(tally, read(found, "source"), false);
      break;
    }
    case "search_result":
      tally.text("files", read(found, "title"));
      tally.text("files", read(found, "source"));
      tally.add("files", CITATIONS_TOKENS, "maximum", "citations");
      addBlocks(tally, each(read(found, "content")));
      break;
    case "tool_use":
    case "server_tool_use":
    case "mcp_tool_use": {
      tally.text("calls", read(found, "id"));
      tally.text("calls", read(found, "name"));
      const input = read(found, "input");
      tally.json("calls", full(input) ? input : {}, CALL_FRAME);
      break;
    }
    case "tool_result":
      tally.add("calls", CALL_FRAME, "measured");
      tally.text("calls", read(found, "tool_use_id"));
      addContent(tally, read(found, "content"));
      break;
    case "thinking":
      tally.text("text", read(found, "thinking"));
      // The signature carries the whole of what was thought, of which `thinking` may be a summary.
      tally.add("text", points(textOr(read(found, "signature"), "")), "bytes", "encrypted thinking");
      break;
    case "redacted_thinking":
      tally.add("text", points(textOr(read(found, "data"), "")), "bytes", "encrypted thinking");
      break;
    // Encrypted contents come as base64, which is longer than what it stands for.
    case "web_search_tool_result":
    case "web_fetch_tool_result":
    case "mcp_tool_result":
    case "tool_search_tool_result":
    case "code_execution_tool_result":
    case "bash_code_execution_tool_result":
      tally.json("calls", found, CALL_FRAME);
      break;
    default:
      tally.unknown(`a block of type ${quoted(kind)}`, true);
  }
}

readBlocksBy(addBlock);

function addSource(tally: Tally, value: unknown, image: boolean): void {
  const given = plain(value);
  const source = full(given) ? mapping(given) : {};
  const kind = read(source, "type");
  const data = read(source, "data");
  if (kind === "base64" && (typeof data === "string" || data instanceof Uint8Array)) {
    const payload = new Payload(data);
    if (image) addImage(tally, { mediaType: textOr(read(source, "media_type"), ""), payload });
    else addPdf(tally, payload);
  } else if (image) {
    addImage(tally, null);
  } else if (kind === "text") {
    tally.text("files", data);
  } else if (kind === "content") {
    const inner = read(source, "content");
    addBlocks(tally, typeof inner === "string" ? [{ type: "text", text: inner }] : each(inner));
  } else {
    tally.unknown("a document that is not in the request", true);
  }
}

function addTools(tally: Tally, body: Mapping): void {
  const tools = each(read(body, "tools")).map((tool) => plain(tool));
  if (!tools.length) return;
  addForeignTools(tally);
  for (const tool of tools) {
    const kind = textOr(read(tool, "type"), "custom");
    const own = OWN_TOOL_TOKENS.find(([name]) => kind.startsWith(name))?.[1];
    const hosted = HOSTED.find((name) => kind.startsWith(name));
    if (hosted !== undefined) {
      const limit = read(tool, "max_uses");
      const uses = isWhole(limit) && limit > 0 ? limit : USES_ASSUMED;
      tally.unknown(`what the tool ${quoted(hosted)} finds`);
      if (!FREE.has(hosted)) tally.tools.set(hosted, (tally.tools.get(hosted) ?? 0) + uses);
      tally.rounds += uses;
    } else if (own !== undefined) {
      tally.add("tools", own, "maximum");
    } else if (kind !== "custom") {
      tally.unknown(`the tool of type ${quoted(kind)}`);
      tally.tools.set(kind, USES_ASSUMED);
    }
    const shown = Object.fromEntries(
      Object.entries(mapping(tool)).filter(([name]) => name !== "cache_control"),
    );
    tally.json("tools", shown, TOOL_FRAME);
    if (full(read(tool, "cache_control"))) tally.mark();
  }
  const choice = plain(read(body, "tool_choice"));
  if (isMapping(choice)) tally.text("tools", read(choice, "name"));
}
