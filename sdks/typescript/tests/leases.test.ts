import { afterEach, describe, expect, it, vi } from "vitest";
import { Noburn } from "../src/client.js";
import type { Rates } from "../src/estimate/index.js";
import { Lease } from "../src/leases/lease.js";
import { Leases } from "../src/leases/pool.js";
import { livesLong } from "../src/leases/runtime.js";
import type { JsonObject } from "../src/results.js";
import type { Resolution } from "../src/settling/resolution.js";
import { Settler } from "../src/settling/settler.js";

const RATES: Rates = {
  model: "m",
  // Pico-USD: 1 nano-USD for a token in, 2 for one out.
  units: { input_tokens: [[0, 1_000n]], output_tokens: [[0, 2_000n]] },
  variants: {},
  contextWindow: null,
};
const ASKED = { model: "m", inputTokens: 100, maxOutputTokens: 50, customer: "acme" };

afterEach(() => vi.unstubAllEnvs());

function leaseOf(more: { requests?: number; tokens?: number } = {}): { lease: Lease; put: Resolution[] } {
  const put: Resolution[] = [];
  const terms = { id: "l1", authorization: "a", nonce: "n", nano: 1_000n, until: 60_000, rates: RATES };
  const { tokens, requests } = more;
  const lease = new Lease({ ...terms, tokens, requests, cap: 10, now: 0, put: (item) => put.push(item) });
  return { lease, put };
}

describe("a lease", () => {
  it("is drawn from until what is left does not fit, and takes back what was not used", () => {
    const { lease, put } = leaseOf();
    expect(lease.bound(ASKED, 50)).toBe(200n);
    const draws = Array.from({ length: 5 }, () => lease.draw(200n, 150, 1, ASKED));
    expect(draws.every((draw) => draw !== undefined)).toBe(true);
    expect(lease.draw(1n, 1, 1, ASKED)).toBeUndefined();
    draws[0]?.put({ op: "void", key: "x", body: {} });
    expect(lease.left).toBe(200n);
    draws[1]?.put({
      op: "settle",
      key: "x",
      body: { usage: { input_tokens: 100, output_tokens: 10 }, outcome: "ok" },
    });
    expect(lease.left).toBe(280n);
    expect(put).toHaveLength(1);
    expect(put[0]).toMatchObject({
      op: "draw",
      key: "l1:n:2",
      body: { id: "l1", draw: { seq: 2, bound_usd: "0.000000200", call: { input_tokens: 100 } } },
    });
    // What it really cost was 10 less.
    lease.heard([[2, 110n]], undefined, 2);
    expect(lease.left).toBe(290n);
    expect(lease.standing).toEqual({ told: 1, quiet: false });
  });

  it("presumes all of a draw of which nothing is known", () => {
    const { lease } = leaseOf();
    lease.draw(400n, 1, 1, ASKED)?.put({ op: "settle", key: "x", body: { usage: null } });
    expect(lease.left).toBe(600n);
  });

  it("ends with its time, its recall, its tokens and its requests", () => {
    expect(leaseOf().lease.draw(1n, 1, 60_000, ASKED)).toBeUndefined();
    expect(leaseOf({ tokens: 10 }).lease.draw(1n, 11, 1, ASKED)).toBeUndefined();
    const { lease } = leaseOf({ requests: 1 });
    expect(lease.draw(1n, 1, 1, ASKED)).toBeDefined();
    expect(lease.draw(1n, 1, 1, ASKED)).toBeUndefined();
    const recalled = leaseOf().lease;
    recalled.heard([], "limit changed", 1);
    expect(recalled.draw(1n, 1, 1, ASKED)).toBeUndefined();
  });
});

/** A noburn that gives leases. */
class Lender {
  readonly sent: { readonly path: string; readonly body: JsonObject }[] = [];
  recall: string | null = null;
  guards: string[] = [];

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const path = new URL(String(input)).pathname;
    const body = JSON.parse(String(init?.body)) as JsonObject;
    this.sent.push({ path, body });
    return Response.json(this.#answer(path, body));
  };

