/** Server-sent events, found in bytes on their way to somebody else. */

/** A longer event is passed on unread. */
export const EVENT_BYTES_MAX = 16 * 1024 * 1024;

const LF = 10;
const CR = 13;

/**
 * Takes bytes and calls `event` with each event's data. Where it returns false and `withholds` is set, that event is
 * not given on; only then is an event given on as a whole, else bytes go on as they came.
 */
export class EventReader {
  #buffer = new Uint8Array(0);
  #length = 0;
  #looked = 0;
  readonly #decoder = new TextDecoder();
  readonly #event: (data: string) => boolean;
  readonly #withholds: boolean;

  constructor(event: (data: string) => boolean, withholds = false) {
    this.#event = event;
    this.#withholds = withholds;
  }

  /** Takes what arrived and returns what to give on. */
  feed(bytes: Uint8Array): Uint8Array {
    this.#append(bytes);
    const kept: Uint8Array[] = [];
    let start = 0;
    for (let end = this.#end(start); end !== -1; end = this.#end(start)) {
      const block = this.#buffer.subarray(start, end);
      if (this.#block(block)) kept.push(block.slice());
      start = end;
    }
    this.#drop(start);
    if (this.#length > EVENT_BYTES_MAX) {
      kept.push(this.#buffer.slice(0, this.#length));
      this.#drop(this.#length);
    }
    return this.#withholds ? joined(kept) : bytes;
  }

  /** Reads a last event that no blank line ends, and returns what is left to give on. */
  end(): Uint8Array {
    const rest = this.#buffer.slice(0, this.#length);
    this.#drop(this.#length);
    const passes = rest.length === 0 || this.#block(rest);
    return passes && this.#withholds ? rest : new Uint8Array(0);
  }

  #append(bytes: Uint8Array): void {
    const needed = this.#length + bytes.length;
    if (needed > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(needed, this.#buffer.length * 2, 4096));
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = needed;
  }

  #drop(count: number): void {
    if (count === 0) return;
    this.#buffer.copyWithin(0, count, this.#length);
    this.#length -= count;
    this.#looked = Math.max(0, this.#looked - count);
  }

  /** Where the event that begins at `start` ends, behind its blank line; -1 while it has not ended. */
  #end(start: number): number {
    const bytes = this.#buffer;
    const length = this.#length;
    // What was looked through is not looked through again, but for a blank line that arrived in pieces.
    for (let at = Math.max(start, this.#looked - 3); at < length - 1; at += 1) {
      const byte = bytes[at];
      if (byte === LF && bytes[at + 1] === LF) return this.#found(at + 2);
      if (byte !== CR) continue;
      if (bytes[at + 1] === CR) return this.#found(at + 2);
      if (at + 3 < length && bytes[at + 1] === LF && bytes[at + 2] === CR && bytes[at + 3] === LF) {
        return this.#found(at + 4);
      }
    }
    this.#looked = length;
    return -1;
  }

  #found(end: number): number {
    this.#looked = end;
    return end;
  }

  #block(block: Uint8Array): boolean {
    const lines: string[] = [];
    for (const line of this.#decoder.decode(block).split(/\r\n|\n|\r/)) {
      if (line.startsWith("data:")) lines.push(line.slice(line.startsWith("data: ") ? 6 : 5));
    }
    return lines.length === 0 || this.#event(lines.join("\n"));
  }
}

function joined(parts: Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
