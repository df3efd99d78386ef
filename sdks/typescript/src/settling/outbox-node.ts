import type { Outbox } from "./outbox.js";

/** Makes an outbox of files, in a folder of its own for each server and key. */
export function nodeOutbox(_folder?: string): Outbox {
  throw new Error("not yet");
}
