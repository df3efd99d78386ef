import { describe, expect, it, vi } from "vitest";
import { Noburn } from "../src/client.js";
import type { JsonObject } from "../src/results.js";
import type { Kept, Outbox } from "../src/settling/outbox.js";
import type { Resolution } from "../src/settling/resolution.js";
import { MEMORY_MAX, Settler } from "../src/settling/settler.js";
import { gatekeeper } from "./support.js";

type Answer = (path: string, body: JsonObject) => JsonObject | Promise<JsonObject>;

/** A noburn that notes what it is sent. */
class Recorder {
  readonly sent: { readonly path: string; readonly body: JsonObject }[] = [];
  away = false;
  answer: Answer = (path, body) =>
    path === "/v1/settle/batch" ? { results: (body.settlements as []).map(() => ({ cost_usd: "0" })) } : {};

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    if (this.away) throw new TypeError("fetch failed");
    const path = new URL(String(input)).pathname;
    const body = JSON.parse(String(init?.body)) as JsonObject;
    this.sent.push({ path, body });
    const value = await this.answer(path, body);
    return Response.json(value, { status: typeof value.status === "number" ? value.status : 200 });
  };

  client(): Noburn {
    const patience = { maxRetries: 0, retryTimeoutMs: 0 };
    return new Noburn({ apiKey: "nb_1", baseUrl: "http://noburn.invalid", fetch: this.fetch, ...patience });
  }

  settled(): number {
    return this.sent
      .filter((one) => one.path === "/v1/settle/batch")
      .reduce((sum, one) => sum + (one.body.settlements as []).length, 0);
  }
}

class MemoryOutbox implements Outbox {
  readonly lines = new Map<string, Kept>();
  left: Kept[] = [];
  open(): void {}
  append(item: Kept): boolean {
    this.lines.set(item.key, item);
    return true;
  }
  done(keys: readonly string[]): void {
    for (const key of keys) this.lines.delete(key);
  }
  async sync(): Promise<void> {}
  held(most: number): Kept[] {
    return [...this.lines.values()].slice(0, most);
  }
  async claim(): Promise<number> {
    const found = this.left.splice(0);
    for (const item of found) this.append(item);
    return found.length;
  }
  close(): void {}
}

const settle = (key: string): Resolution => ({
  op: "settle",
  key,
  body: { authorization: key, usage: null },
});

describe("settlements", () => {
  it("that come together go together", async () => {
    const noburn = new Recorder();
    const settler = new Settler({ client: noburn.client() });
    for (let index = 0; index < 2_500; index += 1) settler.put(settle(`h${index}`));
    expect(await settler.flush(30_000)).toBe(true);
    expect(noburn.sent.map((one) => (one.body.settlements as []).length)).toEqual([1_000, 1_000, 500]);
    expect(await settler.close(1_000)).toBe(true);
  });

  it("wait while noburn is away, and all arrive once it is back", async () => {
    const warn = vi.spyOn(console, "warn").mockReturnValue();
    const noburn = new Recorder();
    const settler = new Settler({ client: noburn.client() });
    noburn.away = true;
    for (let index = 0; index < 10; index += 1) settler.put(settle(`h${index}`));
    expect(await settler.flush(50)).toBe(false);
    expect(settler.waiting).toBe(10);
    noburn.away = false;
    settler.put({ op: "void", key: "v", body: { authorization: "v" } });
    expect(await settler.flush(30_000)).toBe(true);
    expect(noburn.settled()).toBe(10);
    expect(warn).toHaveBeenCalled();
    await settler.close(1_000);
  });

  it("are kept apart from one that noburn can never take", async () => {
    const warn = vi.spyOn(console, "warn").mockReturnValue();
    const noburn = new Recorder();
    noburn.answer = (_, body) => {
      const items = body.settlements as { authorization: string }[];
      if (items.some((item) => item.authorization === "h3")) return { status: 422, title: "Poisonous" };
      return { results: items.map(() => ({ cost_usd: "0.1", state: "settled" })) };
    };
    const told: string[] = [];
    const settler = new Settler({ client: noburn.client(), told: (item) => told.push(item.key) });
    for (let index = 0; index < 8; index += 1) settler.put(settle(`h${index}`));
    expect(await settler.flush(30_000)).toBe(true);
    expect(told.sort()).toEqual(["h0", "h1", "h2", "h4", "h5", "h6", "h7"]);
    expect(warn).toHaveBeenCalledOnce();
    await settler.close(1_000);
  });

  it("that contradict what happened are dropped, and said so; others of the batch are not", async () => {
    const warn = vi.spyOn(console, "warn").mockReturnValue();
    const noburn = new Recorder();
    noburn.answer = () => ({ results: [{ status: 409, title: "Settled otherwise" }, { cost_usd: "0" }] });
    const settler = new Settler({ client: noburn.client() });
    settler.put(settle("a"));
    settler.put(settle("b"));
    expect(await settler.flush(30_000)).toBe(true);
    expect(noburn.sent).toHaveLength(1);
    expect(warn.mock.calls[0]?.[0]).toContain("Settled otherwise");
    await settler.close(1_000);
  });

  it("beyond what memory holds are dropped loudly, and without an outbox only", async () => {
    const error = vi.spyOn(console, "error").mockReturnValue();
    const noburn = new Recorder();
    noburn.away = true;
    vi.spyOn(console, "warn").mockReturnValue();
    const settler = new Settler({ client: noburn.client() });
    for (let index = 0; index < MEMORY_MAX + 2; index += 1) settler.put(settle(`h${index}`));
    expect(settler.waiting).toBe(MEMORY_MAX);
    expect(error.mock.calls.map(([line]) => line)).toEqual([
      expect.stringContaining("1 settlements were dropped"),
      expect.stringContaining("2 settlements were dropped"),
    ]);
    expect(await settler.close(0)).toBe(false);
  });
});

