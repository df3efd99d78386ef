/** The chat route of Next's example, called with real requests. */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { sessionFor } from "../../examples/next-chat/lib/session.js";
import { configure, flush, release } from "../../src/index.js";
import { PATIENT } from "../calls.js";
import { API_KEY, BASE_URL, customer, DOUBLE_URL, double, ledger } from "../control.js";

const SECRET = "a secret of this test";
let POST: (request: Request) => Promise<Response>;

beforeAll(async () => {
  configure({ apiKey: API_KEY, baseUrl: BASE_URL, leases: false, ...PATIENT });
  process.env.OPENAI_BASE_URL = `${DOUBLE_URL}/v1`;
  process.env.OPENAI_API_KEY = "sk-any";
  process.env.SESSION_SECRET = SECRET;
  ({ POST } = await import("../../examples/next-chat/app/api/chat/route.js"));
});
beforeEach(() => double.reset());
afterAll(release);

async function ask(cookie: string): Promise<Response> {
  const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "Hi" }] }];
  return POST(
    new Request("http://127.0.0.1/api/chat", {
      method: "POST",
      headers: { cookie, "content-type": "application/json" },
      body: JSON.stringify({ messages, customer: "somebody else" }),
    }),
  );
}

describe("The chat route of Next's example", () => {
  it("answers the customer who is signed in, who pays for it", async () => {
    const acme = await customer();
    const answer = await ask(`a=b; session=${await sessionFor(acme, SECRET)}`);
    expect(answer.status).toBe(200);
    const text = await answer.text();
    expect(text).toContain('"type":"text-delta"');
    expect(await flush(60_000)).toBe(true);
    expect(await ledger(acme)).toMatchObject([{ tags: { feature: "chat" } }]);
    expect(await double.ledger()).toHaveLength(1);
  });

  it("shows a message in the place of a refused answer", async () => {
    const poor = await customer("0.000000001");
    const answer = await ask(`session=${await sessionFor(poor, SECRET)}`);
    expect(await answer.text()).toContain("Your budget for this month is used up.");
    expect(await double.ledger()).toEqual([]);
  });

  it("answers nobody else", async () => {
    expect((await ask(`session=${await sessionFor("acme", "another secret")}`)).status).toBe(401);
    expect((await ask("")).status).toBe(401);
  });
});
