/** Bounded buffers for events other than mail. A full buffer drops its oldest event. No I/O. */

import type { Event, Message } from "./types.js";

/** The kinds of events. Each has its own buffer. */
type Kind = "mail" | "broadcast" | "news" | "other";

/** Peer events, logs and overflow reports: of unlimited number. */
const NEWS: ReadonlySet<Event["type"]> = new Set([
  "peer_discovered",
  "peer_connected",
  "peer_disconnected",
  "peer_banned",
  "peer_unbanned",
  "transfer",
  "log",
  "overflow",
]);

export function isMessage(event: Event): event is Event & Message {
  return event.type === "message";
}

export function kindOf(event: Event): Kind {
  if (isMessage(event)) return event.topic === undefined ? "mail" : "broadcast";
  return NEWS.has(event.type) ? "news" : "other";
}

/** Holds at most `limit` events of each kind; a full kind drops its oldest event. */
export class EventBuffer {
  /** Number of dropped events. */
  dropped = 0;
  readonly #limit: number;
  /** Each event with its position among all events of the node. */
  readonly #queues = new Map<Kind, [number, Event][]>();

  constructor(limit: number) {
    this.#limit = Math.max(1, limit);
  }

  push(number: number, event: Event): void {
    const kind = kindOf(event);
    const queue = this.#queues.get(kind) ?? [];
    this.#queues.set(kind, queue);
    if (queue.length >= this.#limit) {
      queue.shift();
      this.dropped += 1;
    }
    queue.push([number, event]);
  }

  /** The position of the oldest event; `Infinity` if there is none. */
  get first(): number {
    return this.#oldest()?.[0]?.[0] ?? Infinity;
  }

  /** Removes and returns the oldest event; `undefined` if there is none. */
  shift(): Event | undefined {
    return this.#oldest()?.shift()?.[1];
  }

  clear(): void {
    this.#queues.clear();
  }

  #oldest(): [number, Event][] | undefined {
    let oldest: [number, Event][] | undefined;
    for (const queue of this.#queues.values()) {
      if ((queue[0]?.[0] ?? Infinity) < (oldest?.[0]?.[0] ?? Infinity)) oldest = queue;
    }
    return oldest;
  }
}
