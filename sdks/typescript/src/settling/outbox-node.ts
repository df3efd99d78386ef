/**
 * An outbox of files, for Node and what is like it: settlements of a killed process arrive with the next one's start.
 *
 *     import { configure } from "@noburn/sdk";
 *     import { nodeOutbox } from "@noburn/sdk/outbox-node";
 *
 *     configure({ outbox: nodeOutbox() });
 *
 * Every process appends to a file of its own. Node knows no file locks that end with a process, so a file says in its name
 * which process it is of, and its process touches it now and again: it is taken over once that process is gone, which is known
 * at once on the same machine, or once it was not touched for a while. A process that was only asleep finds its file taken
 * before it writes the next line, and begins another with all that it still has to deliver. A resolution is idempotent by its
 * hold, so delivering one twice does no harm. Lines are JSON: a resolution, or `{"done": […]}`. A line holds an
 * authorization, counts and names of models; never anything of a prompt.
 */

import { createHash, randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { homedir, hostname, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { environment, log, said } from "../log.js";
import type { JsonObject } from "../results.js";
import type { Kept, Outbox } from "./outbox.js";

/** Of one process's file. What does not fit is kept in memory alone. */
const BYTES_MAX = 32 * 1024 * 1024;
const COMPACT_BYTES = 1024 * 1024;
/** Files that one look takes over. */
const CLAIMS_MAX = 100;
/** What could not be delivered for so long is dropped, and said so. */
const AGE_SECONDS_MAX = 30 * 86_400;
/** How often a process touches its file. */
const TOUCH_MS = 15_000;
/** A file that was not touched for so long is of no process that runs. */
const STALE_MS = 180_000;

/** Where this process runs: a number of a process says nothing anywhere else. */
function placeOf(): string {
  const parts = [hostname()];
  try {
    parts.push(fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
    parts.push(fs.readlinkSync("/proc/self/ns/pid"));
  } catch {
    // Not Linux: processes of one host name share their numbers there.
  }
  return createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 12);
}

function defaultFolder(): string {
  const named = environment("NOBURN_OUTBOX");
  if (named !== undefined) return named;
  const state = environment("XDG_STATE_HOME");
  try {
    return join(state ?? join(homedir(), ".local", "state"), "noburn", "outbox");
  } catch {
    return join(tmpdir(), `noburn-outbox-${userInfo().uid}`);
  }
}

/**
 * Makes an outbox of files: below the folder, else NOBURN_OUTBOX, else the user's state directory.
 *
 * Each server and key has a folder of its own there, named by a hash, since no other key may deliver them.
 */
export function nodeOutbox(folder?: string): Outbox {
  return new NodeOutbox(folder ?? defaultFolder());
}

class NodeOutbox implements Outbox {
  readonly #root: string;
  readonly #place = placeOf();
  #directory = "";
  #path = "";
  #fd: number | undefined;
  #size = 0;
  #finished = 0;
  #dirty = false;
  #closed = false;
  /** What is not delivered, oldest first, as it lies on disk. */
  readonly #open = new Map<string, string>();
  #touch: ReturnType<typeof setInterval> | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  open(baseUrl: string, apiKey: string): void {
    const mark = createHash("sha256").update(`${baseUrl}\0${apiKey}`).digest("hex").slice(0, 16);
    // Apart from other languages' files: they lock theirs, and would take these for left ones.
    this.#directory = join(this.#root, `js-${mark}`);
    this.#rename();
  }

  #rename(): void {
    this.#path = this.#newPath();
  }

  #newPath(): string {
    const name = `${this.#place}-${process.pid}-${randomBytes(6).toString("hex")}.jsonl`;
    return join(this.#directory, name);
  }

  append(item: Kept): boolean {
    const { key, op, body } = item;
    const line = lineOf({ at: Math.trunc(Date.now() / 1000), op, body, key });
    try {
      if (this.#closed || this.#size + line.length > BYTES_MAX) return false;
      this.#keepFile();
      this.#write(line);
      this.#open.set(key, line);
      return true;
    } catch (error) {
      log("warning", `the outbox ${this.#directory} cannot be written: ${said(error)}`);
      return false;
    }
  }

  done(keys: readonly string[]): void {
    const found = keys.filter((key) => this.#open.delete(key));
    if (this.#fd === undefined || found.length === 0) return;
    try {
      this.#keepFile();
      if (this.#open.size === 0) {
        fs.ftruncateSync(this.#fd);
        this.#size = 0;
        this.#finished = 0;
        return;
      }
      this.#write(lineOf({ done: found }));
      this.#finished += found.length;
      if (this.#size > COMPACT_BYTES && this.#finished > this.#open.size) this.#compact();
    } catch (error) {
      log("warning", `the outbox ${this.#directory} cannot be written: ${said(error)}`);
    }
  }

  /** Writes on only where the file is still this process's: another one may have taken it while this one was asleep. */
  #keepFile(): void {
    if (this.#fd !== undefined) {
      if (isAt(this.#fd, this.#path)) return;
      this.#renew();
      return;
    }
    fs.mkdirSync(this.#directory, { mode: 0o700, recursive: true });
    this.#fd = fs.openSync(this.#path, "ax+", 0o600);
    this.#touch ??= setInterval(() => this.#touched(), TOUCH_MS);
    this.#touch.unref();
  }

  #touched(): void {
    if (this.#fd === undefined) return;
    const now = new Date();
    fs.futimes(this.#fd, now, now, () => undefined);
  }

  /** Begins a new file with all that is not delivered. */
  #renew(): void {
    const before = this.#fd;
    this.#rename();
    this.#fd = fs.openSync(this.#path, "ax+", 0o600);
    this.#size = 0;
    this.#finished = 0;
    if (this.#open.size > 0) this.#write([...this.#open.values()].join(""));
    if (before !== undefined) fs.closeSync(before);
  }

  #compact(): void {
    const before = this.#path;
    this.#renew();
    if (this.#fd !== undefined) fs.fsyncSync(this.#fd);
    fs.rmSync(before, { force: true });
  }

  #write(text: string): void {
    const { length } = text;
    const bytes = Buffer.from(text);
    let written = 0;
    while (written < bytes.length && this.#fd !== undefined) {
      written += fs.writeSync(this.#fd, bytes, written);
    }
    this.#size += Math.max(length, bytes.length);
    this.#dirty = true;
  }

  async sync(): Promise<void> {
    if (!this.#dirty || this.#fd === undefined) return;
    this.#dirty = false;
    const fd = this.#fd;
    await new Promise<void>((resolve) => fs.fsync(fd, () => resolve()));
  }

  held(most: number): Kept[] {
    const found: Kept[] = [];
    for (const line of this.#open.values()) {
      if (found.length >= most) break;
      found.push(JSON.parse(line) as Kept);
    }
    return found;
  }

  async claim(): Promise<number> {
    let count = 0;
    for (const path of this.#strangers()) {
      try {
        count += this.#take(path);
      } catch (error) {
        log("warning", `the outbox's ${path} cannot be read: ${said(error)}`);
      }
    }
    return count;
  }

  #strangers(): string[] {
    let names: string[];
    try {
      names = fs.readdirSync(this.#directory).filter((name) => name.endsWith(".jsonl"));
    } catch {
      return [];
    }
    const paths = names.sort().map((name) => join(this.#directory, name));
    return paths.filter((path) => path !== this.#path && this.#isLeft(path)).slice(0, CLAIMS_MAX);
  }

  #isLeft(path: string): boolean {
    const [place, pid] = path.slice(this.#directory.length + 1).split("-");
    if (place === this.#place && !isRunning(Number(pid))) return true;
    try {
      return Date.now() - fs.statSync(path).mtimeMs > STALE_MS;
    } catch {
      return false;
    }
  }

  #take(path: string): number {
    // Whoever renames it first has it, and should that process end now, the next one takes it over from there.
    const mine = this.#newPath();
    try {
      fs.renameSync(path, mine);
    } catch {
      return 0;
    }
    const items = read(fs.readFileSync(mine, "utf8"));
    const fresh = items.filter((item) => item.at > Date.now() / 1000 - AGE_SECONDS_MAX);
    if (fresh.length < items.length) {
      log("error", `${items.length - fresh.length} settlements of ${path} are too old, and dropped`);
    }
    if (fresh.every((item) => this.append(item))) {
      fs.rmSync(mine);
      return fresh.length;
    }
    // No room; what was left over goes back to where it was.
    fs.renameSync(mine, path);
    return fresh.length;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#touch);
    if (this.#fd === undefined) return;
    if (this.#open.size === 0 && isAt(this.#fd, this.#path)) fs.rmSync(this.#path, { force: true });
    fs.closeSync(this.#fd);
    this.#fd = undefined;
  }
}

interface Line extends Kept {
  readonly at: number;
}

function lineOf(value: JsonObject): string {
  return `${JSON.stringify(value)}\n`;
}

/** Reads lines; the last one may have been cut by the end of a machine, and is left out then. */
function read(content: string): Line[] {
  const found = new Map<string, Line>();
  for (const text of content.split("\n")) {
    const value = parsed(text);
    if (Array.isArray(value.done)) for (const key of value.done) found.delete(String(key));
    const { key, at, op, body } = value;
    if (
      typeof key === "string" &&
      typeof at === "number" &&
      typeof op === "string" &&
      typeof body === "object"
    ) {
      found.set(key, { key, at, op, body: body as JsonObject });
    }
  }
  return [...found.values()];
}

function parsed(text: string): JsonObject {
  try {
    const value: unknown = text.trim() ? JSON.parse(text) : null;
    return typeof value === "object" && value !== null ? (value as JsonObject) : {};
  } catch {
    return {};
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process runs as well.
    return (error as { code?: unknown }).code === "EPERM";
  }
}

/** Whether the open file is still the one at this path. */
function isAt(fd: number, path: string): boolean {
  try {
    const [one, other] = [fs.fstatSync(fd), fs.statSync(path)];
    return one.ino === other.ino && one.dev === other.dev;
  } catch {
    return false;
  }
}
