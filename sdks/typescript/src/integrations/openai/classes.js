// What is exported here has the types of OpenAI's own classes, namespaces and all: see classes.d.ts.
import * as openai from "openai";
import { gated } from "./wrap";

export const OpenAI = gated(openai.OpenAI);
export const AzureOpenAI = gated(openai.AzureOpenAI);
export const BedrockOpenAI = gated(openai.BedrockOpenAI);
export default OpenAI;
