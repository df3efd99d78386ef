/** What the SDK has to say to those who run it: warnings and errors, and more where NOBURN_LOG asks for it. */

export type Level = "debug" | "info" | "warning" | "error";

const LEVELS: readonly Level[] = ["debug", "info", "warning", "error"];

/** Reads a variable of the environment; undefined where there is none, or no environment. */
export function environment(name: string): string | undefined {
  try {
    const around = globalThis as { process?: { env?: Record<string, string | undefined> } };
    return around.process?.env?.[name]?.trim() || undefined;
  } catch {
    // Deno refuses to say without a permission.
    return undefined;
  }
}

function levelOf(): Level {
  const named = environment("NOBURN_LOG")?.toLowerCase();
  const found = LEVELS.find((level) => level === named || (named === "warn" && level === "warning"));
  return found ?? "warning";
}

let least: Level | undefined;

/** Writes a line, if its level is asked for. Never with a key, a body or a prompt. */
export function log(level: Level, message: string): void {
  least ??= levelOf();
  if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
  const line = `noburn ${level}: ${message}`;
  if (level === "error") console.error(line);
  else if (level === "warning") console.warn(line);
  else console.log(line);
}

/** Says in a few words what an error is. */
export function said(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
