/** How long the reasoning was that a provider keeps and reads again: known of what was made here. */

const ITEMS_MAX = 10_000;
const TOKENS_MAX = 1_000_000;

const items = new Map<string, number>();

/** Returns a bound of the tokens of stored reasoning; undefined where it was not made in this process. */
export function reasoned(id: string): number | undefined {
  return items.get(id);
}

/** Remembers that an item came with an answer of so many tokens, which bounds it. */
export function remember(ids: Iterable<string>, tokens: number): void {
  for (const id of ids) {
    items.delete(id);
    items.set(id, Math.max(1, Math.min(tokens, TOKENS_MAX)));
  }
  for (const oldest of items.keys()) {
    if (items.size <= ITEMS_MAX) break;
    items.delete(oldest);
  }
}

/** Returns the ids of stored reasoning in the parts of an answer. */
export function idsIn(part: Record<string, unknown>): string[] {
  const type = String(part.type);
  if (!type.startsWith("reasoning")) return [];
  const found: string[] = [];
  for (const own of Object.values((part.providerMetadata ?? {}) as Record<string, Record<string, unknown>>)) {
    if (typeof own?.itemId === "string") found.push(own.itemId);
  }
  return found;
}
