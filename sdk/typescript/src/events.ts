/** Events other than mail, for a program that reads them later: bounded, and the oldest gives way. No I/O. */

import type { Event, Message } from "./types.js";

/** Kinds of events. None takes room from another. */
type Kind = "mail" | "broadcast" | "news" | "other";

/** What the node tells about peers and about itself, in any amount. */
const NEWS: ReadonlySet<Event["type"]> = new Set(["peer_discovered", "peer_connected", "peer_disconnected", "log", "overflow"]);

export function isMessage(event: Event): event is Event & Message {
  return event.type === "message";
}

export function kindOf(event: Event): Kind {
  if (isMessage(event)) return event.topic === undefined ? "mail" : "broadcast";
  return NEWS.has(event.type) ? "news" : "other";
}

/** Holds at most `limit` events of each kind. */
export class EventBuffer {
  /** Events that gave way. */
  dropped = 0;
  readonly #limit: number;
  /** Each event with its place among all that the node told. */
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

  /** The number of the oldest event; `Infinity` when there is none. */
  get first(): number {
    return this.#oldest()?.[0]?.[0] ?? Infinity;
  }

  /** Removes the oldest event. */
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
