/** Mail whose `ack` is on its way to the node, gathered into few commands. No I/O. */

import type { Waiter } from "./channel.js";
import { CommandRefused, type P2PError } from "./errors.js";
import { ErrorCode, FIELD_LIMITS, type Command } from "./types.js";

/** The messages of one `ack`, with the calls that wait for its answer. */
export type AckBatch = Map<string, Waiter<void>[]>;

/** One `ack` is under way at a time; what is processed meanwhile goes with the next one. */
export class AckQueue {
  /** Messages that the node did not know any more: the sender had given them up, or the node was started again. */
  notFound = 0;
  #waiting: AckBatch = new Map();
  readonly #unanswered = new Set<AckBatch>();

  /** Messages whose `ack` the node has not answered. */
  get size(): number {
    return [...this.#unanswered].reduce((sum, batch) => sum + batch.size, this.#waiting.size);
  }

  /** Some messages are in no `ack` that was written. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** There is an `ack` to write. */
  get isDue(): boolean {
    return this.#unanswered.size === 0 && this.hasWaiting;
  }

  /** Adds a message; `waiter` hears how the node answers. */
  add(messageId: string, waiter?: Waiter<void>): void {
    const waiters = this.#waiting.get(messageId) ?? [];
    if (waiter !== undefined) waiters.push(waiter);
    this.#waiting.set(messageId, waiters);
  }

  /** Takes the messages of the next `ack`. */
  next(): AckBatch {
    const batch: AckBatch = new Map();
    for (const [messageId, waiters] of this.#waiting) {
      if (batch.size === FIELD_LIMITS.maxAckMessages) break;
      batch.set(messageId, waiters);
    }
    for (const messageId of batch.keys()) this.#waiting.delete(messageId);
    this.#unanswered.add(batch);
    return batch;
  }

  /** The node took an `ack`. */
  accepted(batch: AckBatch): void {
    this.#unanswered.delete(batch);
    for (const waiter of [...batch.values()].flat()) waiter.resolve();
  }

  /** The node refused an `ack`. Returns `true` if it has to be written again later. */
  refused(batch: AckBatch, error: P2PError): boolean {
    this.#unanswered.delete(batch);
    if (error.code === ErrorCode.BUSY) {
      this.#waiting = new Map([...batch, ...this.#waiting]);
      return true;
    }
    // With DISK_FULL the `ack` counts, and the node itself goes on trying to write it.
    const unknown = unknownIds(error);
    const isUnknown = error.code === ErrorCode.MESSAGE_NOT_FOUND;
    for (const [messageId, waiters] of batch) {
      const isRefused = unknown === undefined || unknown.has(messageId);
      if (isRefused && isUnknown) this.notFound += 1;
      for (const waiter of waiters) isRefused ? waiter.reject(error) : waiter.resolve();
    }
    return false;
  }

  /**
   * The process of the node has ended. Its mail comes again to the next one, so that only what a call of the program waits for is written
   * to that.
   */
  lost(error: P2PError): void {
    const waiters = [...this.#unanswered].flatMap((batch) => [...batch.values()].flat());
    this.#unanswered.clear();
    this.#waiting = new Map([...this.#waiting].filter(([, waiting]) => waiting.length > 0));
    for (const waiter of waiters) waiter.reject(error);
  }

  /** There will be no other process. */
  failAll(error: P2PError): void {
    this.lost(error);
    const waiters = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    for (const waiter of waiters) waiter.reject(error);
  }

  /** A call of the program waits no longer. */
  remove(messageId: string, waiter: Waiter<void>): void {
    for (const batch of [this.#waiting, ...this.#unanswered]) {
      const waiters = batch.get(messageId);
      if (waiters?.includes(waiter)) batch.set(messageId, waiters.filter((other) => other !== waiter));
    }
  }
}

/** The command for some messages. */
export function ackOf(batch: AckBatch): Command {
  return { type: "ack", messageIds: [...batch.keys()] };
}

/** The messages that the node did not know; `undefined`: all of them. */
function unknownIds(error: P2PError): Set<unknown> | undefined {
  const details = error instanceof CommandRefused ? (error.details as { messageIds?: unknown } | undefined) : undefined;
  return error.code === ErrorCode.MESSAGE_NOT_FOUND && Array.isArray(details?.messageIds) ? new Set(details.messageIds) : undefined;
}
