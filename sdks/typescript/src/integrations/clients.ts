/**
 * Clients of OpenAI's and Anthropic's packages, each of whose HTTP attempts passes the gate. Nothing here imports either.
 *
 * The gate stands where an attempt is sent, so that what the client repeats is asked about again. A refusal is answered
 * there, as any other error would be taken for a lost connection; the client makes its error of that answer, and here that
 * is noburn's.
 */

import type { Attribution } from "../attribution.js";
import { defaultGate } from "../default.js";
import { InvalidRequestError, mixed } from "../errors.js";
import type { Gate } from "../gate/gate.js";
import { gatedFetch, type Site, throughGate } from "../gate/http.js";
import { errorBehind } from "../gate/refusals.js";
import { Sent } from "../gate/sent.js";

/** Whom a client's calls are for, where nothing more specific says so; and another gate than the process's. */
export type WrapOptions = Attribution & { readonly gate?: Gate | undefined };

/** What both packages' clients have in common. */
interface Client {
  fetch: typeof fetch;
  withOptions(options: object): Client;
  makeStatusError(status: number, error: unknown, message: string | undefined, headers: Headers): Error;
  backendMiddleware?(): readonly Middleware[];
  readonly _workloadIdentityAuth?: { readonly identitySnapshot?: unknown } | undefined;
  readonly apiVersion?: string;
  readonly deploymentName?: string;
}

type Request = RequestInit & { readonly url: string };
type Next = (request: Request) => Promise<Response>;
type Middleware = (request: Request, next: Next, context: unknown) => Promise<Response>;

// biome-ignore lint/suspicious/noExplicitAny: a class that is extended takes what its base does.
type Class<T> = new (...args: any[]) => T;
// biome-ignore lint/suspicious/noExplicitAny: any class of errors.
type ErrorClass = abstract new (...args: any[]) => Error;

/** What a family of clients says of itself. */
export interface Family {
  /** What one of its clients sends, and for whom. */
  site(client: object, said: Attribution | undefined): Site;
  /** The static member of a client's class that is the base of its errors. */
  readonly errors: string;
}

/** The fetch behind a gated one. */
const behind = new WeakMap<typeof fetch, typeof fetch>();

function ungatedOf(fetcher: typeof fetch): typeof fetch {
  return behind.get(fetcher) ?? fetcher;
}

/** Returns a class of clients each of whose attempts passes the gate; copies that its clients make are of it, too. */
export function gatedClass<C extends Class<object>>(Base: C, family: Family, options: WrapOptions = {}): C {
  const { gate: own, ...said } = options;
  const gateOf = (): Gate => own ?? defaultGate();
  const siteOf = (client: object): Site => family.site(client, said);
  const Original = Base as unknown as Class<Client>;

  class Gated extends Original {
    // biome-ignore lint/suspicious/noExplicitAny: as the base's.
    constructor(...args: any[]) {
      const [given, ...others] = args;
      // A client's copy is given its fetch. What the package asks by it beside calls, such as for tokens, is no call.
      super(...(given?.fetch ? [{ ...given, fetch: ungatedOf(given.fetch) }, ...others] : args));
      gateFetch(this, siteOf(this), gateOf);
    }

    override makeStatusError(
      status: number,
      error: unknown,
      message: string | undefined,
      headers: Headers,
    ): Error {
      const own = errorBehind(headers);
      if (own === undefined) return super.makeStatusError(status, error, message, headers);
      const kind = (Base as unknown as Record<string, ErrorClass | undefined>)[family.errors];
      return kind === undefined ? own : mixed(own, kind);
    }
  }
  if (middlewareOf(Original.prototype) !== undefined) {
    Gated.prototype.backendMiddleware = function (this: Client): readonly Middleware[] {
      const site = siteOf(this);
      const gate: Middleware = (request, next) => {
        const { url, ...init } = request;
        const sent = new Sent(url, init);
        return throughGate(gateOf, site, sent, (body) =>
          sent.forward((_, changed) => next({ ...changed, url }), { body }),
        );
      };
      // Before what adapts and signs a request for its platform, behind everything that may repeat it.
      return [gate, ...(Original.prototype.backendMiddleware?.call(this) ?? [])];
    };
  }
  Object.defineProperty(Gated, "name", { value: Base.name });
  return Gated as unknown as C;
}

/** The client's own way to stand between it and its fetch, where it has one. */
function middlewareOf(client: Client): unknown {
  return client.backendMiddleware;
}

/** Gates what a client sends, in place. Throws InvalidRequestError for one that cannot be. */
function gateFetch(client: Client, site: Site, gateOf: () => Gate): void {
  if (typeof client._workloadIdentityAuth?.identitySnapshot === "function") {
    throw new InvalidRequestError("Cannot gate this client", {
      errors: { workloadIdentity: "X.509 identities send by a transport of their own, past every gate" },
    });
  }
  if (middlewareOf(client) !== undefined) return;
  const inner = ungatedOf(client.fetch);
  client.fetch = gatedFetch(inner, () => site, gateOf);
  behind.set(client.fetch, inner);
}

/**
 * Returns a copy of a client each of whose attempts passes the gate; the given one stays as it is.
 *
 * Throws InvalidRequestError for what is no such client.
 */
export function wrapClient<C extends object>(client: C, family: Family, options: WrapOptions = {}): C {
  const given = client as unknown as Client;
  const usable = typeof given.withOptions === "function" && typeof given.makeStatusError === "function";
  if (!usable) {
    const name = client.constructor?.name ?? typeof client;
    throw new InvalidRequestError("Cannot wrap", { errors: { client: `is a ${name}, not a client` } });
  }
  const Base = client.constructor as Class<object>;
  const Gated = gatedClass(Base, family, options);
  const { apiVersion, deploymentName } = given;
  // Azure's clients leave these out of their copies.
  const azure = apiVersion === undefined ? {} : { apiVersion, deployment: deploymentName };
  const copy = given.withOptions(azure);
  // Its copies will be made by the gated class.
  Object.setPrototypeOf(copy, Gated.prototype as object);
  const { gate, ...said } = options;
  gateFetch(copy, family.site(copy, said), () => gate ?? defaultGate());
  return copy as unknown as C;
}
