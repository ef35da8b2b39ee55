/** Matches answers to requests. No I/O: the owner of the channel moves lines and events. */

import { CommandRefused, LineTooLong, type P2PError } from "./errors.js";
import { LIMITS, SDK_LIMITS, type Answer, type Command, type Delivery, type Event, type PeerDiscovered, type Response } from "./types.js";

/** A `result`, and the agents that `discover` found under its id. */
export interface Reply {
  answer: Answer;
  found: PeerDiscovered[];
}

/**
 * The agents that `discover` found. `complete` is `true` if these are all matching agents, as far as
 * the network knows, and `false` if some may be missing.
 */
export type FoundAgents = PeerDiscovered[] & { complete: boolean };

/** Gets one value or one error. */
export interface Waiter<T> {
  resolve(value: T): void;
  reject(error: P2PError): void;
}

export type OnResponse = (response: Response) => void;

interface Pending {
  waiter: Waiter<Reply>;
  found: PeerDiscovered[];
  /** `true` for a `send` or `request`: if repeated, the message may arrive twice. */
  isSend: boolean;
  /** Gets each answer to a request, before `waiter` gets the end. */
  onResponse: OnResponse | undefined;
}

/** Matches the commands to one process with its answers and deliveries. */
export class Channel {
  closed: P2PError | undefined;
  #lastId = 0;
  #pending = new Map<number, Pending>();
  #requests = 0;
  #tracked = new Map<string, Waiter<Delivery>>();

  /**
   * Number of commands without an answer. Requests to agents do not count, because the node limits them
   * by themselves.
   */
  get outstanding(): number {
    return this.#pending.size - this.#requests;
  }

  isPending(id: number): boolean {
    return this.#pending.has(id);
  }

  /** Number of messages whose delivery the channel tracks. */
  get tracked(): number {
    return this.#tracked.size;
  }

  /**
   * Assigns an id to a command that `encode` has made, and returns the id and the line. The answer
   * goes to `waiter`.
   *
   * @throws {LineTooLong} for a line above the limit; the error that closed a closed channel.
   */
  request(command: string, waiter: Waiter<Reply>, isSend = false, onResponse?: OnResponse): { id: number; line: string } {
    if (this.closed !== undefined) throw this.closed;
    const id = this.#lastId + 1;
    const line = `${command.slice(0, -1)},"id":${id}}\n`;
    const bytes = Buffer.byteLength(line) - 1;
    if (bytes > LIMITS.maxLineBytes) throw new LineTooLong(bytes, LIMITS.maxLineBytes);
    this.#lastId = id;
    this.#pending.set(id, { waiter, found: [], isSend, onResponse });
    if (onResponse !== undefined) this.#requests += 1;
    return { id, line };
  }

  /**
   * Sends the delivery of a message to `waiter`. Returns `false` if the channel tracks
   * `maxTrackedMessages` messages already; the delivery then arrives as an event.
   */
  track(messageId: string, waiter: Waiter<Delivery>): boolean {
    if (this.#tracked.size >= SDK_LIMITS.maxTrackedMessages) return false;
    this.#tracked.set(messageId, waiter);
    return true;
  }

  /** Passes an event to its waiter. Returns the event if it has no waiter. */
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
        if (pending === undefined || pending.found.length >= SDK_LIMITS.maxFoundAgents) return event;
        pending.found.push(event);
        return undefined;
      }
      case "response": {
        const pending = typeof event.requestId === "number" ? this.#pending.get(event.requestId) : undefined;
        if (pending?.onResponse === undefined) return event;
        pending.onResponse(event);
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
   * Closes the channel: all waiters and all later requests get an error. Later calls do not change
   * the error for later requests. `error` creates the error; `maySend` is `true` if the process may
   * have sent a message, so that a repeated call may send it twice.
   */
  failAll(error: (maySend: boolean) => P2PError): void {
    this.closed ??= error(false);
    const [pending, tracked] = [[...this.#pending.values()], [...this.#tracked.values()]];
    this.#pending.clear();
    this.#requests = 0;
    this.#tracked.clear();
    for (const { waiter, isSend } of pending) waiter.reject(error(isSend));
    for (const waiter of tracked) waiter.reject(error(true));
  }

  #end(id: unknown): Pending | undefined {
    if (typeof id !== "number") return undefined;
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (pending?.onResponse !== undefined) this.#requests -= 1;
    return pending;
  }
}

/** Encodes a command, without its id, as JSON. */
export function encode(command: Command): string {
  return JSON.stringify(command);
}
