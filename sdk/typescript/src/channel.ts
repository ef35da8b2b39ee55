/** Which answer belongs to which request. No I/O: whoever holds the channel moves lines and events, and wakes those who wait. */

import { CommandRefused, LineTooLong, type P2PError } from "./errors.js";
import { LIMITS, type Answer, type Command, type Delivery, type Event, type PeerDiscovered } from "./types.js";

/**
 * Mails whose delivery is awaited at the same time. The node's outbox holds 8 MiB, which is fewer mails than this as soon as they have
 * 128 bytes.
 */
export const MAX_TRACKED = 65_536;
/** Agents that are gathered for one `discover`; what is found beyond that comes as events. */
export const MAX_FOUND = 4096;

/** A `result`, and what came before it under its id. */
export interface Reply {
  answer: Answer;
  found: PeerDiscovered[];
}

/** Told once: with a value, or with why there is none. */
export interface Waiter<T> {
  resolve(value: T): void;
  reject(error: P2PError): void;
}

interface Pending {
  waiter: Waiter<Reply>;
  found: PeerDiscovered[];
  /** Asked twice, it would be done twice. */
  isSend: boolean;
}

/** Correlates what is sent to one process with what comes back. */
export class Channel {
  closed: P2PError | undefined;
  #lastId = 0;
  #pending = new Map<number, Pending>();
  #tracked = new Map<string, Waiter<Delivery>>();

  /** Requests without an answer. */
  get outstanding(): number {
    return this.#pending.size;
  }

  isPending(id: number): boolean {
    return this.#pending.has(id);
  }

  /** Mails whose delivery is awaited. */
  get tracked(): number {
    return this.#tracked.size;
  }

  /** The id and the line of a command that `encode` has made; its answer goes to `waiter`. */
  request(command: string, waiter: Waiter<Reply>, isSend = false): { id: number; line: string } {
    if (this.closed !== undefined) throw this.closed;
    const id = this.#lastId + 1;
    const line = `${command.slice(0, -1)},"id":${id}}\n`;
    const bytes = Buffer.byteLength(line) - 1;
    if (bytes > LIMITS.maxLineBytes) throw new LineTooLong(bytes, LIMITS.maxLineBytes);
    this.#lastId = id;
    this.#pending.set(id, { waiter, found: [], isSend });
    return { id, line };
  }

  /** Has a delivery go to `waiter`, if there is room; otherwise it comes as an event. */
  track(messageId: string, waiter: Waiter<Delivery>): boolean {
    if (this.#tracked.size >= MAX_TRACKED) return false;
    this.#tracked.set(messageId, waiter);
    return true;
  }

  /** Takes what the node said; returns it if nobody waits for it. */
  receive(event: Event): Event | undefined {
    switch (event.type) {
      case "result": {
        const pending = this.#end(event.id);
        pending?.waiter.resolve({ answer: event, found: pending.found });
        return pending === undefined ? event : undefined;
      }
      case "error": {
        const pending = this.#end(event.id);
        pending?.waiter.reject(new CommandRefused(event.code, event.message, event.retryable, event.details));
        return pending === undefined ? event : undefined;
      }
      case "peer_discovered": {
        const pending = typeof event.requestId === "number" ? this.#pending.get(event.requestId) : undefined;
        if (pending === undefined || pending.found.length >= MAX_FOUND) return event;
        pending.found.push(event);
        return undefined;
      }
      case "delivery": {
        const waiter = this.#tracked.get(event.messageId);
        if (waiter === undefined) return event;
        this.#tracked.delete(event.messageId);
        waiter.resolve(event);
        return undefined;
      }
      default:
        return event;
    }
  }

  /**
   * Ends the channel: every waiter gets an error, and every later request. Only the first call counts. `error` makes it; `maySend`: mail
   * may have been sent, so that the same call once more may send it twice.
   */
  failAll(error: (maySend: boolean) => P2PError): void {
    this.closed ??= error(false);
    const [pending, tracked] = [[...this.#pending.values()], [...this.#tracked.values()]];
    this.#pending.clear();
    this.#tracked.clear();
    for (const { waiter, isSend } of pending) waiter.reject(error(isSend));
    for (const waiter of tracked) waiter.reject(error(true));
  }

  #end(id: unknown): Pending | undefined {
    if (typeof id !== "number") return undefined;
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }
}

/** A command without its id. */
export function encode(command: Command): string {
  return JSON.stringify(command);
}
