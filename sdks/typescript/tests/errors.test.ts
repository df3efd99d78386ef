import { describe, expect, it } from "vitest";
import { neverBilled, neverLeft } from "../src/calls.js";
import {
  BudgetExceededError,
  InvalidRequestError,
  isBudgetExceeded,
  mixed,
  NoburnError,
  noburnErrorOf,
  PriceUnknownError,
  REFUSED_HEADER,
  StreamCutError,
  UnboundedError,
} from "../src/errors.js";
import { denial } from "../src/results.js";

const refused = () => new BudgetExceededError(denial({ reason: "budget_exceeded", detail: "used up" }));

describe("the tree of errors", () => {
  it("tells kinds apart, upwards and not sideways", () => {
    const cut = new StreamCutError(denial({ reason: "call_too_large" }));
    expect(cut).toBeInstanceOf(BudgetExceededError);
    expect(cut).toBeInstanceOf(NoburnError);
    expect(cut).toBeInstanceOf(Error);
    expect(cut).not.toBeInstanceOf(PriceUnknownError);
    expect(refused()).not.toBeInstanceOf(StreamCutError);
    expect(new UnboundedError("no")).toBeInstanceOf(PriceUnknownError);
    expect(new Error("another")).not.toBeInstanceOf(NoburnError);
    expect("text" as unknown).not.toBeInstanceOf(NoburnError);
  });

  it("names every bad field", () => {
    const error = new InvalidRequestError("Bad", { errors: { n: "is no number", m: "is missing" } });
    expect(error.message).toBe("Bad: n: is no number; m: is missing");
    expect(error.name).toBe("InvalidRequestError");
  });
});

describe("mixed", () => {
  class FrameworkError extends Error {}

  it("makes an error of a framework's class that is still noburn's", () => {
    const made = mixed(refused(), FrameworkError);
    expect(made).toBeInstanceOf(FrameworkError);
    expect(made).toBeInstanceOf(BudgetExceededError);
    expect(made.reason).toBe("budget_exceeded");
    expect(made.message).toContain("used up");
    expect(mixed(made, FrameworkError)).toBe(made);
  });
});

describe("isBudgetExceeded", () => {
  it("finds a refusal however deep it lies", () => {
    const wrapped = new Error("connection error", { cause: new TypeError("fetch", { cause: refused() }) });
    expect(isBudgetExceeded(wrapped)).toBe(true);
    expect(noburnErrorOf(wrapped)).toBeInstanceOf(BudgetExceededError);
    const retried = Object.assign(new Error("retries"), { lastError: refused(), errors: [new Error("1")] });
    expect(isBudgetExceeded(retried)).toBe(true);
    expect(isBudgetExceeded(new AggregateError([new Error("a"), refused()]))).toBe(true);
  });

  it("knows the 402 of the patched fetch, with every shape of headers", () => {
    const headers = { [REFUSED_HEADER]: "budget_exceeded" };
    expect(isBudgetExceeded({ status: 402, headers: new Headers(headers) })).toBe(true);
    expect(isBudgetExceeded(new Error("x", { cause: { statusCode: 402, responseHeaders: headers } }))).toBe(
      true,
    );
    expect(isBudgetExceeded({ status: 402, headers: {} })).toBe(false);
    expect(isBudgetExceeded({ status: 429, headers: new Headers(headers) })).toBe(false);
  });

  it("is no mistake about anything else, and ends in circles", () => {
    const circle: { cause?: unknown } = new Error("round");
    circle.cause = circle;
    for (const other of [circle, null, undefined, "text", 402, new PriceUnknownError("no price")]) {
      expect(isBudgetExceeded(other)).toBe(false);
    }
  });
});

describe("what an error says of the bill", () => {
  const fetchFailed = (code: string) => new TypeError("fetch failed", { cause: { code } });
  class APIError extends Error {
    constructor(
      readonly status: number | undefined,
      cause?: unknown,
    ) {
      super("api", { cause });
    }
  }

  it("knows connections that were never made", () => {
    expect(neverLeft(fetchFailed("ECONNREFUSED"))).toBe(true);
    expect(neverLeft(fetchFailed("UND_ERR_CONNECT_TIMEOUT"))).toBe(true);
    expect(neverLeft(fetchFailed("ECONNRESET"))).toBe(false);
    expect(neverLeft(fetchFailed("UND_ERR_HEADERS_TIMEOUT"))).toBe(false);
    expect(neverLeft(new DOMException("aborted", "AbortError"))).toBe(false);
    expect(neverLeft(new Error("anything"))).toBe(false);
  });

  it("asks every address that was tried", () => {
    const both = (second: string) =>
      new TypeError("fetch failed", {
        cause: new AggregateError([fetchFailed("ECONNREFUSED"), fetchFailed(second)]),
      });
    expect(neverLeft(both("ECONNREFUSED"))).toBe(true);
    expect(neverLeft(both("ECONNRESET"))).toBe(false);
  });

  it("bills an event of failure inside a stream, and no status from 400", () => {
    expect(neverBilled(new APIError(429))).toBe(true);
    expect(neverBilled(new APIError(200))).toBe(false);
    expect(neverBilled(new APIError(undefined, fetchFailed("ECONNREFUSED")))).toBe(true);
  });

  it("trusts nobody but a provider's client: a database may fail after the provider answered", () => {
    expect(neverBilled(Object.assign(new Error("db"), { status: 500 }))).toBe(false);
    expect(neverBilled(fetchFailed("ECONNREFUSED"))).toBe(false);
  });
});
