/** Mail from the node until the program has processed it. No I/O. */

import { LIMITS, type Event, type Message } from "./types.js";

/** Ids of processed mail that the SDK remembers: as many as a node leaves without an `ack`. */
export const MAX_PROCESSED = LIMITS.maxUnacked;

/** A mail with its place among all that the node told. */
export interface Entry {
  readonly number: number;
  readonly message: Event & Message;
}

/**
 * The mail of one node. Each goes to exactly one loop of the program. The node hands over `capacity` mails without an `ack` at most, so
 * that the box never holds more; the rest stays with the senders.
 */
export class Mailbox {
  /** Mail that a defective node handed over beyond the capacity. It is not acknowledged. */
  dropped = 0;
  readonly #capacity: number;
  readonly #manual: boolean;
  readonly #ack: (messageId: string) => void;
  /** Mail that no loop has, oldest first. */
  readonly #waiting = new Map<string, Entry>();
  /** Mail that a loop left in the middle. It came before all that waits. */
  #returned: Entry[] = [];
  /** Mail that a loop has. */
  readonly #taken = new Map<string, Entry>();
  /** Mail that the program has processed, oldest first: it comes again when its `ack` was lost with a process. */
  readonly #processed = new Set<string>();
  #isClosed = false;

  /** `manual`: the program acknowledges by itself. `ack`: the SDK has to acknowledge a mail. */
  constructor(capacity: number, manual: boolean, ack: (messageId: string) => void) {
    this.#capacity = capacity;
    this.#manual = manual;
    this.#ack = ack;
  }

  /** Mail that the program has not processed. */
  get size(): number {
    return this.#waiting.size + this.#returned.length + this.#taken.size;
  }

  /** Takes a mail that the node hands over. */
  put(number: number, message: Event & Message): void {
    const { messageId } = message;
    if (this.#processed.has(messageId)) {
      // The process that had the `ack` is gone, and the sender does not know yet.
      this.#ack(messageId);
      return;
    }
    const isReturned = this.#returned.some((entry) => entry.message.messageId === messageId);
    if (isReturned || this.#waiting.has(messageId) || this.#taken.has(messageId)) return;
    if (this.#waiting.size + this.#returned.length >= this.#capacity) {
      this.dropped += 1;
      return;
    }
    this.#waiting.set(messageId, { number, message });
  }

  /** The number of the mail that `take` would return; `Infinity` when there is none. */
  get first(): number {
    return this.#isClosed ? Infinity : (this.#oldest()?.number ?? Infinity);
  }

  /** The oldest mail, for a loop that asks for one. `undefined` when there is none. */
  take(): Entry | undefined {
    const entry = this.#isClosed ? undefined : this.#oldest();
    if (entry === undefined) return undefined;
    if (this.#returned.length > 0) this.#returned.shift();
    else this.#waiting.delete(entry.message.messageId);
    // A program that acknowledges mail itself has it for good.
    if (!this.#manual) this.#taken.set(entry.message.messageId, entry);
    return entry;
  }

  /** The program has processed a mail. */
  finish(entry: Entry): void {
    const { messageId } = entry.message;
    if (this.#taken.get(messageId) !== entry) return;
    this.#taken.delete(messageId);
    this.#remember(messageId);
    this.#ack(messageId);
  }

  /** The program left a mail in the middle. */
  giveBack(entry: Entry): void {
    const { messageId } = entry.message;
    if (this.#taken.get(messageId) !== entry) return;
    this.#taken.delete(messageId);
    this.#returned = [...this.#returned, entry].sort((a, b) => a.number - b.number);
  }

  /** The program acknowledges a mail itself. */
  acked(messageId: string): void {
    if (!this.#manual) this.#remember(messageId);
    this.#taken.delete(messageId);
    this.#waiting.delete(messageId);
    this.#returned = this.#returned.filter((entry) => entry.message.messageId !== messageId);
  }

  /** Another process takes over. What no loop has comes again, because its senders still have it. */
  processStarted(): void {
    this.#waiting.clear();
    this.#returned = [];
  }

  /** Hands out no more mail. */
  close(): void {
    this.#isClosed = true;
  }

  /** The mail that no loop has, oldest first. */
  drainMail(): Message[] {
    return [...this.#returned, ...this.#waiting.values()].map((entry) => entry.message);
  }

  #oldest(): Entry | undefined {
    const [waiting] = this.#waiting.values();
    return this.#returned[0] ?? waiting;
  }

  #remember(messageId: string): void {
    this.#processed.add(messageId);
    const [oldest] = this.#processed;
    if (this.#processed.size > MAX_PROCESSED && oldest !== undefined) this.#processed.delete(oldest);
  }
}
