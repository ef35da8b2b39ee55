/** Writes lines to the child's stdin in pieces, so that the SDK sees the child's progress. */

import type { Writable } from "node:stream";

import { LONGEST_MS } from "./timer.js";

/** Maximum size of one write in bytes: the capacity of a Linux pipe. */
const PIECE_BYTES = 64 * 1024;
/** Number of checks per timeout. A pause of this program or of the machine skips only one check. */
const LOOKS = 5;

/** Writes to one child. Uses its own timer, because a pipe has no timeout under Bun. */
export class LineWriter {
  readonly #stdin: Writable;
  readonly #idle: () => void;
  readonly #stuck: () => void;
  #lines: string[] = [];
  #length = 0;
  /** The unwritten rest of the lines in progress. */
  #rest = Buffer.alloc(0);
  #isWriting = false;
  #looks = 0;
  #timer: NodeJS.Timeout | undefined;
  /** How long the child may neither read nor write while a write is pending, in ms. */
  timeoutMs: number;

  constructor(stdin: Writable, timeoutMs: number, told: { idle: () => void; stuck: () => void }) {
    this.#stdin = stdin;
    this.timeoutMs = timeoutMs;
    this.#idle = told.idle;
    this.#stuck = told.stuck;
  }

  /** `true` if one more line may be added now. */
  get hasRoom(): boolean {
    return !this.#isWriting && this.#length < PIECE_BYTES && this.#stdin.writable;
  }

  add(line: string): void {
    this.#lines.push(line);
    this.#length += line.length;
  }

  /** Writes the added lines, unless a write is pending. */
  flush(): void {
    if (this.#isWriting || !this.#stdin.writable) return;
    if (this.#rest.length === 0) this.#rest = this.#takeLines();
    if (this.#rest.length === 0) return;
    const piece = this.#rest.subarray(0, PIECE_BYTES);
    this.#rest = this.#rest.subarray(PIECE_BYTES);
    this.#isWriting = true;
    this.#watch();
    this.#stdin.write(piece, () => {
      this.#isWriting = false;
      this.progress();
      if (this.#rest.length > 0) {
        this.flush();
        return;
      }
      this.#unwatch();
      this.#idle();
    });
  }

  /** Writes all added lines and then `line`, and closes the pipe. */
  end(line: string): void {
    if (!this.#stdin.writable) return;
    const rest = Buffer.concat([this.#rest, this.#takeLines(), Buffer.from(line)]);
    this.#rest = Buffer.alloc(0);
    this.#stdin.end(rest);
  }

  /** Records that the child has read or written bytes. */
  progress(): void {
    this.#looks = 0;
  }

  #takeLines(): Buffer<ArrayBuffer> {
    const lines = Buffer.from(this.#lines.join(""));
    this.#lines = [];
    this.#length = 0;
    return lines;
  }

  #watch(): void {
    if (this.#timer !== undefined) return;
    this.#looks = 0;
    this.#timer = setInterval(() => this.#look(), Math.min(this.timeoutMs / LOOKS, LONGEST_MS));
    this.#timer.unref();
  }

  #unwatch(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    this.#looks += 1;
    if (!this.#stdin.writable) this.#unwatch();
    if (this.#timer === undefined || this.#looks < LOOKS) return;
    this.#unwatch();
    this.#stuck();
  }
}
