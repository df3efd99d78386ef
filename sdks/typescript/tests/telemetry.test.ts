import { afterEach, describe, expect, it } from "vitest";
import { MemoryPlane, memoryGate } from "../src/testing/index.js";
import { ANSWER, asked } from "./support.js";

const API = Symbol.for("opentelemetry.js.api.1");
const around = globalThis as { [API]?: unknown };

afterEach(() => {
  delete around[API];
});

/** What OpenTelemetry registers, noting what it is told. */
function registered() {
  const spans: { name: string; attributes: Record<string, unknown>; failed: boolean; ended: number }[] = [];
  const told: [string, number, Record<string, unknown>][] = [];
  const instrument = (name: string) => ({
    record: (value: number, attributes: Record<string, unknown>) => told.push([name, value, attributes]),
    add: (value: number, attributes: Record<string, unknown>) => told.push([name, value, attributes]),
  });
  const startSpan = (name: string, options: { attributes: Record<string, unknown> }) => {
    const span = { name, attributes: { ...options.attributes }, failed: false, ended: 0 };
    spans.push(span);
    return {
      setAttributes: (more: Record<string, unknown>) => Object.assign(span.attributes, more),
      setStatus: () => {
        span.failed = true;
      },
      end: () => {
        span.ended += 1;
      },
    };
  };
  around[API] = {
    trace: { getTracer: () => ({ startSpan }) },
    metrics: { getMeter: () => ({ createHistogram: instrument, createCounter: instrument }) },
  };
  return { spans, told };
}

describe("telemetry", () => {
  it("has a span and numbers for a call, and its cost once it is settled", async () => {
    const { spans, told } = registered();
    const gate = memoryGate(new MemoryPlane());
    (await gate.admit(asked({ provider: "openai" }))).settle(ANSWER);
    await gate.close();
    expect(spans).toMatchObject([
      {
        name: "chat m",
        failed: false,
        ended: 1,
        attributes: {
          "gen_ai.provider.name": "openai",
          "gen_ai.usage.output_tokens": 10,
          "gen_ai.response.model": "m-2024",
          "noburn.decision": "allow",
          "noburn.outcome": "ok",
        },
      },
    ]);
    const names = told.map(([name]) => name);
    expect(names).toContain("noburn.decisions");
    expect(names).toContain("gen_ai.client.operation.duration");
    expect(told.find(([name]) => name === "noburn.cost")?.[1]).toBeCloseTo(0.00011);
  });

  it("ends the span of a call that was refused, once, as failed", async () => {
    const { spans } = registered();
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "0.0001");
    const gate = memoryGate(plane);
    await expect(gate.admit(asked())).rejects.toThrow();
    await gate.close();
    expect(spans).toMatchObject([
      {
        failed: true,
        ended: 1,
        attributes: { "noburn.reason": "budget_exceeded", "error.type": "BudgetExceededError" },
      },
    ]);
  });

  it("is nothing where a program has not set it up", async () => {
    const gate = memoryGate(new MemoryPlane());
    (await gate.admit(asked())).settle(ANSWER);
    expect(await gate.close()).toBe(true);
  });
});
