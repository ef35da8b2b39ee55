/** Collects acknowledgements into few `ack` commands. No I/O. */

import type { Waiter } from "./channel.js";
import { CommandRefused, type P2PError } from "./errors.js";
import { ErrorCode, FIELD_LIMITS, type Command } from "./types.js";

/** The messages of one `ack`, with the calls that wait for its answer. */
export type AckBatch = Map<string, Waiter<void>[]>;

/** At most one `ack` is unanswered at a time; messages processed meanwhile go into the next one. */
export class AckQueue {
  /** Number of messages unknown to the node: their sender gave up, or the node restarted. */
  notFound = 0;
  #waiting: AckBatch = new Map();
  readonly #unanswered = new Set<AckBatch>();

  /** Number of messages without an answered `ack`. */
  get size(): number {
    return [...this.#unanswered].reduce((sum, batch) => sum + batch.size, this.#waiting.size);
  }

  /** `true` if the SDK has not yet written an `ack` for some message. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** `true` if the SDK may write the next `ack` now. */
  get isDue(): boolean {
    return this.#unanswered.size === 0 && this.hasWaiting;
  }

  /** Adds a message; `waiter` gets the answer of the node. */
  add(messageId: string, waiter?: Waiter<void>): void {
    const waiters = this.#waiting.get(messageId) ?? [];
    if (waiter !== undefined) waiters.push(waiter);
    this.#waiting.set(messageId, waiters);
  }

  /** Removes and returns the messages of the next `ack`. */
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

  /** Records that the node accepted an `ack`. */
  accepted(batch: AckBatch): void {
    this.#unanswered.delete(batch);
    for (const waiter of [...batch.values()].flat()) waiter.resolve();
  }

  /** Records that the node rejected an `ack`. Returns `true` if the SDK must repeat it later. */
  refused(batch: AckBatch, error: P2PError): boolean {
    this.#unanswered.delete(batch);
    if (error.code === ErrorCode.BUSY) {
      this.#waiting = new Map([...batch, ...this.#waiting]);
      return true;
    }
    // With DISK_FULL the `ack` counts; the node itself retries the write.
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
   * Handles the end of the process: fails the unanswered calls. The senders send unacknowledged
   * mail again, so only acks with a waiting call stay queued for the next process.
   */
  lost(error: P2PError): void {
    const waiters = [...this.#unanswered].flatMap((batch) => [...batch.values()].flat());
    this.#unanswered.clear();
    this.#waiting = new Map([...this.#waiting].filter(([, waiting]) => waiting.length > 0));
    for (const waiter of waiters) waiter.reject(error);
  }

  /** Fails all calls, because there will be no other process. */
  failAll(error: P2PError): void {
    this.lost(error);
    const waiters = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    for (const waiter of waiters) waiter.reject(error);
  }

  /** Removes the waiter of a call that no longer waits. The `ack` itself stays queued. */
  remove(messageId: string, waiter: Waiter<void>): void {
    for (const batch of [this.#waiting, ...this.#unanswered]) {
      const waiters = batch.get(messageId);
      if (waiters?.includes(waiter)) batch.set(messageId, waiters.filter((other) => other !== waiter));
    }
  }
}

/** Builds the `ack` command of a batch. */
export function ackOf(batch: AckBatch): Command {
  return { type: "ack", messageIds: [...batch.keys()] };
}

/** Returns the message ids that the node did not know; `undefined` means all of them. */
function unknownIds(error: P2PError): Set<unknown> | undefined {
  const details = error instanceof CommandRefused ? (error.details as { messageIds?: unknown } | undefined) : undefined;
  return error.code === ErrorCode.MESSAGE_NOT_FOUND && Array.isArray(details?.messageIds) ? new Set(details.messageIds) : undefined;
}
