import { afterEach, describe, expect, it, vi } from "vitest";
import { Noburn } from "../src/client.js";
import {
  AuthenticationError,
  BudgetExceededError,
  InvalidRequestError,
  UnavailableError,
} from "../src/errors.js";
import { currentRun } from "../src/runs.js";
import { MemoryPlane } from "../src/testing/index.js";

function clientOf(plane: MemoryPlane): Noburn {
  const options = { apiKey: "nb_test_1", baseUrl: "http://noburn.invalid/", fetch: plane.fetch };
  return new Noburn({ ...options, maxRetries: 0 });
}

const ASKED = { model: "m", inputTokens: 100, maxOutputTokens: 50, customer: "acme" };

afterEach(() => vi.unstubAllEnvs());

describe("a client's settings", () => {
  it("come from the environment", () => {
    vi.stubEnv("NOBURN_API_KEY", " nb_test_env ");
    vi.stubEnv("NOBURN_BASE_URL", "https://noburn.example/");
    expect(new Noburn().baseUrl).toBe("https://noburn.example");
  });

  it("are refused without a key, and with every bad value named", () => {
    vi.stubEnv("NOBURN_API_KEY", "");
    expect(() => new Noburn()).toThrow(AuthenticationError);
    const bad = { apiKey: "clé", baseUrl: "ftp://x", timeoutMs: 0, waitMs: 20_000, maxRetries: -1 };
    expect(() => new Noburn(bad)).toThrow(/apiKey.*baseUrl.*waitMs.*maxRetries.*timeoutMs|timeoutMs/);
    expect(() => new Noburn(bad)).toThrow(InvalidRequestError);
  });
});

describe("a call under a hold", () => {
  it("is settled by what it used", async () => {
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "1");
    const result = await clientOf(plane).call(ASKED, async (call) => {
      expect(call.maxOutputTokens).toBe(50);
      await call.settle({ usage: { prompt_tokens: 90, completion_tokens: 10 }, model: "m-2024" });
      return "answer";
    });
    expect(result).toBe("answer");
    expect(plane.settlements).toMatchObject([{ state: "settled", costUsd: "0.00011", outcome: "ok" }]);
    expect(plane.requests.at(-1)?.body).toContain('"model":"m-2024"');
  });

  it("is presumed spent without a settle, and after a foreign error, which is thrown on", async () => {
    const warn = vi.spyOn(console, "warn").mockReturnValue();
    const plane = new MemoryPlane();
    await clientOf(plane).call(ASKED, () => undefined);
    const boom = new Error("boom");
    await expect(clientOf(plane).call(ASKED, () => Promise.reject(boom))).rejects.toBe(boom);
    expect(plane.settlements.map((one) => [one.state, one.outcome])).toEqual([
      ["presumed", "ok"],
      ["presumed", "cut"],
    ]);
    expect(warn).toHaveBeenCalledOnce();
  });

  it("is voided after a failure that the provider does not bill", async () => {
    class APIError extends Error {
      readonly status = 429;
    }
    const plane = new MemoryPlane();
    await expect(clientOf(plane).call(ASKED, () => Promise.reject(new APIError()))).rejects.toThrow();
    expect(plane.settlements.map((one) => one.state)).toEqual(["voided"]);
  });

  it("is not made where it was refused, which says why", async () => {
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "0.0001");
    const made = vi.fn();
    const error = await clientOf(plane)
      .call(ASKED, made)
      .catch((found: unknown) => found);
    expect(made).not.toHaveBeenCalled();
    expect(error).toBeInstanceOf(BudgetExceededError);
    expect(error).toMatchObject({ reason: "budget_exceeded", scope: "customer", limitUsd: "0.0001" });
    expect((await clientOf(plane).decide(ASKED)).decision).toBe("deny");
  });

  it("is not made while noburn does not answer", async () => {
    const plane = new MemoryPlane();
    plane.unavailable = true;
    await expect(clientOf(plane).preflight(ASKED)).rejects.toBeInstanceOf(UnavailableError);
  });

  it("is refused before anything is sent where the question is wrong, with every field named", async () => {
    const plane = new MemoryPlane();
    const bad = { ...ASKED, inputTokens: 1.5, n: 0, tags: { a: 1 as never }, costUsd: 0.5 };
    await expect(clientOf(plane).preflight(bad)).rejects.toThrow(/inputTokens.*n:.*tags.*costUsd/);
    expect(plane.requests).toEqual([]);
  });
});

describe("a run", () => {
  it("caps what happens inside, is told apart, and ends", async () => {
    const plane = new MemoryPlane();
    const client = clientOf(plane);
    const outcome = await client.run({ steps: 1 }, async (run) => {
      expect(currentRun()).toBe(run.id);
      await client.preflight({ ...ASKED, run: run.id });
      await expect(client.preflight({ ...ASKED, run: run.id })).rejects.toMatchObject({
        reason: "run_limit",
      });
      return run;
    });
    expect(currentRun()).toBeUndefined();
    expect(outcome.result?.state).toBe("ended");
    expect(plane.runs.byId.get(outcome.id)?.state).toBe("ended");
  });

  it("is below the run around it, and none starts below one that was stopped", async () => {
    const plane = new MemoryPlane();
    const client = clientOf(plane);
    await client.run({}, async (outer) => {
      await client.run({}, async (inner) => {
        expect(inner.state.parent).toBe(outer.id);
      });
      await outer.stop("enough");
      await expect(client.run({}, () => undefined)).rejects.toMatchObject({ reason: "run_stopped" });
    });
  });

  it("ends with what failed, and throws it on", async () => {
    const plane = new MemoryPlane();
    const boom = new RangeError("boom");
    await expect(clientOf(plane).run({ run: "mine" }, () => Promise.reject(boom))).rejects.toBe(boom);
    expect(plane.runs.byId.get("mine")?.reason).toBe("failed: RangeError");
  });
});
