/** Who is signed in: a cookie `session=<customer>.<signature>`, signed with SESSION_SECRET. Yours is likely another one. */

const encoder = new TextEncoder();

async function keyOf(secret: string): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);
}

/** Returns the value of the cookie for a customer. */
export async function sessionFor(customer: string, secret: string): Promise<string> {
  const signed = await crypto.subtle.sign("HMAC", await keyOf(secret), encoder.encode(customer));
  const text = Array.from(new Uint8Array(signed), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${encodeURIComponent(customer)}.${text}`;
}

/** Returns the customer of a request's cookies; undefined where nobody is signed in. Never of anything else it says. */
export async function customerIn(
  cookies: string | null,
  secret: string | undefined,
): Promise<string | undefined> {
  const found = /(?:^|;\s*)session=([^;.]{1,200})\.([0-9a-f]{64})(?:;|$)/.exec(cookies ?? "");
  if (!secret || found?.[1] === undefined || found[2] === undefined) return undefined;
  const customer = decodeURIComponent(found[1]);
  const signature = Uint8Array.from(found[2].match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const right = await crypto.subtle.verify("HMAC", await keyOf(secret), signature, encoder.encode(customer));
  return right ? customer : undefined;
}