  #answer(path: string, body: JsonObject): JsonObject {
    if (path === "/v1/leases") {
      const prices = {
        input_tokens: { usd_per_million_tokens: "0.001" },
        output_tokens: { usd_per_million_tokens: "0.002" },
      };
      return {
        decision: "allow",
        authorization: "nba1.lease",
        guards: this.guards,
        lease: {
          id: `lease_${this.sent.length}`,
          amount_usd: "0.00001",
          draw_seconds: 60,
          tokens: 10_000,
          requests: 100,
        },
        max_output_tokens: 50,
        provider: "p",
        prices: [{ provider: "p", model: "m", variant: "standard", prices }],
      };
    }
    if (path.endsWith("/close")) return { closed: true };
    const draws = Array.isArray(body.draws) ? body.draws : [];
    return { results: draws.map(() => ({ state: "settled", cost_usd: "0.0000001" })), recall: this.recall };
  }

  to(part: string): JsonObject[] {
    return this.sent.filter((one) => one.path.endsWith(part)).map((one) => one.body);
  }
}

function poolOf(lender: Lender): { pool: Leases; settler: Settler; clock: { now: number } } {
  const client = new Noburn({ apiKey: "nb_1", baseUrl: "http://noburn.invalid", fetch: lender.fetch });
  const settler = new Settler({ client });
  const clock = { now: 0 };
  return { pool: new Leases({ client, settler, ttlSeconds: 600, clock: () => clock.now }), settler, clock };
}

describe("the leases of a process", () => {
  it("begin with the third call of a kind, are reported and given back with their total", async () => {
    const lender = new Lender();
    const { pool, settler, clock } = poolOf(lender);
    expect([1, 2, 3].map(() => pool.draw(ASKED))).toEqual([undefined, undefined, undefined]);
    await vi.waitFor(() => expect(pool.open).toHaveLength(1), { timeout: 5_000 });
    expect(lender.to("/v1/leases")[0]).toMatchObject({ model: "m", subject: { customer: "acme" } });
    expect(pool.draw({ ...ASKED, customer: "other" })).toBeUndefined();
    expect(pool.draw({ ...ASKED, costUsd: "1" })).toBeUndefined();
    const drawn = pool.draw(ASKED, async () => "f00d");
    expect(drawn).toMatchObject({ authorization: "leased", amountUsd: "0.0000002", maxOutputTokens: 50 });
    await Promise.resolve();
    drawn?.draw.put({ op: "settle", key: "x", body: { usage: { input_tokens: 100, output_tokens: 0 } } });
    expect(await settler.flush(30_000)).toBe(true);
    expect(lender.to("/report")[0]).toMatchObject({ draws: [{ seq: 1, call: { fingerprint: "f00d" } }] });
    // Nothing is drawn from it for a while.
    clock.now = 6_000;
    await vi.waitFor(() => expect(pool.open).toHaveLength(0), { timeout: 5_000 });
    expect(lender.to("/close")).toMatchObject([{ total: 1 }]);
    await pool.close(1_000);
    await settler.close(1_000);
  });

  it("are reported on every two seconds, and recalled there", async () => {
    const lender = new Lender();
    const { pool, settler, clock } = poolOf(lender);
    for (let call = 0; call < 3; call += 1) pool.draw(ASKED);
    await vi.waitFor(() => expect(pool.open).toHaveLength(1), { timeout: 5_000 });
    pool.draw(ASKED);
    lender.recall = "policy";
    clock.now = 2_000;
    await vi.waitFor(() => expect(pool.open[0]?.recalled).toBe("policy"), { timeout: 5_000 });
    await vi.waitFor(() => expect(pool.draw(ASKED)).toBeUndefined());
    await pool.close(1_000);
    await settler.close(1_000);
  });

  it("are not used where they have guards that need the server, but given back", async () => {
    const lender = new Lender();
    lender.guards = ["of a later version"];
    const { pool, settler } = poolOf(lender);
    for (let call = 0; call < 3; call += 1) pool.draw(ASKED);
    await vi.waitFor(() => expect(lender.to("/close")).toMatchObject([{ total: 0 }]), { timeout: 5_000 });
    expect(pool.draw(ASKED)).toBeUndefined();
    await pool.close(1_000);
    await settler.close(1_000);
  });
});

describe("a process that lives long", () => {
  it("is one of Node that no platform freezes", () => {
    for (const name of ["VERCEL", "AWS_LAMBDA_FUNCTION_NAME"]) vi.stubEnv(name, undefined);
    expect(livesLong()).toBe(true);
    vi.stubEnv("AWS_LAMBDA_FUNCTION_NAME", "chat");
    expect(livesLong()).toBe(false);
  });
});
