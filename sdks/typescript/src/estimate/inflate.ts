/**
 * Unpacks zlib's format at once and within a limit: what runtimes offer beside Node is asynchronous, and an estimate is not.
 *
 * RFC 1950 and 1951. What was cut off is unpacked as far as it goes, as zlib does.
 */

const BITS_MAX = 15;
const WINDOW = 32_768;
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LENGTHS = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
  227, 258,
];
const DISTANCES = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
  6145, 8193, 12289, 16385, 24577,
];

class EndedError extends Error {}
class BrokenError extends Error {}

/** Returns what zlib data stands for; null where it is broken, or not shorter than `limit`. */
export function inflated(data: Uint8Array, limit: number): Uint8Array | null {
  const unpacking = new Unpacking(data, limit);
  try {
    unpacking.run();
  } catch (error) {
    if (error instanceof BrokenError) return null;
    if (!(error instanceof EndedError)) throw error;
  }
  return unpacking.result();
}

class Unpacking {
  #out = new Uint8Array(65_536);
  #size = 0;
  #at = 0;
  #held = 0;
  #bits = 0;

  constructor(
    readonly data: Uint8Array,
    readonly limit: number,
  ) {}

  result(): Uint8Array {
    return this.#out.subarray(0, this.#size);
  }

  run(): void {
    const method = this.#take(8);
    const flags = this.#take(8);
    if ((method * 256 + flags) % 31 || (method & 15) !== 8 || method >> 4 > 7 || flags & 32)
      throw new BrokenError();
    for (let last = 0; last === 0; ) {
      last = this.#take(1);
      const kind = this.#take(2);
      if (kind === 3) throw new BrokenError();
      if (kind === 0) this.#stored();
      else if (kind === 1) this.#coded(...fixed());
      else this.#coded(...this.#tables());
    }
    this.#take(this.#bits & 7);
    let sum = 0;
    for (let left = 4; left > 0; left--) sum = sum * 256 + this.#take(8);
    if (sum !== adler(this.result())) throw new BrokenError();
  }

  #take(count: number): number {
    while (this.#bits < count) {
      const byte = this.data[this.#at];
      if (byte === undefined) throw new EndedError();
      this.#held |= byte << this.#bits;
      this.#at++;
      this.#bits += 8;
    }
    const found = this.#held & ((1 << count) - 1);
    this.#held >>>= count;
    this.#bits -= count;
    return found;
  }

  #put(byte: number): void {
    if (this.#size === this.#out.length) {
      const larger = new Uint8Array(2 * this.#size);
      larger.set(this.#out);
      this.#out = larger;
    }
    this.#out[this.#size++] = byte;
    if (this.#size >= this.limit) throw new BrokenError();
  }

  #stored(): void {
    this.#take(this.#bits & 7);
    const length = this.#take(16);
    if ((length ^ this.#take(16)) !== 0xffff) throw new BrokenError();
    for (let left = length; left > 0; left--) this.#put(this.#take(8));
  }

  #tables(): [Code, Code] {
    const literals = this.#take(5) + 257;
    const distances = this.#take(5) + 1;
    const given = this.#take(4) + 4;
    if (literals > 286 || distances > 30) throw new BrokenError();
    const own = new Uint8Array(19);
    for (let place = 0; place < given; place++) own[ORDER[place] as number] = this.#take(3);
    const code = new Code(own, false);
    const lengths = new Uint8Array(literals + distances);
    for (let place = 0; place < lengths.length; ) {
      const symbol = this.#symbol(code);
      if (symbol < 16) {
        lengths[place++] = symbol;
        continue;
      }
      if (symbol === 16 && place === 0) throw new BrokenError();
      const again = symbol === 16 ? (lengths[place - 1] as number) : 0;
      const times =
        symbol === 16 ? 3 + this.#take(2) : symbol === 17 ? 3 + this.#take(3) : 11 + this.#take(7);
      if (place + times > lengths.length) throw new BrokenError();
      lengths.fill(again, place, place + times);
      place += times;
    }
    // Without it no block of this code could end.
    if (lengths[256] === 0) throw new BrokenError();
    return [new Code(lengths.subarray(0, literals), true), new Code(lengths.subarray(literals), true)];
  }

  #symbol(code: Code): number {
    let [value, first, index] = [0, 0, 0];
    for (let length = 1; length <= BITS_MAX; length++) {
      value |= this.#take(1);
      const count = code.counts[length] as number;
      if (value - count < first) return code.symbols[index + value - first] as number;
      index += count;
      first = (first + count) << 1;
      value <<= 1;
    }
    throw new BrokenError();
  }

  #coded(literals: Code, distances: Code): void {
    for (let symbol = this.#symbol(literals); symbol !== 256; symbol = this.#symbol(literals)) {
      if (symbol < 256) {
        this.#put(symbol);
        continue;
      }
      const base = LENGTHS[symbol - 257];
      if (base === undefined) throw new BrokenError();
      const length = base + this.#take(symbol < 265 || symbol === 285 ? 0 : (symbol - 261) >> 2);
      const place = this.#symbol(distances);
      const start = DISTANCES[place];
      if (start === undefined) throw new BrokenError();
      const back = start + this.#take(place < 4 ? 0 : (place - 2) >> 1);
      if (back > this.#size || back > WINDOW) throw new BrokenError();
      for (let left = length; left > 0; left--) this.#put(this.#out[this.#size - back] as number);
    }
  }
}

/** A Huffman code by the lengths of its symbols. Throws BrokenError for more or fewer codes than the format allows. */
class Code {
  readonly counts = new Uint16Array(BITS_MAX + 1);
  readonly symbols: Uint16Array;

  constructor(lengths: Uint8Array, single: boolean) {
    for (const length of lengths) this.counts[length] = (this.counts[length] as number) + 1;
    const used = lengths.length - (this.counts[0] as number);
    this.counts[0] = 0;
    let left = 1;
    let longest = 0;
    for (let length = 1; length <= BITS_MAX; length++) {
      left = left * 2 - (this.counts[length] as number);
      if (left < 0) throw new BrokenError();
      if (this.counts[length]) longest = length;
    }
    if (left > 0 && used > 0 && !(single && longest === 1)) throw new BrokenError();
    const starts = new Uint16Array(BITS_MAX + 2);
    for (let length = 1; length <= BITS_MAX; length++) {
      starts[length + 1] = (starts[length] as number) + (this.counts[length] as number);
    }
    this.symbols = new Uint16Array(used);
    lengths.forEach((length, symbol) => {
      if (length) {
        this.symbols[starts[length] as number] = symbol;
        starts[length] = (starts[length] as number) + 1;
      }
    });
  }
}

let fixedCodes: [Code, Code] | undefined;

function fixed(): [Code, Code] {
  if (fixedCodes === undefined) {
    const lengths = new Uint8Array(288).fill(8).fill(9, 144, 256).fill(7, 256, 280);
    fixedCodes = [new Code(lengths, true), new Code(new Uint8Array(32).fill(5), true)];
  }
  return fixedCodes;
}

function adler(data: Uint8Array): number {
  let [low, high] = [1, 0];
  for (const byte of data) {
    low = (low + byte) % 65_521;
    high = (high + low) % 65_521;
  }
  return high * 65_536 + low;
}
