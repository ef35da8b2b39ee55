/** What the node tells unasked, and the streams that the program reads. No I/O. */

import { EventBuffer, isMessage, kindOf } from "./events.js";
import { Mailbox } from "./mailbox.js";
import { Stream } from "./stream.js";
import type { Event, Message } from "./types.js";

export interface InboxOptions {
  /** The program acknowledges by itself. */
  manual: boolean;
  mailBuffer: number;
  /** Broadcasts that wait in each stream of messages. */
  broadcastBuffer: number;
  /** Events of each kind that wait in each stream of events. */
  eventBuffer: number;
  /** The SDK has to acknowledge a mail. */
  ack(messageId: string): void;
  /** The program begins to wait for an event, or does not wait any more. */
  waits(waiting: boolean): void;
}

const isOther = (event: Event): boolean => !isMessage(event);

export class Inbox {
  readonly mailbox: Mailbox;
  readonly #options: InboxOptions;
  readonly #streams = new Set<Stream<never>>();
  /** What came before the first stream of messages, and of events. */
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

  /** A stream of mail and broadcasts. The first one begins with the broadcasts that came before it. */
  messages(limit = this.#options.broadcastBuffer): Stream<Event & Message> {
    const stream = this.#open<Event & Message>(limit, isMessage, this.mailbox, this.#earlyBroadcasts);
    this.#earlyBroadcasts = undefined;
    return stream;
  }

  /** A stream of everything else. The first one begins with what came before it. */
  events(limit = this.#options.eventBuffer): Stream<Event> {
    const stream = this.#open<Event>(limit, isOther, undefined, this.#earlyEvents);
    this.#earlyEvents = undefined;
    return stream;
  }

  /** Takes what the node told. */
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

  /** Nothing comes any more. */
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
