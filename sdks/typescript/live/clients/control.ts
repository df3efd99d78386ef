const CONTROL = process.env.CONTROL_URL;

export interface Booked {
  readonly kind: string;
  readonly outcome: string;
  readonly cost_nano: number;
  readonly tags: Record<string, string>;
  readonly usage: { readonly input_tokens: number; readonly output_tokens: number } | null;
}

async function ask<T>(path: string): Promise<T> {
  const answer = await fetch(`${CONTROL}${path}`);
  return (await answer.json()) as T;
}

export const newCustomer = (limitUsd = "10"): Promise<string> => ask(`/customer?limit=${limitUsd}`);
export const ledger = (customer: string): Promise<Booked[]> => ask(`/ledger?customer=${customer}`);
export const remainingNano = async (customer: string): Promise<bigint> =>
  BigInt(await ask<number>(`/remaining?customer=${customer}`));
