/** A prompt as the body of Anthropic's Messages, from whichever cloud. */

import { outputOf } from "./chat.js";
import { given } from "./files.js";
import { isProviders, kindOf } from "./responses.js";
import { type Fields, fieldsOf, type LanguageOptions, listOf, type Part } from "./spec.js";

const MARKS = ["cacheControl", "cache_control", "cachePoint"];

/** Returns what bounds a call of Messages. */
export function messagesBody(options: LanguageOptions): Fields {
  const system: Fields[] = [];
  const messages: Fields[] = [];
  for (const one of options.prompt) {
    const message = fieldsOf(one);
    const blocks =
      typeof message.content === "string"
        ? [{ type: "text", text: message.content } as Fields]
        : listOf(message.content).map(blockOf);
    const last = blocks.at(-1);
    if (last !== undefined && isMarked(message)) last.cache_control = { type: "ephemeral" };
    if (message.role === "system") system.push(...blocks);
    else messages.push({ role: message.role === "assistant" ? "assistant" : "user", content: blocks });
  }
  const body: Fields = { system, messages };
  const tools = listOf(options.tools).map(toolOf);
  const format = fieldsOf(options.responseFormat);
  if (format.type === "json" && format.schema !== undefined) {
    // Models that know no schemas get it as a tool instead, which is the longer of the two.
    tools.push({ name: "json", description: "Respond with a JSON object.", input_schema: format.schema });
    body.output_config = { format: { type: "json_schema", schema: format.schema } };
  }
  if (tools.length > 0) body.tools = tools;
  const choice = fieldsOf(options.toolChoice);
  if (choice.type === "tool") body.tool_choice = { type: "tool", name: choice.toolName };
  return body;
}

/** Whether a message, a part or a tool is where a cache is written up to. */
export function isMarked(value: Fields): boolean {
  return Object.values(fieldsOf(value.providerOptions)).some((own) =>
    MARKS.some((name) => Boolean(fieldsOf(own)[name])),
  );
}

function toolOf(tool: Part): Fields {
  const mark = isMarked(tool) ? { cache_control: { type: "ephemeral" } } : {};
  if (isProviders(tool)) {
    const args = fieldsOf(tool.args);
    return { ...args, type: kindOf(tool), name: tool.name, max_uses: args.maxUses ?? args.max_uses, ...mark };
  }
  return {
    name: tool.name,
    description: tool.description,
    input_schema: tool.inputSchema,
    ...(tool.inputExamples === undefined ? {} : { input_examples: tool.inputExamples }),
    ...mark,
  };
}

function blockOf(part: Part): Fields {
  return { ...unmarked(part), ...(isMarked(part) ? { cache_control: { type: "ephemeral" } } : {}) };
}

function unmarked(part: Part): Fields {
  switch (part.type) {
    case "text":
      return { type: "text", text: part.text };
    case "reasoning": {
      const own = Object.values(fieldsOf(part.providerOptions)).map(fieldsOf);
      const data = own.find((one) => typeof one.redactedData === "string")?.redactedData;
      if (data !== undefined) return { type: "redacted_thinking", data };
      const signature = own.find((one) => typeof one.signature === "string")?.signature;
      return { type: "thinking", thinking: part.text, signature };
    }
    case "file":
    case "reasoning-file":
    case "file-data":
    case "image-data":
      return fileOf(part, part.data, part.mediaType);
    case "file-url":
      return fileOf(part, addressOf(part.url), part.mediaType);
    case "image-url":
      return fileOf(part, addressOf(part.url), "image/*");
    case "tool-call":
      return {
        type: part.providerExecuted === true ? "server_tool_use" : "tool_use",
        id: part.toolCallId,
        name: part.toolName,
        input: part.input ?? {},
      };
    case "tool-result": {
      const output = fieldsOf(part.output);
      const content = output.type === "content" ? listOf(output.value).map(blockOf) : outputOf(part);
      return { type: "tool_result", tool_use_id: part.toolCallId, content };
    }
    case "tool-approval-response":
    case "tool-approval-request":
      return { type: "text", text: JSON.stringify(part) };
    default:
      return { type: part.type };
  }
}

function addressOf(value: unknown): unknown {
  try {
    return new URL(String(value));
  } catch {
    return value;
  }
}

function fileOf(part: Part, data: unknown, mediaType: unknown): Fields {
  const file = given(data, mediaType);
  const own = Object.values(fieldsOf(part.providerOptions)).map(fieldsOf);
  const said: Fields = { title: part.filename };
  for (const one of own) {
    if (one.citations !== undefined) said.citations = one.citations;
    if (one.context !== undefined) said.context = one.context;
    if (one.title !== undefined) said.title = one.title;
  }
  if (file.mediaType.startsWith("image/")) {
    return { type: "image", source: sourceOf(file.mediaType, file.base64, file.url) };
  }
  if (file.text !== undefined)
    return { type: "document", ...said, source: { type: "text", data: file.text } };
  if (
    file.base64 !== undefined &&
    (file.mediaType.startsWith("text/") || file.mediaType === "application/json")
  ) {
    return { type: "document", ...said, source: { type: "text", data: textOf(file.base64) } };
  }
  return { type: "document", ...said, source: sourceOf(file.mediaType, file.base64, file.url) };
}

function sourceOf(mediaType: string, base64: string | undefined, url: string | undefined): Fields {
  if (base64 !== undefined) return { type: "base64", media_type: mediaType, data: base64 };
  return url === undefined ? { type: "file" } : { type: "url", url };
}

function textOf(base64: string): string {
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(base64), (one) => one.charCodeAt(0)));
  } catch {
    // Longer than what it stands for.
    return base64;
  }
}
