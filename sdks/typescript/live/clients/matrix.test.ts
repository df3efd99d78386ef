/**
 * Every way to gate a client x every kind of call x what may become of it, against a real noburn.
 *
 * Refused: nothing reaches the provider, and one refusal is thrown. Settled: what the provider's usage costs.
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { context } from "../../src/attribution.js";
import { configure, flush, release } from "../../src/default.js";
import { isBudgetExceeded, noburnErrorOf } from "../../src/errors.js";
import type { Asked } from "../../src/gate/endpoints.js";
import { Gate } from "../../src/gate/gate.js";
import type { HeldCall } from "../../src/gate/held.js";
import { uninstrument } from "../../src/integrations/fetch/index.js";
import { type Booked, ledger, newCustomer, remainingNano } from "./control.js";
import { BEGIN, billed, cells, clientOf, costNano, kindOf, told, untilText } from "./world.js";

/** Counts what it is asked. */
class Counting extends Gate {
  asked = 0;

  override admit(asked: Asked): Promise<HeldCall> {
    this.asked += 1;
    return super.admit(asked);
  }
}

/** Time-outs that a busy machine does not reach; each call is asked about, since a drawn one leaves no hold to count. */
const PATIENT = { timeoutMs: 30_000, retryTimeoutMs: 60_000, flushTimeoutMs: 60_000, leases: false };
const SLOW = { "output-tokens": 100, "chunk-tokens": 10, "chunk-delay-ms": 20 };
let gate: Counting;

beforeAll(() => {
  gate = new Counting(PATIENT);
  configure({ gate });
});

afterAll(async () => {
  await uninstrument();
  await release();
});

/** What noburn booked, once everything has arrived. */
async function settled(customer: string): Promise<Booked[]> {
  expect(await flush(60_000)).toBe(true);
  return ledger(customer);
}

/** What a call throws. */
async function thrownBy(call: () => PromiseLike<unknown>): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

describe.each(cells())("%s, %s: %s", (name, way, kind) => {
  const { call } = kindOf(kind);

  it("settles what the provider billed", async () => {
    const acme = await newCustomer();
    const { label, headers } = told();
    const client = clientOf(name, way);
    const answer = await context({ customer: acme, tags: { feature: "test" } }, () =>
      call(client, { headers }),
    );
    expect(answer).toBeTruthy();
    const [one, ...others] = await billed(label);
    if (one === undefined) throw new Error("nothing was billed");
    expect(others).toEqual([]);
    expect(one.noburn_headers).toEqual([]);
    const booked = await settled(acme);
    expect(booked).toMatchObject([{ kind: "settled", outcome: "ok", tags: { feature: "test" } }]);
    expect(BigInt(booked[0]?.cost_nano ?? 0)).toBe(costNano(one));
    expect(await remainingNano(acme)).toBe(10_000_000_000n - costNano(one));
  });

  it("refuses before anything is sent", async () => {
    const poor = await newCustomer("0.000000001");
    const { label, headers } = told();
    const client = clientOf(name, way, { maxRetries: 2 });
    const before = gate.asked;
    // Said in the call itself, this time.
    const error = await thrownBy(() => call(client, { headers: { ...headers, "x-noburn-customer": poor } }));
    expect(isBudgetExceeded(error)).toBe(true);
    if (way !== "instrument") expect(noburnErrorOf(error)).toMatchObject({ scope: "customer" });
    expect(await billed(label)).toEqual([]);
    // Nobody asked again: a refusal is thrown once.
    expect(gate.asked - before).toBe(1);
    expect(await settled(poor)).toEqual([]);
  });

  it("frees the hold of every failed attempt", async () => {
    const acme = await newCustomer();
    const { label, headers } = told({ "fail-status": 503, "retry-after": "0.001" });
    const client = clientOf(name, way, { maxRetries: 1 });
    const error = await thrownBy(() => context({ customer: acme }, () => call(client, { headers })));
    expect(String(error)).toContain("503");
    expect(await billed(label)).toHaveLength(2);
    expect((await settled(acme)).map((one) => one.kind)).toEqual(["voided", "voided"]);
    expect(await remainingNano(acme)).toBe(10_000_000_000n);
  });
});

const plain = (kind: string): boolean => kind === "chat" || kind === "messages";

