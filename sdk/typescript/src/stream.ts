/** Async iterators over events and mail. No stream pauses the reading of the node's output. */

import { EventBuffer } from "./events.js";
import type { Entry, Mailbox } from "./mailbox.js";
import type { Event } from "./types.js";

/** Handles the notifications of a stream. */
export interface Owner<T> {
  /** The stream accepts no more events. */
  ended(stream: Stream<T>): void;
  /** The program starts (`true`) or stops waiting for an event. */
  waits(waiting: boolean): void;
  /** A loop has given mail back. */
  returned(): void;
}

type Result<T> = IteratorResult<T, undefined>;

/** The source of a loop. */
interface Source<T> {
  mailbox: Mailbox | undefined;
  take(loop: Loop<T>): Promise<Result<T>>;
  left(loop: Loop<T>): void;
}

/** One `for await` over a stream, with the messages that it has received and not processed. */
class Loop<T> implements AsyncIterableIterator<T> {
  readonly #source: Source<T>;
  /**
   * `true`: the program has seen the message, so its next call of `next` means that it has
   * processed it.
   */
  readonly #held = new Map<Entry, boolean>();

  constructor(source: Source<T>) {
    this.#source = source;
  }

  /** Holds a message that the loop delivers to the program. */
  hold(entry: Entry): void {
    this.#held.set(entry, false);
    // The microtask runs before the program sees the message. Two calls of `next` in one tick
    // therefore acknowledge nothing.
    queueMicrotask(() => this.#held.has(entry) && this.#held.set(entry, true));
  }

  /** Moves the messages of another loop to this one. */
  follow(other: Loop<T>): void {
    for (const [entry, seen] of other.#held) this.#held.set(entry, seen);
    other.#held.clear();
  }

  /** Acknowledges the messages that the program has seen. */
  finish(): void {
    for (const [entry, seen] of this.#held) {
      if (!seen) continue;
      this.#held.delete(entry);
      this.#source.mailbox?.finish(entry);
    }
  }

  /** Gives all held messages back to the mailbox. */
  giveBack(): void {
    for (const entry of this.#held.keys()) this.#source.mailbox?.giveBack(entry);
    this.#held.clear();
  }

  next(): Promise<Result<T>> {
    this.finish();
    return this.#source.take(this);
  }

  return(): Promise<Result<T>> {
    this.#source.left(this);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/**
 * An async iterator over events. Each mail message goes to exactly one loop of all streams of a
 * node; every other event goes to every stream.
 *
 * With `ack: "auto"` the SDK acknowledges a message when its loop asks for the next event. If
 * `break`, `return` or an exception leaves the loop in the middle, the SDK does not acknowledge the
 * message, and the next loop begins with it. Call `node.ack` before such a `break` if the program
 * has processed the message. The SDK acknowledges a message from `next` at the following `next` and
 * at `return`.
 *
 * A full buffer drops the oldest event of its kind. The stream never drops mail.
 */
export class Stream<T> implements AsyncIterableIterator<T> {
  readonly #desired: (event: Event) => boolean;
  readonly #owner: Owner<T>;
  readonly #events: EventBuffer;
  readonly #source: Source<T>;
  /** Holds the messages that `next` returned. */
  readonly #own: Loop<T>;
  readonly #loops = new Set<Loop<T>>();
  #takers: { loop: Loop<T>; resolve(result: Result<T> | Promise<never>): void }[] = [];
  #ended = false;
  /** The error that the next read of the ended stream reports. */
  #failure: Error | undefined;
  #tellEnd!: () => void;
  /** @internal Resolves when the stream accepts no more events. */
  readonly ended = new Promise<void>((resolve) => (this.#tellEnd = resolve));

  /** @internal `mailbox`: the source of mail, for a message stream. */
  constructor(limit: number, wanted: (event: Event) => boolean, mailbox: Mailbox | undefined, owner: Owner<T>) {
    this.#desired = wanted;
    this.#owner = owner;
    this.#events = new EventBuffer(limit);
    this.#source = { mailbox, take: (loop) => this.#take(loop), left: (loop) => this.#loopLeft(loop) };
    this.#own = new Loop(this.#source);
  }

  /**
   * Returns the number of events that the stream dropped because the program did not read them. The
   * stream never drops mail.
   */
  get dropped(): number {
    return this.#events.dropped;
  }

  /** @internal Adds an event other than mail. */
  put(number: number, event: Event): void {
    if (this.#ended || !this.#desired(event)) return;
    this.#events.push(number, event);
    this.wake();
  }

  /** @internal Takes over the events that arrived before the stream existed. */
  adopt(events: EventBuffer): void {
    this.#events.dropped += events.dropped;
    for (let number = events.first; number !== Infinity; number = events.first) this.put(number, events.shift() as Event);
  }

  /** @internal Passes available events to waiting reads. */
  wake(): void {
    for (let taker = this.#takers[0]; taker !== undefined; taker = this.#takers[0]) {
      const result = this.#pull(taker.loop);
      if (result === undefined) return;
      this.#takers.shift();
      this.#owner.waits(false);
      taker.resolve(this.#given(result));
    }
  }

  /** @internal Ends the stream: it yields the buffered events and no later ones. */
  end(): void {
    this.#ended = true;
    this.#tellEnd();
    this.wake();
  }

  /** @internal Ends the stream on behalf of the program. Its loops end, or fail with `failure`. */
  finish(failure?: Error): void {
    if (this.#ended) return;
    this.#failure = failure;
    this.end();
    this.#owner.ended(this);
    this.#owner.returned();
  }

  /** Waits for the next event. Acknowledges the message that the previous `next` returned. */
  next(): Promise<Result<T>> {
    return this.#own.next();
  }

  /** Ends the stream and acknowledges the message that `next` returned last. */
  return(): Promise<Result<T>> {
    this.#own.finish();
    for (const loop of [this.#own, ...this.#loops]) loop.giveBack();
    this.#loops.clear();
    this.#events.clear();
    this.end();
    this.#owner.ended(this);
    this.#owner.returned();
    return Promise.resolve({ value: undefined, done: true });
  }

  /**
   * Starts a loop, which takes over the message from `next`. Several loops may share a stream. The
   * stream ends when the last loop ends.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<T> {
    const loop = new Loop(this.#source);
    loop.follow(this.#own);
    this.#loops.add(loop);
    return loop;
  }

  #loopLeft(loop: Loop<T>): void {
    this.#loops.delete(loop);
    loop.giveBack();
    if (this.#loops.size === 0) void this.return();
    else this.#owner.returned();
  }

  /** Removes and returns the oldest event; `undefined` if there is none yet. */
  #pull(loop: Loop<T>): Result<T> | undefined {
    const mailbox = this.#ended ? undefined : this.#source.mailbox;
    if (mailbox !== undefined && mailbox.first < this.#events.first) {
      const entry = mailbox.take() as Entry;
      loop.hold(entry);
      return { value: entry.message as T, done: false };
    }
    const event = this.#events.shift();
    if (event !== undefined) return { value: event as T, done: false };
    return this.#ended ? { value: undefined, done: true } : undefined;
  }

  /** Reports the failure of a stream once. */
  #given(result: Result<T>): Result<T> | Promise<never> {
    const failure = result.done === true ? this.#failure : undefined;
    if (failure === undefined) return result;
    this.#failure = undefined;
    return Promise.reject(failure);
  }

  #take(loop: Loop<T>): Promise<Result<T>> {
    const result = this.#takers.length === 0 ? this.#pull(loop) : undefined;
    if (result !== undefined) return Promise.resolve(this.#given(result));
    return new Promise((resolve) => {
      this.#takers.push({ loop, resolve });
      this.#owner.waits(true);
    });
  }
}
