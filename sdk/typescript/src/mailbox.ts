/** Holds mail from its arrival until the program has processed it. No I/O. */

import { LIMITS, type Event, type Message } from "./types.js";

/**
 * Maximum number of processed message ids that the SDK remembers. A node delivers at most this many
 * messages without an `ack`.
 */
export const MAX_PROCESSED = LIMITS.maxUnacked;

/** A message with its position among all events of the node. */
export interface Entry {
  readonly number: number;
  readonly message: Event & Message;
}

/**
 * The mail of one node. Each message goes to exactly one loop of the program. The node delivers at
 * most `capacity` messages without an `ack`; further messages stay with their senders.
 */
export class Mailbox {
  /** Number of messages dropped unacknowledged, because the node delivered more than `capacity`. */
  dropped = 0;
  readonly #capacity: number;
  readonly #manual: boolean;
  readonly #ack: (messageId: string) => void;
  /** Messages that no loop has received, oldest first. */
  readonly #waiting = new Map<string, Entry>();
  /** Messages that loops gave back, oldest first; all are older than the waiting messages. */
  #returned: Entry[] = [];
  /** Messages that a loop holds. */
  readonly #taken = new Map<string, Entry>();
  /** Ids of processed messages, oldest first. A message arrives again if its `ack` was lost. */
  readonly #processed = new Set<string>();
  #isClosed = false;

  /** `manual`: the program acknowledges mail itself. `ack`: acknowledges a message. */
  constructor(capacity: number, manual: boolean, ack: (messageId: string) => void) {
    this.#capacity = capacity;
    this.#manual = manual;
    this.#ack = ack;
  }

  /** Number of messages that the program has not processed. */
  get size(): number {
    return this.#waiting.size + this.#returned.length + this.#taken.size;
  }

  /** Adds a message that the node delivers. */
  put(number: number, message: Event & Message): void {
    const { messageId } = message;
    if (this.#processed.has(messageId)) {
      // The process ended before the sender got the acknowledgement.
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

  /** The position of the message that `take` would return; `Infinity` if there is none. */
  get first(): number {
    return this.#isClosed ? Infinity : (this.#oldest()?.number ?? Infinity);
  }

  /** Removes and returns the oldest message for a loop; `undefined` if there is none. */
  take(): Entry | undefined {
    const entry = this.#isClosed ? undefined : this.#oldest();
    if (entry === undefined) return undefined;
    if (this.#returned.length > 0) this.#returned.shift();
    else this.#waiting.delete(entry.message.messageId);
    // In manual mode no loop gives a message back, so the box does not track it.
    if (!this.#manual) this.#taken.set(entry.message.messageId, entry);
    return entry;
  }

  /** Records that the program has processed a message, and acknowledges it. */
  finish(entry: Entry): void {
    const { messageId } = entry.message;
    if (this.#taken.get(messageId) !== entry) return;
    this.#taken.delete(messageId);
    this.#remember(messageId);
    this.#ack(messageId);
  }

  /** Puts back a message that the program did not finish. */
  giveBack(entry: Entry): void {
    const { messageId } = entry.message;
    if (this.#taken.get(messageId) !== entry) return;
    this.#taken.delete(messageId);
    this.#returned = [...this.#returned, entry].sort((a, b) => a.number - b.number);
  }

  /** Records that the program has acknowledged a message itself. */
  acked(messageId: string): void {
    if (!this.#manual) this.#remember(messageId);
    this.#taken.delete(messageId);
    this.#waiting.delete(messageId);
    this.#returned = this.#returned.filter((entry) => entry.message.messageId !== messageId);
  }

  /** Drops unread mail when a new process starts, because its senders send it again. */
  processStarted(): void {
    this.#waiting.clear();
    this.#returned = [];
  }

  /** Stops the delivery of mail to the program. */
  close(): void {
    this.#isClosed = true;
  }

  /** Returns the mail that no loop holds, oldest first. */
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