describe.each(cells(plain))("%s, %s: %s", (name, way, kind) => {
  const { call } = kindOf(kind);

  it("presumes what was lost on its way back", async () => {
    const acme = await newCustomer();
    const { label, headers } = told({ "cut-after-chunks": 1 });
    const client = clientOf(name, way);
    await thrownBy(() => context({ customer: acme }, () => call(client, { headers })));
    const [one] = await billed(label);
    if (one === undefined) throw new Error("nothing was billed");
    const booked = await settled(acme);
    expect(booked).toMatchObject([{ kind: "presumed", outcome: "cut" }]);
    expect(BigInt(booked[0]?.cost_nano ?? 0)).toBeGreaterThanOrEqual(costNano(one));
  });

  it("presumes what its caller aborted after it was sent", async () => {
    const acme = await newCustomer();
    const { label, headers } = told({ "latency-ms": 60_000 });
    const controller = new AbortController();
    const { signal } = controller;
    const client = clientOf(name, way);
    const gone = thrownBy(() => context({ customer: acme }, () => call(client, { headers, signal })));
    while ((await billed(label)).length === 0) await new Promise((done) => setTimeout(done, 5));
    controller.abort();
    expect(String(await gone)).toMatch(/abort/i);
    expect(await settled(acme)).toMatchObject([{ kind: "presumed", outcome: "cut" }]);
  });

  it("frees a hold when nobody listens", async () => {
    if (way === "instrument") return;
    const acme = await newCustomer();
    const client = clientOf(name, way, { baseURL: "http://127.0.0.1:9/v1" });
    const error = await thrownBy(() => context({ customer: acme }, () => call(client, {})));
    expect(String(error)).toMatch(/connection/i);
    expect((await settled(acme)).map((one) => one.kind)).toEqual(["voided"]);
  });
});

const begun = (kind: string): boolean => kind in BEGIN;

describe.each(cells(begun))("%s, %s: %s", (name, way, kind) => {
  const begin = BEGIN[kind] as NonNullable<(typeof BEGIN)[string]>;

  /** What was seen of it was settled, and is near to what was made of it. */
  async function seen(acme: string, label: string): Promise<void> {
    const [one] = await billed(label);
    if (one === undefined) throw new Error("nothing was billed");
    const booked = await settled(acme);
    expect(booked).toMatchObject([{ kind: "settled", outcome: "cut" }]);
    expect(booked[0]?.cost_nano).toBeGreaterThan(0);
  }

  it("settles what was seen of a stream that was cut", async () => {
    const acme = await newCustomer();
    const { label, headers } = told({ "output-tokens": 100, "chunk-tokens": 10, "cut-after-chunks": 4 });
    const client = clientOf(name, way);
    await thrownBy(() => context({ customer: acme }, () => kindOf(kind).call(client, { headers })));
    const [one] = await billed(label);
    if (one === undefined) throw new Error("nothing was billed");
    expect(one.metered.output_tokens).toBe(40);
    const booked = await settled(acme);
    expect(booked).toMatchObject([{ kind: "settled", outcome: "cut" }]);
    expect(booked[0]?.usage?.output_tokens).toBeGreaterThanOrEqual(30);
    expect(BigInt(booked[0]?.cost_nano ?? 0)).toBeLessThanOrEqual(costNano(one) * 2n);
  });

  it("settles what was seen of one that its reader left", async () => {
    const acme = await newCustomer();
    const { label, headers } = told(SLOW);
    const client = clientOf(name, way);
    await context({ customer: acme }, async () => {
      const stream = await begin(client, { headers });
      await untilText(stream);
      await stream.return?.();
    });
    await seen(acme, label);
  });

  it("settles what was seen of one that was aborted", async () => {
    const acme = await newCustomer();
    const { label, headers } = told(SLOW);
    const client = clientOf(name, way);
    const controller = new AbortController();
    await context({ customer: acme }, async () => {
      const stream = await begin(client, { headers, signal: controller.signal });
      await untilText(stream);
      controller.abort();
    });
    await seen(acme, label);
  });

  it("settles what was seen of one that was abandoned, once it is collected", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const acme = await newCustomer();
    const { label, headers } = told(SLOW);
    const client = clientOf(name, way);
    await context({ customer: acme }, async () => untilText(await begin(client, { headers })));
    let booked: Booked[] = [];
    for (let turn = 0; turn < 500 && booked.length === 0; turn += 1) {
      collect();
      await new Promise((done) => setImmediate(done));
      booked = await settled(acme);
    }
    await seen(acme, label);
  });
});
