/**
 * `send`s that wait for credit: in order for each recipient, and in turn among recipients. No I/O.
 */

import { SDK_LIMITS } from "./types.js";

/**
 * Maximum size in bytes of the lines of waiting `send`s. A program should wait for answers well
 * before it reaches this limit or `SDK_LIMITS.maxWaitingSends`.
 */
export const MAX_WAITING_BYTES = 256 << 20;

/** The unanswered `send`s, and the bytes of their lines, that the node accepts. */
export interface Credit {
  sends: number;
  bytes: number;
}

interface Lane<T> {
  /** Each `send` with the size of its line in bytes. */
  waiting: Map<T, number>;
  inFlight: number;
  inFlightBytes: number;
}

/** Each recipient gets at most half of the credit, so that a slow one cannot block the others. */
export class SendQueue<T> {
  credit: Credit;
  /** Number of unanswered `send`s, and their bytes. */
  inFlight = 0;
  inFlightBytes = 0;
  size = 0;
  bytes = 0;
  readonly #lanes = new Map<string, Lane<T>>();
  /** Recipients with a waiting `send`; the queue serves the first one next. */
  readonly #turns = new Set<string>();

  constructor(credit: Credit) {
    this.credit = credit;
  }

  /** Adds a `send`. Returns `false` if too many `send`s already wait. */
  push(recipient: string, bytes: number, item: T): boolean {
    const isFull = this.size >= SDK_LIMITS.maxWaitingSends || this.bytes + bytes > MAX_WAITING_BYTES;
    if (isFull && this.size > 0) return false;
    const lane = this.#lanes.get(recipient) ?? { waiting: new Map<T, number>(), inFlight: 0, inFlightBytes: 0 };
    lane.waiting.set(item, bytes);
    this.#lanes.set(recipient, lane);
    this.#turns.add(recipient);
    this.size += 1;
    this.bytes += bytes;
    return true;
  }

  /** Removes and returns the next `send` that may be written. It uses credit until `ended`. */
  next(): T | undefined {
    for (const recipient of this.#turns) {
      const lane = this.#lanes.get(recipient) as Lane<T>;
      const [first] = lane.waiting;
      if (first === undefined) continue;
      const [item, bytes] = first;
      if (!this.#isWithinShare(lane, bytes)) continue;
      // The recipient keeps its turn, so that a large message gets enough credit.
      if (!this.#hasCredit(bytes)) return undefined;
      this.#removeWaiting(recipient, lane, item, bytes);
      if (this.#turns.delete(recipient)) this.#turns.add(recipient);
      lane.inFlight += 1;
      lane.inFlightBytes += bytes;
      this.inFlight += 1;
      this.inFlightBytes += bytes;
      return item;
    }
    return undefined;
  }

  /** Releases the credit of a `send` that was answered or has failed. */
  ended(recipient: string, bytes: number): void {
    const lane = this.#lanes.get(recipient);
    if (lane === undefined) return;
    lane.inFlight -= 1;
    lane.inFlightBytes -= bytes;
    this.inFlight -= 1;
    this.inFlightBytes -= bytes;
    this.#tidy(recipient, lane);
  }

  /** Removes a waiting `send`. */
  remove(recipient: string, item: T): void {
    const lane = this.#lanes.get(recipient);
    const bytes = lane?.waiting.get(item);
    if (lane === undefined || bytes === undefined) return;
    this.#removeWaiting(recipient, lane, item, bytes);
    this.#tidy(recipient, lane);
  }

  /** Removes and returns all waiting `send`s. */
  clear(): T[] {
    const items: T[] = [];
    for (const [recipient, lane] of [...this.#lanes]) {
      for (const item of [...lane.waiting.keys()]) {
        items.push(item);
        this.remove(recipient, item);
      }
    }
    return items;
  }

  #hasCredit(bytes: number): boolean {
    const { sends, bytes: all } = this.credit;
    // A `send` that is larger than the credit goes alone.
    return this.inFlight === 0 || (this.inFlight < sends && this.inFlightBytes + bytes <= all);
  }

  #isWithinShare(lane: Lane<T>, bytes: number): boolean {
    const { sends, bytes: all } = this.credit;
    return lane.inFlight === 0 || (lane.inFlight < sends / 2 && lane.inFlightBytes + bytes <= all / 2);
  }

  #removeWaiting(recipient: string, lane: Lane<T>, item: T, bytes: number): void {
    lane.waiting.delete(item);
    if (lane.waiting.size === 0) this.#turns.delete(recipient);
    this.size -= 1;
    this.bytes -= bytes;
  }

  #tidy(recipient: string, lane: Lane<T>): void {
    if (lane.inFlight === 0 && lane.waiting.size === 0) this.#lanes.delete(recipient);
  }
}
