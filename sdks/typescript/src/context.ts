/**
 * Carries contexts through awaits, by Node's AsyncLocalStorage: import this once where the runtime needs an import for it.
 *
 * It is an entry of its own, since it is the only one that every runtime but Node may not have.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { type Carrier, type Surrounding, setCarrier } from "./attribution.js";

setCarrier(new AsyncLocalStorage<Surrounding>() as Carrier);

export { type Attribution, context, current, ungated } from "./attribution.js";
