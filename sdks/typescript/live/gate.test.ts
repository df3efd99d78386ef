import { beforeEach, describe, expect, it } from "vitest";
import { BudgetExceededError, Gate, type GateOptions, Noburn, toNano } from "../src/index.js";
import { askedFor, callOpenai, PATIENT } from "./calls.js";
import { API_KEY, BASE_URL, customer, double, gateway, ledger, remaining, verify } from "./control.js";

beforeEach(() => double.reset());

function gateOf(options: GateOptions = {}): Gate {
  return new Gate({ apiKey: API_KEY, baseUrl: BASE_URL, leases: false, ...PATIENT, ...options });
}

describe("the client by hand", () => {
  it("holds a call, settles it by what the provider said, and shows what is left", async () => {
    const acme = await customer("1");
    const client = new Noburn({ apiKey: API_KEY, baseUrl: BASE_URL, timeoutMs: 30_000 });
    const asked = { model: "gpt-4o-mini", inputTokens: 100, maxOutputTokens: 50, customer: acme };
    const settled = await client.call(asked, async (call) => {
      expect((await client.remaining({ customer: acme })).remainingUsd).not.toBe("1");
      const answer = await callOpenai({
        model: call.model,
        messages: [{ role: "user", content: "Write a haiku." }],
        max_completion_tokens: call.maxOutputTokens,
      });
      await call.extend(600);
      return call.settle(answer);
    });
    expect(settled.state).toBe("settled");
    const entries = await ledger(acme);
    expect(entries.map((entry) => entry.cost_usd)).toEqual([settled.costUsd]);
    expect(toNano((await client.remaining({ customer: acme })).remainingUsd ?? "0")).toBe(
      toNano("1") - toNano(settled.costUsd ?? "0"),
    );
  });

  it("is refused with what would fit, and frees what it voids", async () => {
    const acme = await customer("0.0001");
    const client = new Noburn({ apiKey: API_KEY, baseUrl: BASE_URL, timeoutMs: 30_000 });
    const asked = { model: "gpt-4o-mini", inputTokens: 100, maxOutputTokens: 1_000, customer: acme };
    const error = await client.preflight(asked).catch((found: unknown) => found);
    expect(error).toBeInstanceOf(BudgetExceededError);
    const fits = (error as BudgetExceededError).fitsMaxOutputTokens ?? 0;
    expect(fits).toBeGreaterThan(0);
    const allowed = await client.preflight({ ...asked, maxOutputTokens: fits });
    expect((await client.void(allowed)).state).toBe("voided");
    expect((await client.remaining({ customer: acme })).remainingUsd).toBe("0.0001");
  });

  it("runs under caps that hold for everything inside", async () => {
    const acme = await customer("1");
    const client = new Noburn({ apiKey: API_KEY, baseUrl: BASE_URL, timeoutMs: 30_000 });
    const asked = { model: "gpt-4o-mini", inputTokens: 10, maxOutputTokens: 10, customer: acme };
    const ran = await client.run({ steps: 1, customer: acme }, async (run) => {
      const allowed = await client.preflight({ ...asked, run: run.id });
      await client.settle(allowed, { inputTokens: 10, outputTokens: 10 });
      await expect(client.preflight({ ...asked, run: run.id })).rejects.toMatchObject({
        reason: "run_limit",
      });
      return run;
    });
    expect(ran.result?.state).toBe("ended");
    expect(ran.result?.summary?.calls).toBe(1);
  });
});

describe("many calls at once through the gate", () => {
  it("pass as many as are affordable, exactly, and no dollar more is spent", async () => {
    // Each call's hold and cost are 0.000156: input is counted exactly, and the provider uses all of its output.
    const body = askedFor("any").body;
    await double.control({ output_fraction: 1 });
    const probe = await customer("1");
    const gate = gateOf({ waitMs: 2_000, busyTimeoutMs: 60_000 });
    const first = await gate.admit(askedFor(probe));
    const answer = await callOpenai(first.body);
    first.settle(answer);
    expect(await gate.flush(60_000)).toBe(true);
    const cost = toNano((await ledger(probe))[0]?.cost_usd ?? "0");
    const held = toNano(first.allowed?.amountUsd ?? "0");
    expect(held).toBeGreaterThanOrEqual(cost);
    expect(body).toBeDefined();

    const affordable = 20;
    const budget = cost * BigInt(affordable - 1) + held;
    const acme = await customer(`0.${budget.toString().padStart(9, "0")}`);
    await double.reset();
    await double.control({ output_fraction: 1 });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 200 }, async () => {
        const call = await gate.admit(askedFor(acme));
        call.settle(await callOpenai(call.body));
      }),
    );
    expect(await gate.close(60_000)).toBe(true);
    const passed = outcomes.filter((one) => one.status === "fulfilled");
    const refused = outcomes.filter((one) => one.status === "rejected");
    expect(refused.every((one) => one.reason instanceof BudgetExceededError)).toBe(true);
    const calls = await double.ledger();
    const entries = await ledger(acme);
    const spent = entries.reduce((sum, entry) => sum + toNano(entry.cost_usd), 0n);
    expect(passed).toHaveLength(affordable);
    expect(calls).toHaveLength(affordable);
    expect(entries).toHaveLength(affordable);
    expect(spent).toBeLessThanOrEqual(budget);
    expect(toNano(await remaining(acme))).toBe(budget - spent);
    expect((await verify()).differences).toEqual([]);
  });
});

describe("a noburn that goes away and comes back", () => {
  it("loses no settlement of the queue, and lets nothing through meanwhile", async () => {
    const acme = await customer("10");
    const away = await gateway();
    const gate = gateOf({ baseUrl: away.url, maxRetries: 0, retryTimeoutMs: 0 });
    const held = await Promise.all(Array.from({ length: 25 }, () => gate.admit(askedFor(acme))));
    const before = await ledger(acme);
    await away.stop();
    for (const call of held) call.settle(await callOpenai(call.body));
    await expect(gate.admit(askedFor(acme))).rejects.toMatchObject({ name: "UnavailableError" });
    expect(await gate.flush(500)).toBe(false);
    expect(await ledger(acme)).toEqual(before);
    await away.start();
    expect(await gate.close(60_000)).toBe(true);
    const entries = await ledger(acme);
    expect(before).toEqual([]);
    expect(entries).toHaveLength(25);
    expect(entries.every((entry) => entry.kind === "settled")).toBe(true);
    const spent = entries.reduce((sum, entry) => sum + toNano(entry.cost_usd), 0n);
    expect(toNano(await remaining(acme))).toBe(toNano("10") - spent);
    await away.stop();
  });
});
