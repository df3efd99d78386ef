import { describe, expect, it } from "vitest";
import {
  addSource,
  context,
  current,
  framework,
  fromHeaders,
  isUngated,
  over,
  removeSource,
  tellFramework,
  ungated,
} from "../src/attribution.js";
import { InvalidRequestError } from "../src/errors.js";

describe("over", () => {
  it("lets the nearer one win field by field, and joins tags", () => {
    const near = { customer: "acme", tags: { a: "1" } };
    const far = { customer: "other", user: "u1", tags: { a: "0", b: "2" } };
    expect(over(near, far)).toEqual({ customer: "acme", user: "u1", tags: { a: "1", b: "2" } });
    expect(over(undefined, far)).toEqual(far);
    expect(over({ customer: undefined }, far).customer).toBe("other");
  });
});

describe("context", () => {
  it("follows awaits, nests, and ends with its function", async () => {
    const seen = await context({ customer: "acme" }, async () => {
      await Promise.resolve();
      const inner = await context({ user: "u1", tags: { step: "2" } }, async () => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        return current();
      });
      return [inner, current()];
    });
    expect(seen).toEqual([{ customer: "acme", user: "u1", tags: { step: "2" } }, { customer: "acme" }]);
    expect(current()).toEqual({});
  });

  it("keeps tasks that run at once apart", async () => {
    const names = Array.from({ length: 50 }, (_, index) => `c${index}`);
    const found = await Promise.all(
      names.map((customer) =>
        context({ customer }, async () => {
          await new Promise((resolve) => setImmediate(resolve));
          return current().customer;
        }),
      ),
    );
    expect(found).toEqual(names);
  });

  it("lets calls by, and only inside", async () => {
    expect(await ungated(async () => isUngated())).toBe(true);
    expect(isUngated()).toBe(false);
  });

  it("asks frameworks last, and no longer than they are there", () => {
    const source = () => ({ run: "thread", user: "from the source" });
    addSource(source);
    try {
      expect(tellFramework({ user: "told" }, framework)).toEqual({ user: "told", run: "thread" });
    } finally {
      removeSource(source);
    }
    expect(framework()).toEqual({});
  });
});

describe("fromHeaders", () => {
  it("reads them all, percent-encoded or not", () => {
    const headers = new Headers({
      "X-Noburn-Customer": "caf%C3%A9",
      "x-noburn-tags": "feature=chat, team=blue",
      "x-noburn-max-output-tokens": "50",
      "x-noburn-cost-usd": "0.25",
      authorization: "Bearer x",
    });
    expect(fromHeaders(headers)).toEqual({
      customer: "café",
      tags: { feature: "chat", team: "blue" },
      maxOutputTokens: 50,
      costUsd: "0.25",
    });
  });

  it("refuses what it does not know, naming all of it", () => {
    const bad = [
      ["x-noburn-custmer", "acme"],
      ["x-noburn-max-input-tokens", "many"],
    ] as const;
    expect(() => fromHeaders(bad)).toThrow(InvalidRequestError);
    expect(() => fromHeaders(bad)).toThrow(/custmer.*max-input-tokens/);
  });
});
