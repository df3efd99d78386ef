import { afterEach, describe, expect, it, vi } from "vitest";
import { context } from "../src/attribution.js";
import { configure, defaultGate, flush, release } from "../src/default.js";
import { BudgetExceededError, InvalidRequestError, UnavailableError, UnboundedError } from "../src/errors.js";
import { Allowance } from "../src/gate/allowance.js";
import { Breaker } from "../src/gate/breaker.js";
import { Fingerprints } from "../src/gate/fingerprints.js";
import { Gate } from "../src/gate/gate.js";
import type { Meter } from "../src/gate/meters.js";
import { watching } from "../src/gate/watch.js";
import { MemoryPlane, memoryGate, useMemoryPlane } from "../src/testing/index.js";
import { ANSWER, asked, ENDPOINT, gatekeeper } from "./support.js";

const NOW = { maxRetries: 0, busyTimeoutMs: 0, waitMs: 0 };

afterEach(() => release());

describe("an admitted call", () => {
  it("is held, settled once and told exactly", async () => {
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "1");
    const gate = memoryGate(plane);
    const held = await gate.admit(asked());
    expect(held.open).toBe(true);
    expect(plane.held).toBe(1);
    held.settle(ANSWER);
    held.settle(ANSWER);
    held.void();
    expect(held.open).toBe(false);
    expect(await gate.close()).toBe(true);
    expect(plane.settlements).toMatchObject([{ state: "settled", costUsd: "0.00011" }]);
    expect(plane.spentUsd("customer", "acme")).toBe("0.00011");
  });

  it("carries whom it is for: what is nearest wins", async () => {
    const plane = new MemoryPlane();
    const gate = memoryGate(plane, { defaults: { customer: "default", project: "web", tags: { a: "0" } } });
    await context({ customer: "around", user: "u1", tags: { b: "1" } }, () =>
      gate.admit(asked({ said: { customer: "near" }, framework: { user: "framework", run: "thread" } })),
    );
    const [decision] = plane.decisions;
    expect(decision?.subject).toEqual({ customer: "near", user: "u1", run: "thread", project: "web" });
    expect(decision?.tags).toEqual({ a: "0", b: "1" });
    await gate.close();
  });

  it("ends as what happened to it: billed, cut, or never made", async () => {
    vi.spyOn(console, "warn").mockReturnValue();
    const plane = new MemoryPlane();
    const gate = memoryGate(plane);
    const ends = [
      (await gate.admit(asked())).failed(new TypeError("fetch failed", { cause: { code: "ECONNREFUSED" } })),
      (await gate.admit(asked())).failed(new TypeError("fetch failed", { cause: { code: "ECONNRESET" } })),
      (await gate.admit(asked())).settle({ id: "an answer without usage" }),
      (await gate.admit(asked())).finish({ inputTokens: 1 }, { outcome: "error", model: "other" }),
    ];
    expect(ends).toHaveLength(4);
    await gate.close();
    // Batches end in any order: each hold is looked up by itself.
    const became = plane.decisions.map((asked) =>
      plane.settlements.filter((one) => one.holdId === asked.holdId).map((one) => [one.state, one.outcome]),
    );
    expect(became).toEqual([
      [["voided", "ok"]],
      [["presumed", "cut"]],
      [["presumed", "ok"]],
      [["settled", "error"]],
    ]);
  });

  it("ends by what a meter saw", async () => {
    const plane = new MemoryPlane();
    const gate = memoryGate(plane);
    const meter = (more: Partial<Meter>): Meter => ({
      feed: () => undefined,
      usage: () => ({ inputTokens: 90, outputTokens: 20 }),
      seen: () => ({ inputTokens: 90, outputTokens: 5 }),
      finished: false,
      failed: false,
      outputTokens: 5,
      ...more,
    });
    (await gate.admit(asked())).meterEnded(meter({ finished: true }));
    (await gate.admit(asked())).meterCut(meter({}));
    (await gate.admit(asked())).meterCut(meter({ failed: true, seen: () => Promise.reject as never }));
    const broken = () => {
      throw new Error("cannot count");
    };
    const error = vi.spyOn(console, "error").mockReturnValue();
    vi.spyOn(console, "warn").mockReturnValue();
    (await gate.admit(asked())).meterCut(meter({ seen: broken }));
    await gate.close();
    expect(plane.settlements.map((one) => [one.costUsd, one.outcome]).slice(0, 2)).toEqual([
      ["0.00013", "ok"],
      ["0.0001", "cut"],
    ]);
    expect(plane.settlements.at(-1)).toMatchObject({ state: "presumed", outcome: "cut" });
    expect(error).toHaveBeenCalled();
  });
});

