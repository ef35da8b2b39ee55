/** Events for whoever iterates: bounded, so that a slow one costs events, which are counted, and never the pipe. */

/** An async iterator over events. When it is full the oldest goes, and `dropped` counts it. Left, it takes no more. */
export class Stream<T> implements AsyncIterableIterator<T> {
  dropped = 0;
  readonly #limit: number;
  readonly #wanted: (event: unknown) => event is T;
  readonly #leave: (stream: Stream<T>) => void;
  readonly #waits: (waiting: boolean) => void;
  #events: T[] = [];
  #takers: ((result: IteratorResult<T, undefined>) => void)[] = [];
  #ended = false;

  /** `waits` is told when somebody begins to wait for an event, and when nobody does any more. */
  constructor(
    limit: number,
    wanted: (event: unknown) => event is T,
    leave: (stream: Stream<T>) => void,
    waits: (waiting: boolean) => void,
  ) {
    this.#limit = Math.max(1, limit);
    this.#wanted = wanted;
    this.#leave = leave;
    this.#waits = waits;
  }

  /** Takes an event, if it is one that this stream is about. */
  put(event: unknown): void {
    if (this.#ended || !this.#wanted(event)) return;
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      this.#waits(false);
      taker({ value: event, done: false });
      return;
    }
    if (this.#events.length >= this.#limit) {
      this.#events.shift();
      this.dropped += 1;
    }
    this.#events.push(event);
  }

  /** Nothing comes any more; what is there can still be taken. */
  end(): void {
    this.#ended = true;
    for (const taker of this.#takers.splice(0)) {
      this.#waits(false);
      taker({ value: undefined, done: true });
    }
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve({ value: event, done: false });
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => {
      this.#takers.push(resolve);
      this.#waits(true);
    });
  }

  /** Takes no more, and lets go of what is there. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#events = [];
    this.end();
    this.#leave(this);
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
