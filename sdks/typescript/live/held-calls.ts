/** A process that holds calls and settles them when it is told to: run by outbox.test.ts, which kills it. */

import { Gate } from "../src/index.js";
import { nodeOutbox } from "../src/settling/outbox-node.js";
import { askedFor, PATIENT } from "./calls.js";

const gate = new Gate({ outbox: nodeOutbox(), leases: false, ...PATIENT, maxRetries: 0 });
const count = Number(process.env.CALLS);
const calls = Array.from({ length: count }, () => gate.admit(askedFor(process.env.CUSTOMER ?? "")));
const held = await Promise.all(calls);
console.log("held");
await new Promise((resolve) => process.stdin.once("data", resolve));
const answer = { model: "gpt-4o-mini", usage: { prompt_tokens: 10, completion_tokens: 20 } };
for (const call of held) call.settle(answer);
console.log("settled");