describe("a refusal", () => {
  it("is thrown, says why, and holds nothing", async () => {
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "0.0001");
    const gate = memoryGate(plane);
    await expect(gate.admit(asked())).rejects.toBeInstanceOf(BudgetExceededError);
    expect(plane.held).toBe(0);
    await gate.close();
  });

  it("is noted by whoever watches, until a later call is allowed", async () => {
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "0.0001");
    const gate = memoryGate(plane);
    const seen = await watching(async (watch) => {
      await gate.admit(asked()).catch(() => undefined);
      const first = watch.refusal;
      await gate.admit(asked({ said: { customer: "other" } }));
      return [first, watch.refusal];
    });
    expect(seen[0]).toBeInstanceOf(BudgetExceededError);
    expect(seen[1]).toBeUndefined();
    await gate.close();
  });

  it("stands in the way of a call that nobody can bound, and names the way out", async () => {
    const plane = new MemoryPlane();
    const gate = memoryGate(plane);
    const unbounded = { ...ENDPOINT, bound: () => null, why: "it draws pictures" };
    await expect(gate.admit(asked({ endpoint: unbounded }))).rejects.toThrow(UnboundedError);
    const said = { customer: "acme", costUsd: "0.25" };
    await gate.admit(asked({ endpoint: unbounded, said }));
    expect(plane.decisions.map((one) => one.amountUsd)).toEqual(["0.25"]);
    await gate.close();
  });

  it("is only told in mode observe, which changes no call", async () => {
    const warn = vi.spyOn(console, "warn").mockReturnValue();
    const plane = new MemoryPlane();
    plane.budget("customer", "acme", "0.0001");
    const gate = memoryGate(plane, { mode: "observe" });
    const told = vi.fn();
    gate.observed = told;
    const question = asked();
    const held = await gate.admit(question);
    expect(held.denied?.reason).toBe("budget_exceeded");
    expect(held.body).toBe(question.body);
    expect(told).toHaveBeenCalledOnce();
    plane.unavailable = true;
    expect((await gate.admit(asked())).allowed).toBeUndefined();
    const unbounded = { ...ENDPOINT, bound: () => null };
    plane.unavailable = false;
    expect((await gate.admit(asked({ endpoint: unbounded }))).allowed).toBeUndefined();
    expect(warn).toHaveBeenCalled();
    await gate.close();
  });
});

describe("an outage", () => {
  it("refuses calls, and soon without asking", async () => {
    const plane = new MemoryPlane();
    plane.unavailable = true;
    let sent = 0;
    const fetch: typeof globalThis.fetch = (...given) => {
      sent += 1;
      return plane.fetch(...given);
    };
    const gate = new Gate({ apiKey: "nb_1", baseUrl: "http://x", fetch, leases: false, ...NOW });
    for (let call = 0; call < 20; call += 1) {
      await expect(gate.admit(asked())).rejects.toBeInstanceOf(UnavailableError);
    }
    expect(sent).toBe(5);
    expect(gate.breaker.isOpen).toBe(true);
    await gate.close(0);
  });

  it("leaves no hold behind of which no answer came", async () => {
    const plane = new MemoryPlane();
    let lose = true;
    const fetch: typeof globalThis.fetch = async (...given) => {
      const answer = await plane.fetch(...given);
      if (lose) throw new TypeError("fetch failed", { cause: { code: "ECONNRESET" } });
      return answer;
    };
    const gate = new Gate({ apiKey: "nb_1", baseUrl: "http://x", fetch, leases: false, ...NOW });
    await expect(gate.admit(asked())).rejects.toBeInstanceOf(UnavailableError);
    expect(plane.held).toBe(1);
    lose = false;
    expect(await gate.flush(30_000)).toBe(true);
    expect(plane.held).toBe(0);
    expect(plane.settlements.map((one) => one.state)).toEqual(["voided"]);
    await gate.close();
  });

  it("asks about nothing that was never asked", async () => {
    const plane = new MemoryPlane();
    plane.unavailable = true;
    const gate = memoryGate(plane, NOW);
    await expect(gate.admit(asked())).rejects.toBeInstanceOf(UnavailableError);
    expect(gate.settler.waiting).toBe(0);
    await gate.close();
  });
});

