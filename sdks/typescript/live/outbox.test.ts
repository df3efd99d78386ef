import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "vite";
import { beforeAll, describe, expect, it } from "vitest";
import { Gate, toNano } from "../src/index.js";
import { nodeOutbox } from "../src/settling/outbox-node.js";
import { PATIENT } from "./calls.js";
import { API_KEY, customer, gateway, ledger, remaining } from "./control.js";

const folder = mkdtempSync(join(tmpdir(), "outbox-"));
const program = join(folder, "held-calls.mjs");

beforeAll(async () => {
  // A process of its own needs plain JavaScript.
  await build({
    logLevel: "silent",
    build: {
      outDir: folder,
      ssr: join(import.meta.dirname, "held-calls.ts"),
      rollupOptions: { output: { entryFileNames: "held-calls.mjs" } },
    },
  });
});

function started(environment: Record<string, string>): ChildProcess {
  const env = { ...process.env, NOBURN_OUTBOX: join(folder, "outbox"), ...environment };
  return spawn(process.execPath, [program], { env, stdio: ["pipe", "pipe", "inherit"] });
}

/** Fulfilled with the next line that a process says. */
function line(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once("data", (data) => resolve(String(data).trim()));
    child.once("exit", () => reject(new Error("it ended")));
  });
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => child.once("exit", () => resolve()));
}

function files(): string[] {
  const [own] = readdirSync(join(folder, "outbox"));
  return readdirSync(join(folder, "outbox", own ?? ""));
}

describe("a process that is killed while noburn is away", () => {
  it("loses no settlement: the next one delivers them", async () => {
    const acme = await customer("10");
    const away = await gateway();
    const child = started({ NOBURN_BASE_URL: away.url, CUSTOMER: acme, CALLS: "10" });
    const end = ended(child);
    expect(await line(child)).toBe("held");
    await away.stop();
    const told = line(child);
    child.stdin?.write("settle\n");
    expect(await told).toBe("settled");
    child.kill("SIGKILL");
    await end;
    expect(files()).toHaveLength(1);
    expect(await ledger(acme)).toEqual([]);

    await away.start();
    const next = new Gate({
      apiKey: API_KEY,
      baseUrl: away.url,
      outbox: nodeOutbox(join(folder, "outbox")),
      leases: false,
      ...PATIENT,
    });
    await expect.poll(() => ledger(acme), { timeout: 60_000, interval: 100 }).toHaveLength(10);
    expect(await next.close(60_000)).toBe(true);
    const entries = await ledger(acme);
    expect(entries.every((entry) => entry.kind === "settled")).toBe(true);
    const spent = entries.reduce((sum, entry) => sum + toNano(entry.cost_usd), 0n);
    expect(spent).toBeGreaterThan(0n);
    expect(toNano(await remaining(acme))).toBe(toNano("10") - spent);
    expect(files()).toEqual([]);
    await away.stop();
  });

  it("that ends by itself delivers what it has, without being told to", async () => {
    const acme = await customer("10");
    const child = started({ CUSTOMER: acme, CALLS: "3" });
    const end = ended(child);
    expect(await line(child)).toBe("held");
    child.stdin?.end("settle\n");
    await end;
    expect(await ledger(acme)).toHaveLength(3);
    expect(files()).toEqual([]);
  });
});
