import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { context, ungated } from "../../src/attribution.js";
import { isBudgetExceeded, StreamCutError, UnavailableError } from "../../src/errors.js";
import { gatedFetch } from "../../src/gate/http.js";
import { OpenAISite } from "../../src/integrations/openai/site.js";
import {
  CHAT,
  CHAT_ANSWER,
  CHAT_CHUNKS,
  CHAT_STREAM,
  events,
  type FakeGate,
  type FakeProvider,
  fakeGate,
  fakeProvider,
  json,
  REFUSED,
  type Reached,
  stream,
} from "./fakes.js";

const ADDRESS = "https://api.openai.com/v1/chat/completions";
const USAGE = { inputTokens: 9, outputTokens: 2 };

interface Made {
  readonly fake: FakeGate;
  readonly provider: FakeProvider;
  readonly fetch: typeof fetch;
}

function made(answer?: (reached: Reached) => Response | Promise<Response>): Made {
  const fake = fakeGate();
  const provider = fakeProvider(answer);
  const site = new OpenAISite();
  return {
    fake,
    provider,
    fetch: gatedFetch(
      provider.fetch,
      () => site,
      () => fake.gate,
    ),
  };
}

function post(body: unknown, more: RequestInit = {}): RequestInit {
  return {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json" },
    ...more,
  };
}

/** A stream that gives a piece whenever it is asked for one, and says how often that was. */
function counted(pieces: readonly string[]): {
  response: Response;
  pulled: () => number;
  cancelled: () => unknown;
} {
  let pulled = 0;
  let cancelled: unknown;
  const source = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const piece = pieces[pulled];
        pulled += 1;
        if (piece === undefined) controller.close();
        else controller.enqueue(new TextEncoder().encode(piece));
      },
      cancel(reason) {
        cancelled = reason ?? "cancelled";
      },
    },
    { highWaterMark: 0 },
  );
  const response = new Response(source, { headers: { "content-type": "text/event-stream" } });
  return { response, pulled: () => pulled, cancelled: () => cancelled };
}

describe("An answer", () => {
  it("passes byte for byte and settles its call", async () => {
    const { fake, fetch } = made();
    const response = await fetch(ADDRESS, post(CHAT));
    expect(await response.text()).toBe(JSON.stringify(CHAT_ANSWER));
    expect(fake.ends).toEqual([{ how: "settled", usage: expect.objectContaining(USAGE) }]);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/json");
  });

  it("may be cloned and read twice", async () => {
    const { fake, fetch } = made();
    const response = await fetch(ADDRESS, post(CHAT));
    const copy = response.clone();
    expect(await Promise.all([response.json(), copy.json()])).toEqual([CHAT_ANSWER, CHAT_ANSWER]);
    expect(fake.ends).toHaveLength(1);
  });

  it("keeps its address", async () => {
    const { fetch } = made(() => {
      const answer = json(CHAT_ANSWER);
      Object.defineProperty(answer, "url", { value: ADDRESS });
      return answer;
    });
    expect((await fetch(ADDRESS, post(CHAT))).url).toBe(ADDRESS);
  });

  it.each([400, 401, 429, 500, 503])(
    "of status %i is given on as it is and frees the hold",
    async (status) => {
      const answer = json({ error: { message: "no" } }, status);
      const { fake, fetch } = made(() => answer);
      expect(await fetch(ADDRESS, post(CHAT))).toBe(answer);
      expect(fake.ends).toEqual([{ how: "voided" }]);
    },
  );

  it("without usage leaves its hold to be presumed", async () => {
    const { fake, fetch } = made(
      () => new Response("no JSON", { headers: { "content-type": "text/plain" } }),
    );
    expect(await (await fetch(ADDRESS, post(CHAT))).text()).toBe("no JSON");
    expect(fake.ends).toEqual([{ how: "settled", usage: null }]);
  });

  it("without a body leaves its hold to be presumed", async () => {
    const { fake, fetch } = made(() => new Response(null, { status: 204 }));
    expect((await fetch(ADDRESS, post(CHAT))).status).toBe(204);
    expect(fake.ends).toEqual([{ how: "settled", usage: null }]);
  });

  it("that never comes ends its call by the error", async () => {
    const lost = new TypeError("fetch failed");
    const { fake, fetch } = made(() => Promise.reject(lost));
    await expect(fetch(ADDRESS, post(CHAT))).rejects.toBe(lost);
    expect(fake.ends).toEqual([{ how: "failed", error: lost }]);
  });
});

