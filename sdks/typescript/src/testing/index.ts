/**
 * Tests of programs that use this package, without a noburn.
 *
 *     afterEach(release);
 *
 *     it("tells a customer that the budget is used up", async () => {
 *       const plane = await useMemoryPlane();
 *       plane.budget("customer", "acme", "0.0001");
 *       await expect(answer("acme", longQuestion)).rejects.toSatisfy(isBudgetExceeded);
 *       expect(plane.refusals[0]?.reason).toBe("budget_exceeded");
 *     });
 */

import { configure, release } from "../default.js";
import { Gate, type GateOptions } from "../gate/gate.js";
import { MemoryPlane } from "./plane.js";

export {
  type MemoryDecision,
  MemoryPlane,
  type MemoryScope,
  type MemorySettlement,
} from "./plane.js";
export { type MemoryRun, MemoryRuns } from "./runs.js";

/** Returns a gate onto a plane in memory, which gives no leases. It takes the options of `Gate`. */
export function memoryGate(plane: MemoryPlane, options: GateOptions = {}): Gate {
  return new Gate({
    apiKey: "nb_test_memory",
    baseUrl: "http://noburn.invalid",
    leases: false,
    ...options,
    fetch: plane.fetch,
  });
}

/**
 * Makes the process's gate lead onto a noburn in memory; `instrument()` whatever the test calls. Settlements have arrived
 * once `flush()` is fulfilled.
 */
export async function useMemoryPlane(options: GateOptions = {}): Promise<MemoryPlane> {
  await release();
  const plane = new MemoryPlane();
  configure({ gate: memoryGate(plane, options) });
  return plane;
}

/** Ends what `useMemoryPlane` began: the process has no gate after it. */
export { release } from "../default.js";
