/** A prompt as the body of Gemini's generateContent. */

import { outputOf } from "./chat.js";
import { given } from "./files.js";
import { isProviders, kindOf } from "./responses.js";
import { type Fields, fieldsOf, type LanguageOptions, listOf, type Part } from "./spec.js";

/** Returns what bounds a call of generateContent. */
export function contentsBody(options: LanguageOptions): Fields {
  const system: Fields[] = [];
  const contents: Fields[] = [];
  for (const one of options.prompt) {
    const message = fieldsOf(one);
    const parts =
      typeof message.content === "string"
        ? [{ text: message.content } as Fields]
        : listOf(message.content).flatMap(partsOf);
    if (message.role === "system") system.push(...parts);
    else contents.push({ role: message.role === "assistant" ? "model" : "user", parts });
  }
  const body: Fields = { contents };
  if (system.length > 0) body.system_instruction = { parts: system };
  const tools = listOf(options.tools);
  const functions = tools.filter((tool) => !isProviders(tool));
  const made: Fields[] = tools.filter(isProviders).map((tool) => ({ [kindOf(tool)]: fieldsOf(tool.args) }));
  if (functions.length > 0) {
    made.push({
      function_declarations: functions.map((tool) => ({
        name: tool.name,
        description: tool.description,
        parameters: tool.inputSchema,
      })),
    });
  }
  if (made.length > 0) body.tools = made;
  const format = fieldsOf(options.responseFormat);
  if (format.type === "json" && format.schema !== undefined) {
    body.generationConfig = { responseSchema: format.schema };
  }
  return body;
}

function partsOf(part: Part): Fields[] {
  const signature = Object.values(fieldsOf(part.providerOptions))
    .map((own) => fieldsOf(own).thoughtSignature)
    .find((one) => typeof one === "string");
  const signed = signature === undefined ? {} : { thought_signature: signature };
  switch (part.type) {
    case "text":
    case "reasoning":
      return [{ text: part.text, ...signed }];
    case "file":
    case "reasoning-file":
    case "file-data":
    case "image-data":
      return [{ ...fileOf(part.data, part.mediaType), ...signed }];
    case "file-url":
    case "image-url":
      return [
        {
          file_data: {
            mime_type: part.type === "image-url" ? "image/*" : part.mediaType,
            file_uri: part.url,
          },
        },
      ];
    case "tool-call":
      return [{ function_call: { name: part.toolName, args: part.input }, ...signed }];
    case "tool-result": {
      const output = fieldsOf(part.output);
      const named = { name: part.toolName, id: part.toolCallId };
      if (output.type !== "content")
        return [{ function_response: { ...named, response: outputOf(part) }, ...signed }];
      return [{ function_response: named }, ...listOf(output.value).flatMap(partsOf)];
    }
    case "tool-approval-response":
    case "tool-approval-request":
      return [{ text: JSON.stringify(part) }];
    default:
      return [{}];
  }
}

function fileOf(data: unknown, mediaType: unknown): Fields {
  const file = given(data, mediaType);
  if (file.text !== undefined) return { text: file.text };
  if (file.base64 !== undefined) return { inline_data: { mime_type: file.mediaType, data: file.base64 } };
  return { file_data: { mime_type: file.mediaType, file_uri: file.url } };
}
