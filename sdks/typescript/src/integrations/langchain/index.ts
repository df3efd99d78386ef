/**
 * For LangChain JS and LangGraph JS:
 *
 *     import { wrap, readNodes } from "@noburn/sdk/langchain";
 *
 *     readNodes(); // calls inside nodes are for the thread and whom the graph's metadata name
 *     const model = wrap(new ChatOpenAI({ model: "gpt-4o-mini" }), { customer: "acme" });
 */

export { isBudgetExceeded, noburnErrorOf } from "../../errors.js";
export { withRun } from "./graphs.js";
export { type NoburnMiddleware, noburnMiddleware } from "./middleware.js";
export { type WrapOptions, wrap } from "./models.js";
export { forgetNodes, insideNode, readNodes } from "./nodes.js";
export { saidBy } from "./said.js";
