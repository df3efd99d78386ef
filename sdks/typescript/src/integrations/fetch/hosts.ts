/** Which addresses belong to whom: what a patched fetch gates, and what it leaves alone. */

import type { Site } from "../../gate/http.js";
import { AnthropicSite } from "../anthropic/site.js";
import { OpenAISite, providerAt } from "../openai/site.js";

/** Base URLs of one's own, such as a proxy's, by what they speak like. */
export interface BaseUrls {
  readonly openai?: string | readonly string[] | undefined;
  readonly anthropic?: string | readonly string[] | undefined;
}

const OPENAI = new OpenAISite();
/** Others that speak like OpenAI have endpoints of their own, of which nothing is known here. */
const LIKE_OPENAI = new OpenAISite({ others: "pass" });
const ANTHROPIC = new AnthropicSite();
const OWN: ReadonlySet<string> = new Set(["openai", "azure"]);
/** Where OpenAI's language is but one of several. */
const PARTLY: ReadonlySet<string> = new Set(["google", "aws"]);

const MESSAGES = /\/(?:messages|complete)(?:\/|$)/;

interface Named {
  readonly base: string;
  readonly site: Site;
}

/** Base URLs, and the hosts that everybody knows. */
export class Addresses {
  readonly #named: Named[] = [];

  /** Adds base URLs. Throws TypeError for what is no URL. */
  add(urls: BaseUrls): void {
    for (const [given, site] of [
      [urls.openai, OPENAI],
      [urls.anthropic, ANTHROPIC],
    ] as const) {
      for (const url of given === undefined ? [] : typeof given === "string" ? [given] : given) {
        const base = new URL(url).href.replace(/\/+$/, "");
        if (!this.#named.some((one) => one.base === base)) this.#named.push({ base, site });
      }
    }
  }

  /** Returns what reads requests to an address; null for one that is left alone. */
  siteOf(url: string): Site | null {
    if (!/^https?:/i.test(url)) return null;
    const { href, hostname, pathname } = new URL(url);
    const named = this.#named.filter(({ base }) => {
      return (
        href.startsWith(base) && (href.length === base.length || "/?#".includes(href.charAt(base.length)))
      );
    });
    // One server may speak both ways: then the path tells.
    const like = MESSAGES.test(pathname) ? ANTHROPIC : OPENAI;
    const site = named.find((one) => one.site === like)?.site ?? named[0]?.site;
    if (site !== undefined) return site;
    if (hostname === "api.anthropic.com") return ANTHROPIC;
    const provider = providerAt(hostname);
    if (provider === undefined) return null;
    if (OWN.has(provider)) return OPENAI;
    return PARTLY.has(provider) && !pathname.includes("/openai/") ? null : LIKE_OPENAI;
  }
}