describe("a reclaim", () => {
  const reclaim: Resolution = {
    op: "reclaim",
    key: "k1",
    body: { model: "m", input_tokens: 1, wait_ms: 2_000 },
  };

  it("asks again with the same key, and voids what was placed", async () => {
    const noburn = new Recorder();
    noburn.answer = (path) =>
      path === "/v1/preflight" ? { decision: "allow", authorization: "nba1.x" } : {};
    const settler = new Settler({ client: noburn.client() });
    settler.put(reclaim);
    expect(await settler.flush(30_000)).toBe(true);
    expect(noburn.sent).toEqual([
      { path: "/v1/preflight", body: reclaim.body },
      { path: "/v1/void", body: { authorization: "nba1.x" } },
    ]);
    await settler.close(1_000);
  });

  it("that waits at noburn keeps no settlement waiting", async () => {
    const noburn = new Recorder();
    const { opened, open } = gatekeeper();
    const usual = noburn.answer;
    noburn.answer = async (path, body) => {
      if (path !== "/v1/preflight") return usual(path, body);
      // It is answered only once a settlement freed what it waits for.
      await opened;
      return { decision: "deny", reason: "budget_busy" };
    };
    const settler = new Settler({
      client: noburn.client(),
      told: () => open(),
    });
    settler.put(reclaim);
    await vi.waitFor(() => expect(noburn.sent).toHaveLength(1));
    settler.put(settle("h1"));
    expect(await settler.flush(30_000)).toBe(true);
    expect(noburn.settled()).toBe(1);
    await settler.close(1_000);
  });
});

describe("an outbox", () => {
  it("has each settlement until noburn has it", async () => {
    vi.spyOn(console, "warn").mockReturnValue();
    const noburn = new Recorder();
    const outbox = new MemoryOutbox();
    const settler = new Settler({ client: noburn.client(), outbox });
    noburn.away = true;
    settler.put(settle("h1"));
    expect([...outbox.lines.keys()]).toEqual(["h1"]);
    expect(await settler.flush(50)).toBe(false);
    noburn.away = false;
    settler.put(settle("h2"));
    expect(await settler.flush(30_000)).toBe(true);
    expect(outbox.lines.size).toBe(0);
    await settler.close(1_000);
  });

  it("brings back what does not fit into memory", async () => {
    vi.spyOn(console, "warn").mockReturnValue();
    const noburn = new Recorder();
    const outbox = new MemoryOutbox();
    const settler = new Settler({ client: noburn.client(), outbox });
    noburn.away = true;
    for (let index = 0; index < MEMORY_MAX + 1_500; index += 1) settler.put(settle(`h${index}`));
    expect(settler.waiting).toBe(MEMORY_MAX);
    noburn.away = false;
    expect(await settler.flush(60_000)).toBe(true);
    expect(noburn.settled()).toBe(MEMORY_MAX + 1_500);
    expect(outbox.lines.size).toBe(0);
    await settler.close(1_000);
  });

  it("delivers what an ended process left, without a settlement of its own", async () => {
    const noburn = new Recorder();
    const outbox = new MemoryOutbox();
    outbox.left = [settle("old1"), settle("old2"), { op: "later", key: "unknown", body: {} }];
    const settler = new Settler({ client: noburn.client(), outbox });
    await vi.waitFor(() => expect(noburn.settled()).toBe(2));
    expect(await settler.flush(30_000)).toBe(true);
    await settler.close(1_000);
  });
});

describe("a serverless instance", () => {
  it("is kept alive until settlements are out", async () => {
    const noburn = new Recorder();
    const { opened, open } = gatekeeper();
    const usual = noburn.answer;
    noburn.answer = async (path, body) => {
      await opened;
      return usual(path, body);
    };
    const kept: Promise<void>[] = [];
    const settler = new Settler({ client: noburn.client(), hold: (idle) => kept.push(idle()) });
    settler.put(settle("h1"));
    expect(kept).toHaveLength(1);
    let over = false;
    const ended = kept[0]?.then(() => {
      over = true;
    });
    await vi.waitFor(() => expect(noburn.sent).toHaveLength(1));
    expect(over).toBe(false);
    open();
    await ended;
    expect(settler.waiting).toBe(0);
    await settler.close(1_000);
  });
});