describe("A stream", () => {
  const asked = { ...CHAT, stream: true, stream_options: { include_usage: true } };

  it("passes in the pieces in which it came, and settles its call by its usage", async () => {
    // Cut inside of an event, of a blank line and of a character.
    const bytes = new TextEncoder().encode(CHAT_STREAM);
    const pieces = [
      bytes.slice(0, 7),
      bytes.slice(7, bytes.indexOf(0xc3) + 1),
      bytes.slice(bytes.indexOf(0xc3) + 1),
    ];
    const { fake, fetch } = made(() => {
      const source = new ReadableStream<Uint8Array>({
        start(controller) {
          for (const piece of pieces) controller.enqueue(piece.slice());
          controller.close();
        },
      });
      return new Response(source, { headers: { "content-type": "text/event-stream" } });
    });
    const response = await fetch(ADDRESS, post(asked));
    const got: Uint8Array[] = [];
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    for (let step = await reader.read(); !step.done; step = await reader.read()) got.push(step.value);
    expect(got.map((piece) => [...piece])).toEqual(pieces.map((piece) => [...piece]));
    expect(fake.ends).toEqual([{ how: "ended", usage: expect.objectContaining(USAGE) }]);
  });

  it("is asked for its usage, and withholds the chunk that its caller did not ask for", async () => {
    const { fake, provider, fetch } = made();
    const response = await fetch(ADDRESS, post({ ...CHAT, stream: true }));
    expect(await response.text()).toBe(events([...CHAT_CHUNKS, "[DONE]"]));
    expect(provider.reached[0]?.body.stream_options).toEqual({ include_usage: true });
    expect(fake.ends).toEqual([{ how: "ended", usage: expect.objectContaining(USAGE) }]);
  });

  it("keeps that chunk where it was asked for, and where it says more", async () => {
    const { fetch } = made();
    expect(await (await fetch(ADDRESS, post(asked))).text()).toBe(CHAT_STREAM);
    const whole = events([{ ...CHAT_CHUNKS[1], usage: CHAT_ANSWER.usage }, "[DONE]"]);
    const { fetch: other } = made(() => stream(whole));
    expect(await (await other(ADDRESS, post({ ...CHAT, stream: true }))).text()).toBe(whole);
  });

  it("is read no faster than its caller reads it", async () => {
    const source = counted([...CHAT_CHUNKS.map((value) => events([value])), events(["[DONE]"])]);
    const { fetch } = made(() => source.response);
    const response = await fetch(ADDRESS, post(asked));
    expect(source.pulled()).toBe(0);
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    expect(source.pulled()).toBe(1);
    await reader.read();
    expect(source.pulled()).toBe(2);
  });

  it("that its reader cancels is cut, and the provider told", async () => {
    const source = counted([...CHAT_CHUNKS.map((value) => events([value]))]);
    const { fake, fetch } = made(() => source.response);
    const response = await fetch(ADDRESS, post(asked));
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    await reader.cancel("enough");
    expect(source.cancelled()).toBe("enough");
    expect(fake.ends).toEqual([{ how: "cut", usage: null }]);
  });

  it("that the provider cuts is cut for its reader too", async () => {
    const lost = new TypeError("terminated");
    let pulled = 0;
    const source = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          pulled += 1;
          if (pulled > 1) controller.error(lost);
          else controller.enqueue(new TextEncoder().encode(events([CHAT_CHUNKS[1]])));
        },
      },
      { highWaterMark: 0 },
    );
    const { fake, fetch } = made(
      () => new Response(source, { headers: { "content-type": "text/event-stream" } }),
    );
    const response = await fetch(ADDRESS, post(asked));
    await expect(response.text()).rejects.toBe(lost);
    expect(fake.ends).toEqual([{ how: "cut", usage: null }]);
  });

  it("that is aborted while nobody reads it is cut at once", async () => {
    const source = counted([...CHAT_CHUNKS.map((value) => events([value]))]);
    const { fake, fetch } = made(() => source.response);
    const controller = new AbortController();
    const response = await fetch(ADDRESS, post(asked, { signal: controller.signal }));
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    const reason = new Error("the caller left");
    controller.abort(reason);
    expect(fake.ends).toEqual([{ how: "cut", usage: null }]);
    expect(source.cancelled()).toBe(reason);
    await expect(reader.read()).rejects.toBe(reason);
  });

  it("that is aborted after its end stays settled", async () => {
    const { fake, fetch } = made();
    const controller = new AbortController();
    await (await fetch(ADDRESS, post(asked, { signal: controller.signal }))).text();
    controller.abort();
    expect(fake.ends).toEqual([{ how: "ended", usage: expect.objectContaining(USAGE) }]);
  });

  it("that nobody reads or cancels is cut once it is collected", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const source = counted([...CHAT_CHUNKS.map((value) => events([value]))]);
    const { fake, fetch } = made(() => source.response);
    const controller = new AbortController();
    await (async () => {
      const response = await fetch(ADDRESS, post(asked, { signal: controller.signal }));
      await (response.body as ReadableStream<Uint8Array>).getReader().read();
    })();
    // A finalizer comes some turns after the collection.
    for (let turn = 0; turn < 500 && fake.ends.length === 0; turn += 1) {
      collect();
      await new Promise((done) => setImmediate(done));
    }
    expect(fake.ends).toEqual([{ how: "cut", usage: null }]);
    expect(source.cancelled()).toBe("cancelled");
    // The caller's own signal was there all along, and held nothing of it.
    expect(controller.signal.aborted).toBe(false);
  });

  it("beyond its hold is ended, where that is wanted", async () => {
    const source = counted([...CHAT_CHUNKS.map((value) => events([value]))]);
    const { fake, fetch } = made(() => source.response);
    fake.tokensMax = 0;
    const response = await fetch(ADDRESS, post(asked));
    await expect(response.text()).rejects.toBeInstanceOf(StreamCutError);
    expect(fake.ends).toEqual([{ how: "cut", usage: null }]);
    expect(source.cancelled()).toBeInstanceOf(StreamCutError);
  });
});