describe("a caller that gives up", () => {
  it("is let go at once, and the hold that comes later is freed", async () => {
    const plane = new MemoryPlane();
    const { opened, open } = gatekeeper();
    const fetch: typeof globalThis.fetch = async (input, init) => {
      if (String(input).endsWith("/v1/preflight")) await opened;
      return plane.fetch(input, init);
    };
    const gate = new Gate({ apiKey: "nb_1", baseUrl: "http://x", fetch, leases: false, timeoutMs: 60_000 });
    const controller = new AbortController();
    const admitting = gate.admit(asked({ signal: controller.signal }));
    controller.abort(new Error("the user went away"));
    await expect(admitting).rejects.toThrow("the user went away");
    open();
    await vi.waitFor(() => expect(plane.decisions).toHaveLength(1));
    await vi.waitFor(() => expect(plane.settlements.map((one) => one.state)).toEqual(["voided"]));
    await expect(gate.admit(asked({ signal: controller.signal }))).rejects.toThrow("went away");
    expect(plane.decisions).toHaveLength(1);
    await gate.close();
  });
});

describe("many calls at once", () => {
  it("pass exactly as many as are affordable", async () => {
    const plane = new MemoryPlane();
    // Each holds 0.0002: five are affordable while none is settled.
    plane.budget("customer", "acme", "0.001");
    const gate = memoryGate(plane, { waitMs: 0 });
    const found = await Promise.allSettled(Array.from({ length: 200 }, () => gate.admit(asked())));
    const passed = found.filter((one) => one.status === "fulfilled");
    expect(passed).toHaveLength(5);
    for (const one of passed) one.value.settle(ANSWER);
    await gate.close();
  });
});

describe("the process's gate", () => {
  it("is made of the environment, kept, and made anew by configure", async () => {
    vi.stubEnv("NOBURN_API_KEY", "nb_test_env");
    const first = defaultGate();
    expect(defaultGate()).toBe(first);
    const second = configure({ apiKey: "nb_2", customer: "acme", mode: "observe" });
    expect(defaultGate()).toBe(second);
    expect(second.defaults).toEqual({ customer: "acme" });
    expect(() => configure({ gate: second, customer: "acme" })).toThrow(InvalidRequestError);
    vi.unstubAllEnvs();
  });

  it("is flushed by name, also where there is none", async () => {
    expect(await flush()).toBe(true);
    const plane = await useMemoryPlane();
    (await defaultGate().admit(asked())).settle(ANSWER);
    expect(await flush()).toBe(true);
    expect(plane.settlements).toHaveLength(1);
  });

  it("refuses settings that are wrong, naming all of them", () => {
    const bad = { mode: "off" as never, timeoutMs: 0, waitMs: -1, onUnavailable: "allow" as const };
    expect(() => new Gate({ apiKey: "nb_1", ...bad })).toThrow(/mode.*allowUsdMax.*waitMs.*timeoutMs/);
  });
});

describe("its parts", () => {
  it("a breaker opens after failures in a row and tries one call at a time", () => {
    let now = 0;
    const breaker = new Breaker(() => now);
    for (let failure = 0; failure < 5; failure += 1) {
      expect(breaker.admits()).toBe(true);
      breaker.failed();
    }
    expect(breaker.admits()).toBe(false);
    now = 1_000;
    expect([breaker.admits(), breaker.admits()]).toEqual([true, false]);
    breaker.failed();
    now = 2_999;
    expect(breaker.admits()).toBe(false);
    now = 3_000;
    expect(breaker.admits()).toBe(true);
    breaker.answered();
    expect([breaker.isOpen, breaker.admits()]).toEqual([false, true]);
  });

  it("an allowance is of one day, and takes back no more than was taken", () => {
    let day = "2026-11-30";
    const allowance = new Allowance(100n, () => day);
    expect([allowance.take(60n), allowance.take(60n), allowance.take(40n)]).toEqual([true, false, true]);
    allowance.giveBack(30n, day);
    expect(allowance.usedNano).toBe(70n);
    day = "2026-12-01";
    expect(allowance.take(100n)).toBe(true);
    allowance.giveBack(50n, "2026-11-30");
    expect(allowance.usedNano).toBe(100n);
  });

  it("a fingerprint is one for equal requests under one key", async () => {
    const mine = new Fingerprints("nb_1");
    const body = { messages: [{ role: "user", content: "hi" }], n: 1 };
    const turned = { n: 1, messages: [{ content: "hi", role: "user" }] };
    expect(await mine.of("m", body)).toMatch(/^[0-9a-f]{32}$/);
    expect(await mine.of("m", turned)).toBe(await new Fingerprints("nb_1").of("m", body));
    expect(await mine.of("m2", body)).not.toBe(await mine.of("m", body));
    expect(await new Fingerprints("nb_2").of("m", body)).not.toBe(await mine.of("m", body));
    expect(await mine.of("m", body, 5_000_000)).toBeUndefined();
  });
});
