// Runs the built package in DIST within an edge runtime, which has what the web has and nothing of Node.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [dist, sdk] = process.argv.slice(2);
const { EdgeVM } = createRequire(join(sdk, "package.json"))("@edge-runtime/vm");
const edge = new EdgeVM();
const loaded = new Map();

function load(name) {
  if (!/^\.\/[\w.-]+\.cjs$/.test(name)) throw new Error(`the edge has no ${name}`);
  const module = loaded.get(name) ?? { exports: {} };
  if (loaded.has(name)) return module.exports;
  loaded.set(name, module);
  const wrapped = edge.evaluate(
    `(function (module, exports, require) {${readFileSync(join(dist, name), "utf8")}\n})`,
  );
  wrapped(module, module.exports, load);
  return module.exports;
}

async function told() {
  edge.context.noburn = {
    core: load("./index.cjs"),
    testing: load("./testing.cjs"),
    bounds: load("./estimate.cjs"),
  };
  return edge.evaluate(`(async () => {
    const { core, testing, bounds } = noburn;
    const plane = new testing.MemoryPlane();
    plane.budget("customer", "acme", "0.0003");
    const body = { model: "gpt-4o-mini", max_tokens: 50, messages: [{ role: "user", content: "Write a haiku." }] };
    const found = bounds.estimate(body, { api: "openai.chat" });
    const answer = { model: "gpt-4o-mini", usage: { prompt_tokens: 9, completion_tokens: 10 } };
    const client = new core.Noburn({ apiKey: "nb_test", baseUrl: "http://noburn.invalid", fetch: plane.fetch });
    await client.call({ ...found.options(), customer: "acme" }, (call) => call.settle(answer));
    const byHand = plane.settlements.length;
    const gate = testing.memoryGate(plane);
    const endpoint = { name: "test.call", operation: "chat", api: "openai.chat", read: () => null };
    const asked = (more) => ({ endpoint, model: body.model, body, stream: false, said: { customer: "acme" }, ...more });
    const held = await gate.admit(asked());
    held.finish({ inputTokens: 9, outputTokens: 10 });
    await gate.flush();
    const refused = await gate
      .admit(asked({ body: { ...body, max_tokens: 1_000_000 } }))
      .then(() => "admitted", (error) => (core.isBudgetExceeded(error) ? "exceeded" : String(error)));
    const closed = await gate.close();
    return {
      runtime: typeof EdgeRuntime,
      node: typeof process === "undefined" ? "none" : typeof process.versions?.node,
      require: typeof require,
      inputTokens: found.inputTokens,
      byHand,
      settled: plane.settlements.map((one) => one.state),
      refused,
      closed,
    };
  })()`);
}

console.log(JSON.stringify(await told()));