describe("A refused call", () => {
  it("is answered 402, once and for all, and never sent", async () => {
    const { fake, provider, fetch } = made();
    fake.refusal = REFUSED;
    const response = await fetch(ADDRESS, post(CHAT));
    expect(response.status).toBe(402);
    expect(response.headers.get("x-should-retry")).toBe("false");
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(await response.json()).toMatchObject({
      status: 402,
      reason: "budget_exceeded",
      scope: "customer",
      remaining_usd: "0.005",
      resets_at: "2027-01-01T00:00:00.000Z",
      error: { type: "insufficient_quota", code: "budget_exceeded", message: REFUSED.message },
    });
    expect(provider.reached).toEqual([]);
    expect(isBudgetExceeded(Object.assign(new Error(), { status: 402, headers: response.headers }))).toBe(
      true,
    );
  });

  it("for want of an answer of noburn's is 503, and no refusal", async () => {
    const { fake, fetch } = made();
    fake.refusal = new UnavailableError("noburn does not answer");
    const response = await fetch(ADDRESS, post(CHAT));
    expect(response.status).toBe(503);
    expect(response.headers.get("x-should-retry")).toBe("false");
    expect(isBudgetExceeded(Object.assign(new Error(), { status: 503, headers: response.headers }))).toBe(
      false,
    );
  });

  it("that cannot be read is 400", async () => {
    const { fake, provider, fetch } = made();
    const response = await fetch(ADDRESS, { method: "POST", body: "{" });
    expect(response.status).toBe(400);
    expect([fake.asked, provider.reached]).toEqual([[], []]);
  });

  it("keeps errors that are not noburn's", async () => {
    const { fake, fetch } = made();
    fake.refusal = new RangeError("of the gate's own");
    await expect(fetch(ADDRESS, post(CHAT))).rejects.toBe(fake.refusal);
  });
});

describe("An abort", () => {
  it("before anything asks nobody", async () => {
    const { fake, provider, fetch } = made();
    const reason = new Error("the caller left");
    await expect(fetch(ADDRESS, post(CHAT, { signal: AbortSignal.abort(reason) }))).rejects.toBe(reason);
    expect([fake.asked, provider.reached]).toEqual([[], []]);
  });

  it("while noburn is asked frees the hold, and nothing is sent", async () => {
    const { fake, provider, fetch } = made();
    const controller = new AbortController();
    const reason = new Error("the caller left");
    fake.during = () => controller.abort(reason);
    await expect(fetch(ADDRESS, post(CHAT, { signal: controller.signal }))).rejects.toBe(reason);
    expect(fake.ends).toEqual([{ how: "voided" }]);
    expect(fake.asked[0]?.signal).toBe(controller.signal);
    expect(provider.reached).toEqual([]);
  });
});

