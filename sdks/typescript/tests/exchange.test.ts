import { describe, expect, it } from "vitest";
import type { Reply } from "../src/answers.js";
import { failure } from "../src/answers.js";
import { ConflictError, InvalidRequestError, UnavailableError } from "../src/errors.js";
import { type Around, ask, decide, type Lost, type Patience } from "../src/exchange.js";
import { post, type Request } from "../src/requests.js";

const PATIENCE: Patience = { maxRetries: 4, retryTimeoutMs: 10_000, waitMs: 2_000, busyTimeoutMs: 10_000 };
const ALLOW = { decision: "allow", authorization: "nba1.x", hold: { id: "hold_1" }, model: "m" };
const BUSY = { decision: "deny", reason: "budget_busy", retry_after_ms: 500 };

function reply(status: number, body: unknown, headers: Record<string, string> = {}): Reply {
  return { status, header: (name) => headers[name] ?? null, content: JSON.stringify(body) };
}

class World implements Around {
  now = 0;
  readonly slept: number[] = [];
  readonly sent: Request[] = [];
  readonly #answers: (Reply | Lost)[];
  readonly #takesMs: number;

  constructor(answers: (Reply | Lost)[], takesMs = 0) {
    this.#answers = answers;
    this.#takesMs = takesMs;
  }

  readonly clock = () => this.now;
  readonly chance = () => 0.5;
  readonly sleep = async (ms: number) => {
    this.slept.push(ms);
    this.now += ms;
  };
  readonly send = async (request: Request) => {
    this.sent.push(request);
    this.now += this.#takesMs;
    return this.#answers.shift() ?? { error: new Error("nothing more to answer") };
  };
}

describe("ask", () => {
  it("sends the same text and key again after a lost answer", async () => {
    const world = new World([{ error: new Error("lost") }, reply(503, {}), reply(200, { ok: true })]);
    const found = await ask(world.send, post("/v1/void", { authorization: "a" }), PATIENCE, world);
    expect(found.status).toBe(200);
    expect(world.sent).toHaveLength(3);
    expect(new Set(world.sent.map((one) => `${one.idempotencyKey} ${one.body}`)).size).toBe(1);
    expect(world.slept).toEqual([37.5, 75]);
  });

  it("never comes earlier than it was told to", async () => {
    const world = new World([reply(503, {}, { "retry-after": "2" }), reply(200, {})]);
    await ask(world.send, post("/x", {}), PATIENCE, world);
    expect(world.slept[0]).toBeGreaterThanOrEqual(2_000);
  });

  it("does not retry what was answered, whatever it was", async () => {
    for (const status of [200, 400, 401, 404, 409, 429, 500]) {
      const world = new World([reply(status, {})]);
      expect((await ask(world.send, post("/x", {}), PATIENCE, world)).status).toBe(status);
      expect(world.sent).toHaveLength(1);
    }
  });

  it("gives up after so many attempts, and after so much time", async () => {
    const cause = new Error("refused");
    const lost = () => new World(Array.from({ length: 9 }, () => ({ error: cause })));
    const often = lost();
    const error = await ask(often.send, post("/x", {}), PATIENCE, often).catch((found: unknown) => found);
    expect(error).toBeInstanceOf(UnavailableError);
    expect((error as Error).cause).toBe(cause);
    expect(often.sent).toHaveLength(5);
    const slow = new World(
      Array.from({ length: 9 }, () => ({ error: cause })),
      6_000,
    );
    await expect(ask(slow.send, post("/x", {}), PATIENCE, slow)).rejects.toThrow(/2 attempts in 12/);
  });
});

describe("decide", () => {
  const asked = { model: "m", inputTokens: 1, idempotencyKey: "k" };

  it("waits for holds in flight on both sides, with the same key", async () => {
    const world = new World([reply(200, BUSY), reply(200, BUSY), reply(200, ALLOW)]);
    const found = await decide(world.send, asked, PATIENCE, world);
    expect(found.decision).toBe("allow");
    expect(world.sent.map((one) => one.idempotencyKey)).toEqual(["k", "k", "k"]);
    expect(world.sent[0]?.body).toContain('"wait_ms":2000');
    expect(world.slept).toEqual([625, 625]);
  });

  it("starts no attempt that could end after the time for waiting", async () => {
    const world = new World(
      Array.from({ length: 20 }, () => reply(200, BUSY)),
      2_000,
    );
    const found = await decide(world.send, asked, PATIENCE, world);
    expect(found).toMatchObject({ decision: "deny", reason: "budget_busy" });
    expect(world.now).toBeLessThanOrEqual(PATIENCE.busyTimeoutMs);
    expect(world.sent.length).toBeGreaterThan(2);
  });

  it("answers at once where nobody is to wait, and never waits for what is used up", async () => {
    const now = new World([reply(200, BUSY)]);
    expect((await decide(now.send, { ...asked, waitMs: 0 }, PATIENCE, now)).decision).toBe("deny");
    const full = new World([reply(200, { decision: "deny", reason: "budget_exceeded" })]);
    expect((await decide(full.send, asked, PATIENCE, full)).decision).toBe("deny");
    expect(now.slept.concat(full.slept)).toEqual([]);
  });

  it("lets nothing through on an answer that it does not know", async () => {
    const world = new World([reply(200, { decision: "perhaps" })]);
    await expect(decide(world.send, asked, PATIENCE, world)).rejects.toThrow(/unknown decision/);
  });
});

describe("a failure", () => {
  it("is read from problem+json, with every bad field", () => {
    const problem = {
      title: "Invalid request",
      type: "https://noburn.dev/problems/invalid-request.md",
      instance: "urn:request:r1",
      errors: [
        { pointer: "/subject/customer", detail: "is too long" },
        { field: "n", message: "too large" },
      ],
    };
    const error = failure(reply(422, problem)) as InvalidRequestError;
    expect(error).toBeInstanceOf(InvalidRequestError);
    expect(error.errors).toEqual({ "subject.customer": "is too long", n: "too large" });
    expect(error.requestId).toBe("r1");
    expect(error.message).toContain("(invalid_request)");
  });

  it("of a contradiction has a code", () => {
    const error = failure(reply(409, { type: "x/settle-conflict", title: "Settled" }));
    expect(error).toBeInstanceOf(ConflictError);
    expect((error as ConflictError).code).toBe("settle_conflict");
  });
});
