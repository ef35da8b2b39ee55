/** Events for whoever iterates: bounded, so that a slow one costs events, which are counted, and never the pipe. */

/** As much mail as a node leaves without an `ack`. What is older its sender has given up, or is an earlier process's and comes again. */
export const MAX_MAIL = 16_384;

/** Whose stream it is. */
export interface Owner<T> {
  /** Whether this is mail that waits for an `ack`. The node does not tell it again, so no other event pushes it out. */
  isOwed(event: unknown): boolean;
  left(stream: Stream<T>): void;
  /** Somebody begins to wait for an event, or nobody does any more. */
  waits(waiting: boolean): void;
}

/**
 * An async iterator over events. When it is full the oldest goes, and `dropped` counts it; mail that waits for an `ack` has a room of its own.
 * Left, it takes no more.
 */
export class Stream<T> implements AsyncIterableIterator<T> {
  dropped = 0;
  readonly #limit: number;
  readonly #wanted: (event: unknown) => event is T;
  readonly #owner: Owner<T>;
  #number = 0;
  /** Each with its number, so that they come out in the order in which they came. */
  #events: [number, T][] = [];
  #mail: [number, T][] = [];
  #takers: ((result: IteratorResult<T, undefined>) => void)[] = [];
  #ended = false;

  constructor(limit: number, wanted: (event: unknown) => event is T, owner: Owner<T>) {
    this.#limit = Math.max(1, limit);
    this.#wanted = wanted;
    this.#owner = owner;
  }

  /** Takes an event, if it is one that this stream is about. */
  put(event: unknown): void {
    if (this.#ended || !this.#wanted(event)) return;
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      this.#owner.waits(false);
      taker({ value: event, done: false });
      return;
    }
    const isOwed = this.#owner.isOwed(event);
    const [queue, limit] = isOwed ? [this.#mail, MAX_MAIL] : [this.#events, this.#limit];
    // What has had its `ack` since, from another stream, is an event like others.
    while (isOwed && queue.length >= this.#limit && !this.#owner.isOwed(queue[0]?.[1])) this.#drop(queue);
    if (queue.length >= limit) this.#drop(queue);
    queue.push([this.#number++, event]);
  }

  #drop(queue: [number, T][]): void {
    queue.shift();
    this.dropped += 1;
  }

  #take(): T | undefined {
    const number = (queue: [number, T][]): number => queue[0]?.[0] ?? Infinity;
    const queue = number(this.#mail) < number(this.#events) ? this.#mail : this.#events;
    return queue.shift()?.[1];
  }

  /** Hands over what is there, and how much was dropped. */
  moveTo(other: { dropped: number; put(event: unknown): void }): void {
    other.dropped += this.dropped;
    for (let event = this.#take(); event !== undefined; event = this.#take()) other.put(event);
  }

  /** Nothing comes any more; what is there can still be taken. */
  end(): void {
    this.#ended = true;
    for (const taker of this.#takers.splice(0)) {
      this.#owner.waits(false);
      taker({ value: undefined, done: true });
    }
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const event = this.#take();
    if (event !== undefined) return Promise.resolve({ value: event, done: false });
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      this.#takers.push(resolve);
      this.#owner.waits(true);
    });
  }

  /** Takes no more, and lets go of what is there. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#events = [];
    this.#mail = [];
    this.end();
    this.#owner.left(this);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