describe("What is sent", () => {
  it("has the body that was allowed, and none of noburn's headers", async () => {
    const { fake, provider, fetch } = made();
    fake.body = (asked) => ({ ...asked.body, max_completion_tokens: 50 });
    const headers = {
      "X-Noburn-Customer": "acme",
      "x-noburn-tags": "a=1,b=2",
      "content-length": "99",
      "x-own": "1",
    };
    await fetch(ADDRESS, post(CHAT, { headers }));
    expect(provider.reached[0]?.body).toEqual({ ...CHAT, max_completion_tokens: 50 });
    const sent = [...(provider.reached[0]?.headers.keys() ?? [])];
    expect(sent.filter((name) => name.startsWith("x-noburn-"))).toEqual([]);
    expect(sent).toContain("x-own");
    expect(sent).not.toContain("content-length");
    expect(fake.asked[0]?.said).toEqual({ customer: "acme", tags: { a: "1", b: "2" } });
  });

  it("keeps its very text where nothing had to be changed", async () => {
    let text = "";
    const fake = fakeGate();
    const site = new OpenAISite();
    const inner: typeof fetch = async (_, init) => {
      text = init?.body as string;
      return json(CHAT_ANSWER);
    };
    const fetch = gatedFetch(
      inner,
      () => site,
      () => fake.gate,
    );
    const odd = `{ "model":"gpt-4o-mini",  "messages":[], "seed": 12345678901234567890 }`;
    await fetch(ADDRESS, { method: "POST", body: odd });
    expect(text).toBe(odd);
  });

  it.each([
    ["bytes", (text: string) => new TextEncoder().encode(text)],
    ["a buffer", (text: string) => new TextEncoder().encode(text).buffer as ArrayBuffer],
    ["a blob", (text: string) => new Blob([text])],
    ["a stream", (text: string) => new Response(text).body as ReadableStream],
  ])("may be %s", async (_, bodyOf) => {
    const { fake, provider, fetch } = made();
    const init = { method: "POST", body: bodyOf(JSON.stringify(CHAT)), duplex: "half" } as RequestInit;
    await fetch(ADDRESS, { ...init, headers: { "content-type": "application/json" } });
    expect(fake.asked[0]?.body).toEqual(CHAT);
    expect(provider.reached[0]?.body).toEqual(CHAT);
  });

  it("may be a Request", async () => {
    const { fake, provider, fetch } = made();
    fake.body = (asked) => ({ ...asked.body, max_completion_tokens: 50 });
    const headers = { "content-type": "application/json", "x-noburn-user": "u1" };
    await fetch(new Request(ADDRESS, post(CHAT, { headers })));
    expect(fake.asked[0]?.said).toEqual({ user: "u1" });
    expect(provider.reached[0]?.body).toEqual({ ...CHAT, max_completion_tokens: 50 });
    expect(provider.reached[0]?.headers.get("x-noburn-user")).toBeNull();
  });

  it("may be a form, whose model is known and whose cost is not", async () => {
    const { fake, fetch } = made();
    const form = new FormData();
    form.set("model", "whisper-1");
    form.set("file", new Blob(["…"]));
    await fetch("https://api.openai.com/v1/audio/transcriptions", { method: "POST", body: form });
    expect(fake.asked[0]).toMatchObject({
      model: "whisper-1",
      endpoint: { name: "openai.transcriptions", api: null },
    });
    const request = new Request("https://api.openai.com/v1/audio/transcriptions", {
      method: "POST",
      body: form,
    });
    await fetch(request);
    expect(fake.asked[1]?.model).toBe("whisper-1");
  });

  it("is asked about once, however many gates it passes", async () => {
    const { fake, provider, fetch } = made();
    const site = new OpenAISite();
    const outer = fakeGate();
    await gatedFetch(
      fetch,
      () => site,
      () => outer.gate,
    )(ADDRESS, post(CHAT));
    expect([outer.asked.length, fake.asked.length, provider.reached.length]).toEqual([1, 0, 1]);
  });

  it("passes unasked inside of ungated", async () => {
    const { fake, provider, fetch } = made();
    await context({ customer: "acme" }, () => ungated(() => fetch(ADDRESS, post(CHAT))));
    expect([fake.asked.length, provider.reached.length]).toEqual([0, 1]);
  });

  it.each([
    ["GET", "https://api.openai.com/v1/models"],
    ["POST", "https://api.openai.com/v1/moderations"],
    ["POST", "https://api.openai.com/v1/files"],
    ["DELETE", "https://api.openai.com/v1/responses/resp_1"],
  ])("passes unasked where it costs nothing: %s %s", async (method, url) => {
    const { fake, provider, fetch } = made();
    await fetch(url, { method, headers: { "x-noburn-customer": "acme" } });
    expect([fake.asked.length, provider.reached.length]).toEqual([0, 1]);
    expect(provider.reached[0]?.headers.get("x-noburn-customer")).toBeNull();
  });

  it("is refused by the fetch behind where it is no request at all", async () => {
    const { fetch } = made();
    await expect(fetch("no address")).rejects.toThrow(/parse URL|Invalid URL/);
  });
});
