/** Distributes mail, broadcasts and events to the streams of the program. No I/O. */

import { EventBuffer, isMessage, kindOf } from "./events.js";
import { Mailbox } from "./mailbox.js";
import { Stream } from "./stream.js";
import type { Event, Message } from "./types.js";

export interface InboxOptions {
  /** `true` if the program acknowledges mail itself. */
  manual: boolean;
  mailBuffer: number;
  /** Maximum number of buffered broadcasts in each message stream. */
  broadcastBuffer: number;
  /** Maximum number of buffered events of each kind in each event stream. */
  eventBuffer: number;
  /** Acknowledges a message. */
  ack(messageId: string): void;
  /** Reports that the program starts (`true`) or stops waiting for an event. */
  waits(waiting: boolean): void;
}

const isOther = (event: Event): boolean => !isMessage(event);

export class Inbox {
  readonly mailbox: Mailbox;
  readonly #options: InboxOptions;
  readonly #streams = new Set<Stream<never>>();
  /** Buffers for the broadcasts and events that arrive before the first stream. */
  #earlyBroadcasts: EventBuffer | undefined;
  #earlyEvents: EventBuffer | undefined;
  #number = 0;
  #isOver = false;

  constructor(options: InboxOptions) {
    this.#options = options;
    this.mailbox = new Mailbox(options.mailBuffer, options.manual, (messageId) => options.ack(messageId));
    this.#earlyBroadcasts = new EventBuffer(options.broadcastBuffer);
    this.#earlyEvents = new EventBuffer(options.eventBuffer);
  }

  /** Returns a new stream of mail and broadcasts. The first one gets all earlier broadcasts. */
  messages(limit = this.#options.broadcastBuffer): Stream<Event & Message> {
    const stream = this.#open<Event & Message>(limit, isMessage, this.mailbox, this.#earlyBroadcasts);
    this.#earlyBroadcasts = undefined;
    return stream;
  }

  /** Returns a new stream of all other events. The first one gets all earlier events. */
  events(limit = this.#options.eventBuffer): Stream<Event> {
    const stream = this.#open<Event>(limit, isOther, undefined, this.#earlyEvents);
    this.#earlyEvents = undefined;
    return stream;
  }

  /** Passes an event to the mailbox or to the streams. */
  put(event: Event): void {
    if (event.type === "ready") this.mailbox.processStarted();
    this.#number += 1;
    if (isMessage(event) && kindOf(event) === "mail") {
      this.mailbox.put(this.#number, event);
      this.#wake();
      return;
    }
    const early = isMessage(event) ? this.#earlyBroadcasts : this.#earlyEvents;
    early?.push(this.#number, event);
    for (const stream of [...this.#streams]) stream.put(this.#number, event);
  }

  /** Ends all streams, including later ones. */
  end(): void {
    this.mailbox.close();
    this.#isOver = true;
    for (const stream of [...this.#streams]) stream.end();
    this.#streams.clear();
  }

  #open<T>(
    limit: number,
    wanted: (event: Event) => boolean,
    mailbox: Mailbox | undefined,
    early: EventBuffer | undefined,
  ): Stream<T> {
    const stream = new Stream<T>(limit, wanted, mailbox, {
      ended: (ended) => this.#streams.delete(ended as Stream<never>),
      waits: (waiting) => this.#options.waits(waiting),
      returned: () => this.#wake(),
    });
    if (early !== undefined) stream.adopt(early);
    if (this.#isOver) stream.end();
    else this.#streams.add(stream as Stream<never>);
    return stream;
  }

  #wake(): void {
    for (const stream of [...this.#streams]) stream.wake();
  }
}
