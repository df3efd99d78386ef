import { describe, expect, it } from "vitest";
import { BudgetExceededError, Gate, toNano, toUsd } from "../src/index.js";
import { askedFor, PATIENT } from "./calls.js";
import { API_KEY, BASE_URL, counter, customer, ledger, limit, verify } from "./control.js";

const REFUSALS_MAX = 3;
const ANSWER = { model: "gpt-4o-mini", usage: { prompt_tokens: 10, completion_tokens: 200 } };

function gateOf(): Gate {
  const options = { apiKey: API_KEY, baseUrl: BASE_URL, leases: true, busyTimeoutMs: 60_000, ...PATIENT };
  return new Gate(options);
}

/** Calls one after another until refused so often; how many were allowed, and how many of them by a lease. */
async function spend(gate: Gate, name: string): Promise<{ calls: number; drawn: number }> {
  let [calls, drawn, refused] = [0, 0, 0];
  while (refused < REFUSALS_MAX) {
    try {
      const held = await gate.admit(askedFor(name));
      calls += 1;
      if (held.allowed?.authorization === "leased") drawn += 1;
      held.settle(ANSWER);
    } catch (error) {
      if (!(error instanceof BudgetExceededError)) throw error;
      refused += 1;
    }
  }
  return { calls, drawn };
}

describe("two holders of leases on one budget", () => {
  it("use it up and never exceed it, with most calls decided here", async () => {
    const usd = "0.03";
    const acme = await customer(usd);
    const gates = [gateOf(), gateOf()];
    const told = await Promise.all(
      gates.flatMap((gate) => Array.from({ length: 4 }, () => spend(gate, acme))),
    );
    expect(await Promise.all(gates.map((gate) => gate.close(60_000)))).toEqual([true, true]);
    const calls = told.reduce((sum, one) => sum + one.calls, 0);
    const drawn = told.reduce((sum, one) => sum + one.drawn, 0);
    const entries = await ledger(acme);
    const spent = entries.reduce((sum, entry) => sum + toNano(entry.cost_usd), 0n);
    const { spent: counted } = await counter(acme);
    expect(entries.length).toBe(calls);
    expect(BigInt(counted)).toBe(spent);
    expect(spent).toBeLessThanOrEqual(toNano(usd));
    expect(spent * 10n).toBeGreaterThanOrEqual(toNano(usd) * 9n);
    expect(drawn).toBeGreaterThan(0);
    expect(gates.every((gate) => gate.leases?.open.length === 0 && gate.leases.closedUnheard === 0)).toBe(
      true,
    );
    expect((await verify()).differences).toEqual([]);
    console.log(`${calls} calls, ${drawn} of them drawn, used $${toUsd(spent)} of $${usd}`);
  });

  it("hear of a cut to zero", async () => {
    const acme = await customer("100");
    const gate = gateOf();
    const isLeased = async () => {
      const held = await gate.admit(askedFor(acme));
      held.settle(ANSWER);
      return held.allowed?.authorization === "leased";
    };
    await expect.poll(isLeased, { timeout: 60_000, interval: 20 }).toBe(true);
    await limit(acme, "0");
    const refused = () =>
      isLeased().then(
        () => false,
        (error) => error instanceof BudgetExceededError,
      );
    await expect.poll(refused, { timeout: 60_000, interval: 50 }).toBe(true);
    expect(await gate.close(60_000)).toBe(true);
    expect((await verify()).differences).toEqual([]);
  });
});
