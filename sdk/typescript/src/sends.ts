/** `send`s that wait until the node has room for them: in order for each recipient, and in turn among recipients. No I/O. */

/**
 * `send`s that may wait here, and the bytes of their lines. Ours: more mail than a program should ask for before it waits for an answer,
 * and as much memory as a program can spare.
 */
export const MAX_WAITING_SENDS = 65_536;
export const MAX_WAITING_BYTES = 256 << 20;

/** What the node takes without an answer. */
export interface Credit {
  sends: number;
  bytes: number;
}

interface Lane<T> {
  /** With the bytes of each. */
  waiting: Map<T, number>;
  inFlight: number;
  inFlightBytes: number;
}

/** No recipient has more than half of the credit, so that one that takes nothing leaves the other half to the others. */
export class SendQueue<T> {
  credit: Credit;
  /** Unanswered `send`s, and their bytes. */
  inFlight = 0;
  inFlightBytes = 0;
  size = 0;
  bytes = 0;
  readonly #lanes = new Map<string, Lane<T>>();
  /** Recipients for whom something waits; the next one in turn comes first. */
  readonly #turns = new Set<string>();

  constructor(credit: Credit) {
    this.credit = credit;
  }

  /** Adds a `send`; returns `false` if too many wait already. */
  push(recipient: string, bytes: number, item: T): boolean {
    const isFull = this.size >= MAX_WAITING_SENDS || this.bytes + bytes > MAX_WAITING_BYTES;
    if (isFull && this.size > 0) return false;
    const lane = this.#lanes.get(recipient) ?? { waiting: new Map<T, number>(), inFlight: 0, inFlightBytes: 0 };
    lane.waiting.set(item, bytes);
    this.#lanes.set(recipient, lane);
    this.#turns.add(recipient);
    this.size += 1;
    this.bytes += bytes;
    return true;
  }

  /** Takes the next `send` that may be written; from now on it is in flight. */
  next(): T | undefined {
    for (const recipient of this.#turns) {
      const lane = this.#lanes.get(recipient) as Lane<T>;
      const [first] = lane.waiting;
      if (first === undefined) continue;
      const [item, bytes] = first;
      if (!this.#isWithinShare(lane, bytes)) continue;
      // The recipient keeps its turn, so that a large message gets all the credit that it needs.
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

  /** A `send` in flight has ended. */
  ended(recipient: string, bytes: number): void {
    const lane = this.#lanes.get(recipient);
    if (lane === undefined) return;
    lane.inFlight -= 1;
    lane.inFlightBytes -= bytes;
    this.inFlight -= 1;
    this.inFlightBytes -= bytes;
    this.#tidy(recipient, lane);
  }

  /** Takes back a `send` that waits. */
  remove(recipient: string, item: T): void {
    const lane = this.#lanes.get(recipient);
    const bytes = lane?.waiting.get(item);
    if (lane === undefined || bytes === undefined) return;
    this.#removeWaiting(recipient, lane, item, bytes);
    this.#tidy(recipient, lane);
  }

  /** Takes back all that wait. */
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
    // What is larger than the credit goes alone.
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
