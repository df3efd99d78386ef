// What is exported here has the types of Anthropic's own classes, namespaces and all: see classes.d.ts.
import * as anthropic from "@anthropic-ai/sdk";
import { gated } from "./wrap";

export const Anthropic = gated(anthropic.Anthropic);
export default Anthropic;
