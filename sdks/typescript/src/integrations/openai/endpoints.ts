/** OpenAI's endpoints: which cost something, what bounds them, and how their answers tell what was used. */

import { InvalidRequestError } from "../../errors.js";
import type { Endpoint } from "../../gate/endpoints.js";
import type { JsonObject } from "../../results.js";
import {
  checkUsage,
  fromEmbeddings,
  fromOpenaiChat,
  fromOpenaiResponses,
  read,
  type Usage,
} from "../../usage.js";
import { ChatMeter, ResponsesMeter } from "./meters.js";

function counted(used: unknown): number {
  const found = read(used, "input_tokens");
  if (typeof found !== "number") {
    throw new InvalidRequestError("The answer carries no usage", { errors: { usage: "is missing" } });
  }
  return found;
}

function whole(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

/** Reads an answer with images, whose tokens are counted apart from those of text. */
function readImage(value: unknown): Usage {
  const used = read(value, "usage");
  const inputTokens = counted(used);
  const units: Record<string, number> = {};
  for (const way of ["input", "output"]) {
    const count = whole(read(read(used, `${way}_tokens_details`), "image_tokens"));
    if (count > 0) units[`${way}_image_tokens`] = count;
  }
  return checkUsage({ inputTokens, outputTokens: whole(read(used, "output_tokens")), units });
}

/** Reads a transcription, which is billed by tokens or by seconds. */
function readTranscription(value: unknown): Usage {
  const used = read(value, "usage");
  const seconds = read(used, "seconds");
  if (typeof seconds === "number") return checkUsage({ units: { audio_seconds: Math.ceil(seconds) } });
  return checkUsage({
    inputTokens: counted(used),
    outputTokens: whole(read(used, "output_tokens")),
    audioInputTokens: whole(read(read(used, "input_token_details"), "audio_tokens")),
  });
}

export const CHAT: Endpoint = {
  name: "openai.chat",
  operation: "chat",
  api: "openai.chat",
  read: fromOpenaiChat,
  meter: (model, live) => new ChatMeter(model, live),
};
export const COMPLETIONS: Endpoint = {
  ...CHAT,
  name: "openai.completions",
  operation: "text_completion",
  api: "openai.completions",
};
export const RESPONSES: Endpoint = {
  name: "openai.responses",
  operation: "chat",
  api: "openai.responses",
  read: fromOpenaiResponses,
  meter: (model, live) => new ResponsesMeter(model, live),
};
export const EMBEDDINGS: Endpoint = {
  name: "openai.embeddings",
  operation: "embeddings",
  api: "openai.embeddings",
  read: fromEmbeddings,
};
export const IMAGES: Endpoint = {
  name: "openai.images",
  operation: "generate_content",
  api: null,
  read: readImage,
  why: "what an image costs depends on its size and quality, and on the model",
};
export const TRANSCRIPTIONS: Endpoint = {
  name: "openai.transcriptions",
  operation: "generate_content",
  api: null,
  read: readTranscription,
  why: "what hearing costs depends on how long the audio is",
};
export const SPEECH: Endpoint = {
  name: "openai.speech",
  operation: "generate_content",
  api: null,
  why: "what speaking costs depends on how long the audio becomes, and the answer never says",
};
export const BATCHES: Endpoint = {
  name: "openai.batches",
  operation: "chat",
  api: null,
  why:
    "what a batch costs stands in its uploaded file, and each line of it is a call of its own; gate the lines before you " +
    "upload them (@noburn/sdk/estimate, batch: true), or bound the batch as a whole",
};
export const REALTIME: Endpoint = {
  name: "openai.realtime",
  operation: "chat",
  api: null,
  why: "a session is made of calls over a socket, which pass no gate",
};
export const OTHER: Endpoint = {
  name: "openai.other",
  operation: "chat",
  api: null,
  why: "it is no endpoint whose cost noburn knows",
};

const GATED: readonly (readonly [RegExp, Endpoint])[] = [
  [/\/chat\/completions$/, CHAT],
  [/\/responses(?:\/compact)?$/, RESPONSES],
  [/\/embeddings$/, EMBEDDINGS],
  [/\/completions$/, COMPLETIONS],
  [/\/images\/(?:generations|edits|variations)$/, IMAGES],
  [/\/audio\/(?:transcriptions|translations)$/, TRANSCRIPTIONS],
  [/\/audio\/speech$/, SPEECH],
  [/\/batches$/, BATCHES],
  [/\/(?:realtime|live)(?:\/.*)?$/, REALTIME],
];

/** What is not billed as a call. Any other POST is, as far as is known here. */
const FREE = new RegExp(
  "/(?:files|uploads(?:/.*)?|vector_stores(?:/.*)?|moderations|models(?:/.*)?|conversations(?:/.*)?" +
    "|responses/input_tokens|chat/completions/[^/]+|(?:responses|batches|evals/[^/]+/runs)/[^/]+/cancel" +
    "|fine_tuning/(?:jobs/[^/]+/(?:cancel|pause|resume)|checkpoints/.*|alpha/graders/validate)" +
    "|organization/.*|projects/.*|webhooks(?:/.*)?|assistants(?:/[^/]+)?|threads(?:/[^/]+)?" +
    "|threads/[^/]+/messages(?:/[^/]+)?|threads/[^/]+/runs/[^/]+(?:/cancel)?|skills(?:/.*)?)$",
);

/** Returns what a POST to this path is; null where it is not billed. */
export function endpointOf(path: string): Endpoint | null {
  for (const [pattern, endpoint] of GATED) if (pattern.test(path)) return endpoint;
  return FREE.test(path) ? null : OTHER;
}

/** Returns the body of a streamed chat that tells its usage; the same one where it does already, or is none. */
export function withUsage(endpoint: Endpoint, body: JsonObject): JsonObject {
  const chats = endpoint.api === "openai.chat" || endpoint.api === "openai.completions";
  if (!chats || body.stream !== true) return body;
  const given = body.stream_options;
  const options = typeof given === "object" && given !== null && !Array.isArray(given) ? given : {};
  if ((options as JsonObject).include_usage) return body;
  return { ...body, stream_options: { ...options, include_usage: true } };
}
