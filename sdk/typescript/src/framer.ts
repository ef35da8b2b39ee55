/** Splits bytes into lines. No I/O. */

import { LIMITS } from "./types.js";

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = "\u{feff}";

/**
 * Splits a byte stream into lines at `\n` only, and then decodes each line. The chunk boundaries
 * have no effect. Skips blank lines. Skips lines longer than `limit` bytes and counts them in
 * `tooLong`.
 */
export class Framer {
  tooLong = 0;
  readonly #limit: number;
  #partial: Buffer[] = [];
  #length = 0;
  #skipping = false;
  #atStart = true;

  constructor(limit = LIMITS.maxLineBytes) {
    this.#limit = limit;
  }

  /** Number of buffered bytes of an incomplete line. */
  get waiting(): number {
    return this.#length;
  }

  /** Adds the next chunk; returns the lines that end in it. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const part = chunk.subarray(start, end);
      start = end + 1;
      if (this.#skipping) {
        this.#skipping = false;
        continue;
      }
      const line = this.#length === 0 ? part : Buffer.concat([...this.#partial, part]);
      this.#forget();
      this.#take(line, lines);
    }
    if (!this.#skipping && start < chunk.length) {
      this.#partial.push(chunk.subarray(start));
      this.#length += chunk.length - start;
      // The limit excludes a carriage return (1 byte) and a byte order mark (3 bytes).
      if (this.#length > this.#limit + 4) {
        this.#forget();
        this.#skipping = true;
        this.#atStart = false;
        this.tooLong += 1;
      }
    }
    return lines;
  }

  #take(bytes: Buffer, lines: string[]): void {
    const bare = bytes.at(-1) === CARRIAGE_RETURN ? bytes.subarray(0, -1) : bytes;
    let text = bare.toString("utf8");
    let length = bare.length;
    if (this.#atStart && text.startsWith(BYTE_ORDER_MARK)) {
      text = text.slice(1);
      length -= 3;
    }
    this.#atStart = false;
    if (length > this.#limit) {
      this.tooLong += 1;
    } else if (text.trim() !== "") {
      lines.push(text);
    }
  }

  #forget(): void {
    this.#partial = [];
    this.#length = 0;
  }
}
