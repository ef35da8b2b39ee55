/** What the node tells, for a program that iterates. No stream ever stops the reading of the node's output. */

import { EventBuffer } from "./events.js";
import type { Entry, Mailbox } from "./mailbox.js";
import type { Event } from "./types.js";

/** What a stream tells its owner. */
export interface Owner<T> {
  /** The stream takes no more events. */
  ended(stream: Stream<T>): void;
  /** The program begins to wait for an event, or does not wait any more. */
  waits(waiting: boolean): void;
  /** A mail can be taken again. */
  returned(): void;
}

type Result<T> = IteratorResult<T, undefined>;

/** What a loop takes from. */
interface Source<T> {
  mailbox: Mailbox | undefined;
  take(loop: Loop<T>): Promise<Result<T>>;
  left(loop: Loop<T>): void;
}

/** One `for await` over a stream, with the mail that it has taken and not processed. */
class Loop<T> implements AsyncIterableIterator<T> {
  readonly #source: Source<T>;
  /** `true`: the program has seen the mail, so that its next `next` means that it has processed it. */
  readonly #held = new Map<Entry, boolean>();

  constructor(source: Source<T>) {
    this.#source = source;
  }

  /** A mail goes to the program. */
  hold(entry: Entry): void {
    this.#held.set(entry, false);
    // This runs before the program sees the mail. Two calls of `next` at once acknowledge nothing.
    queueMicrotask(() => this.#held.has(entry) && this.#held.set(entry, true));
  }

  /** Goes on where another one was. */
  follow(other: Loop<T>): void {
    for (const [entry, seen] of other.#held) this.#held.set(entry, seen);
    other.#held.clear();
  }

  /** The program has processed what it has seen. */
  finish(): void {
    for (const [entry, seen] of this.#held) {
      if (!seen) continue;
      this.#held.delete(entry);
      this.#source.mailbox?.finish(entry);
    }
  }

  /** The program has left what it has. */
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
 * An async iterator over events. Of all the loops over the streams of a node each mail goes to exactly one; every other event goes to every
 * stream. The SDK acknowledges a mail when the loop that took it asks for the next event. A mail whose loop was left in the middle, by
 * `break`, `return` or an exception, is not acknowledged, and the next loop begins with it: call `node.ack` before such a `break`. What the
 * program took by `next` is acknowledged by the `next` after it, and by `return`.
 *
 * The oldest event of a kind gives way when too many of them wait; mail never does.
 */
export class Stream<T> implements AsyncIterableIterator<T> {
  readonly #desired: (event: Event) => boolean;
  readonly #owner: Owner<T>;
  readonly #events: EventBuffer;
  readonly #source: Source<T>;
  /** What `next` has taken. */
  readonly #own: Loop<T>;
  readonly #loops = new Set<Loop<T>>();
  #takers: { loop: Loop<T>; resolve(result: Result<T> | Promise<never>): void }[] = [];
  #ended = false;
  /** Why the stream ended, for the next one who takes. */
  #failure: Error | undefined;
  #tellEnd!: () => void;
  /** @internal The stream takes no more events. */
  readonly ended = new Promise<void>((resolve) => (this.#tellEnd = resolve));

  /** @internal `mailbox`: where the stream takes mail from, if it is about mail. */
  constructor(limit: number, wanted: (event: Event) => boolean, mailbox: Mailbox | undefined, owner: Owner<T>) {
    this.#desired = wanted;
    this.#owner = owner;
    this.#events = new EventBuffer(limit);
    this.#source = { mailbox, take: (loop) => this.#take(loop), left: (loop) => this.#loopLeft(loop) };
    this.#own = new Loop(this.#source);
  }

  /** Events that the stream dropped because the program did not take them. Mail is never among them. */
  get dropped(): number {
    return this.#events.dropped;
  }

  /** @internal Takes an event that is no mail. */
  put(number: number, event: Event): void {
    if (this.#ended || !this.#desired(event)) return;
    this.#events.push(number, event);
    this.wake();
  }

  /** @internal Takes over what came before there was a stream. */
  adopt(events: EventBuffer): void {
    this.#events.dropped += events.dropped;
    for (let number = events.first; number !== Infinity; number = events.first) this.put(number, events.shift() as Event);
  }

  /** @internal Gives what is there to those who wait. */
  wake(): void {
    for (let taker = this.#takers[0]; taker !== undefined; taker = this.#takers[0]) {
      const result = this.#pull(taker.loop);
      if (result === undefined) return;
      this.#takers.shift();
      this.#owner.waits(false);
      taker.resolve(this.#given(result));
    }
  }

  /** @internal Nothing comes any more; the program can still take the events that wait. */
  end(): void {
    this.#ended = true;
    this.#tellEnd();
    this.wake();
  }

  /** @internal Ends the stream in the place of the program: a loop over it ends, or fails if there is an error. */
  finish(failure?: Error): void {
    if (this.#ended) return;
    this.#failure = failure;
    this.end();
    this.#owner.ended(this);
    this.#owner.returned();
  }

  /** The next event, when there is one. Acknowledges the mail that the `next` before it gave. */
  next(): Promise<Result<T>> {
    return this.#own.next();
  }

  /** Ends the stream in good order: acknowledges what `next` has taken. */
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

  /** A loop goes on where `next` was. Several loops may share a stream. The stream ends with the last one. */
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

  /** The oldest event; `undefined` when there is none yet. */
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

  /** A stream that failed says so once. */
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
