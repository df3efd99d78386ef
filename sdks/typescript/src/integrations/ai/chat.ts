/** A prompt as the body of a chat in OpenAI's terms, which most providers speak. */

import { dataUrl, type Given, given } from "./files.js";
import { type Fields, fieldsOf, jsonOf, type LanguageOptions, listOf, type Part } from "./spec.js";

/** Returns what bounds a call of a chat. */
export function chatBody(options: LanguageOptions): Fields {
  const body: Fields = { messages: options.prompt.flatMap((message) => messagesOf(fieldsOf(message))) };
  const tools = listOf(options.tools).map((tool) => ({
    type: "function",
    function: { name: tool.name, description: tool.description, parameters: parametersOf(tool) },
  }));
  if (tools.length > 0) body.tools = tools;
  const choice = fieldsOf(options.toolChoice);
  if (choice.type === "tool") body.tool_choice = { type: "function", function: { name: choice.toolName } };
  else if (typeof choice.type === "string") body.tool_choice = choice.type;
  const format = fieldsOf(options.responseFormat);
  if (format.type === "json") {
    const { schema, name, description } = format;
    body.response_format =
      schema === undefined
        ? { type: "json_object" }
        : { type: "json_schema", json_schema: { schema, name: name ?? "response", description } };
  }
  return body;
}

/** A tool's schema, with the examples that some providers are shown beside it. */
export function parametersOf(tool: Part): unknown {
  if (tool.inputExamples === undefined) return tool.inputSchema;
  return { ...fieldsOf(tool.inputSchema), examples: tool.inputExamples };
}

function messagesOf(message: Fields): Fields[] {
  if (typeof message.content === "string") return [{ role: message.role, content: message.content }];
  const parts = listOf(message.content);
  if (message.role !== "tool" && message.role !== "assistant") {
    return [{ role: message.role, content: parts.map(contentOf) }];
  }
  const results = parts.filter((part) => part.type === "tool-result");
  const calls = parts.filter((part) => part.type === "tool-call");
  const rest = parts.filter((part) => part.type !== "tool-result" && part.type !== "tool-call");
  const made: Fields[] = [];
  if (message.role === "assistant" || rest.length > 0) {
    made.push({ role: message.role, content: rest.map(contentOf) });
  }
  if (calls.length > 0 && made[0] !== undefined) {
    made[0].tool_calls = calls.map((call) => ({
      id: call.toolCallId,
      type: "function",
      function: { name: call.toolName, arguments: jsonOf(call.input) },
    }));
  }
  for (const result of results) {
    made.push({ role: "tool", tool_call_id: result.toolCallId, content: outputOf(result) });
  }
  return made;
}

/** What a tool gave, as a text or as parts. */
export function outputOf(result: Part): string | Fields[] {
  const output = fieldsOf(result.output ?? result.result);
  if (output.type === "content") return listOf(output.value).map(contentOf);
  // Of a failure some packages send all that is known, as JSON in a text.
  if (String(output.type).startsWith("error")) return JSON.stringify(output);
  if (output.type === "execution-denied") return jsonOf(output.reason ?? "Tool execution denied.");
  return jsonOf("value" in output ? output.value : (result.output ?? result.result ?? ""));
}

/** One part of a message or of what a tool gave. */
export function contentOf(part: Part): Fields {
  switch (part.type) {
    case "text":
    case "reasoning":
      return { type: "text", text: part.text };
    case "file":
    case "reasoning-file":
      return fileOf(given(part.data, part.mediaType), part);
    case "file-data":
    case "image-data":
      return fileOf(given(part.data, part.mediaType), part);
    case "image-url":
      return fileOf(given(urlOf(part.url), "image/*"), part);
    case "file-url":
      return fileOf(given(urlOf(part.url), part.mediaType), part);
    case "tool-approval-response":
    case "tool-approval-request":
      return { type: "text", text: jsonOf(part) };
    default:
      // Named as it is, so that the estimate says what is not known.
      return { type: part.type };
  }
}

function urlOf(value: unknown): unknown {
  try {
    return new URL(String(value));
  } catch {
    return value;
  }
}

function fileOf(file: Given, part: Part): Fields {
  if (file.text !== undefined) return { type: "text", text: `${String(part.filename ?? "")} ${file.text}` };
  const url = dataUrl(file);
  if (file.mediaType.startsWith("image/")) {
    const detail = detailOf(part);
    return { type: "image_url", image_url: { url: url ?? "", ...(detail === undefined ? {} : { detail }) } };
  }
  if (file.mediaType.startsWith("audio/") && file.base64 !== undefined) {
    return { type: "input_audio", input_audio: { data: file.base64, format: file.mediaType.slice(6) } };
  }
  const data = file.base64 === undefined ? {} : { file_data: url };
  return { type: "file", file: { filename: part.filename, ...data } };
}

function detailOf(part: Part): string | undefined {
  for (const own of Object.values(fieldsOf(part.providerOptions))) {
    const detail = fieldsOf(own).imageDetail;
    if (typeof detail === "string") return detail;
  }
  return undefined;
}
