/** A prompt as the body of OpenAI's Responses; also whatever uses a tool that the provider runs. */

import { contentOf, outputOf, parametersOf } from "./chat.js";
import { reasoned } from "./reasoned.js";
import { type Fields, fieldsOf, jsonOf, type LanguageOptions, listOf, type Part } from "./spec.js";

/** Returns what bounds a call of Responses. */
export function responsesBody(options: LanguageOptions): Fields {
  const body: Fields = { input: options.prompt.flatMap((message) => itemsOf(fieldsOf(message))) };
  const tools = listOf(options.tools).map(toolOf);
  if (tools.length > 0) body.tools = tools;
  const choice = fieldsOf(options.toolChoice);
  if (choice.type === "tool") body.tool_choice = { type: "function", name: choice.toolName };
  else if (typeof choice.type === "string") body.tool_choice = choice.type;
  const format = fieldsOf(options.responseFormat);
  if (format.type === "json") {
    const { schema, name, description } = format;
    body.text = {
      format:
        schema === undefined
          ? { type: "json_object" }
          : { type: "json_schema", schema, name: name ?? "response", description },
    };
  }
  return body;
}

function toolOf(tool: Part): Fields {
  if (isProviders(tool)) {
    return { ...fieldsOf(tool.args), type: kindOf(tool), name: tool.name };
  }
  return {
    type: "function",
    name: tool.name,
    description: tool.description,
    parameters: parametersOf(tool),
  };
}

/** Whether the provider runs a tool, or describes it. */
export function isProviders(tool: Part): boolean {
  return tool.type === "provider" || tool.type === "provider-defined";
}

/** The kind of a provider's tool: `web_search` of `openai.web_search`. */
export function kindOf(tool: Part): string {
  const id = String(tool.id ?? tool.name ?? "");
  return id.slice(id.indexOf(".") + 1);
}

function itemsOf(message: Fields): Fields[] {
  if (typeof message.content === "string") return [{ role: message.role, content: message.content }];
  const parts = listOf(message.content);
  if (message.role !== "assistant" && message.role !== "tool") {
    return [{ role: message.role, content: parts.map(contentOf) }];
  }
  return parts.map((part) => itemOf(part, String(message.role)));
}

function itemOf(part: Part, role: string): Fields {
  const id = ownOf(part, "itemId");
  switch (part.type) {
    case "reasoning":
      return reasoningOf(part, id);
    case "tool-call":
      if (part.providerExecuted === true) {
        // What it found may be read again, and is not in the prompt.
        return { type: "web_search_call", id: part.toolCallId, action: part.input };
      }
      return {
        type: "function_call",
        call_id: part.toolCallId,
        name: part.toolName,
        arguments: jsonOf(part.input),
      };
    case "tool-result":
      return { type: "function_call_output", call_id: part.toolCallId, output: outputOf(part) };
    case "text":
    case "file":
    case "reasoning-file":
    case "tool-approval-response":
    case "tool-approval-request":
      return { role, content: [contentOf(part)] };
    default:
      return { type: part.type };
  }
}

function reasoningOf(part: Part, id: unknown): Fields {
  const summary = [{ type: "summary_text", text: part.text }];
  const encrypted = ownOf(part, "reasoningEncryptedContent");
  if (typeof encrypted === "string" && encrypted) {
    return { type: "reasoning", summary, encrypted_content: encrypted };
  }
  if (typeof id !== "string")
    return { type: "reasoning", content: [{ type: "reasoning_text", text: part.text }] };
  const tokens = reasoned(id);
  // The provider keeps it. Of what was seen being made here its length is known, and a byte bounds a token.
  return { type: "reasoning", summary, ...(tokens ? { encrypted_content: ".".repeat(tokens) } : {}) };
}

function ownOf(part: Part, name: string): unknown {
  for (const own of Object.values(fieldsOf(part.providerOptions))) {
    const found = fieldsOf(own)[name];
    if (found !== undefined && found !== null) return found;
  }
  return undefined;
}
