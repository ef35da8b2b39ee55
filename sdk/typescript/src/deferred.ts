import type { Waiter } from "./channel.js";
import type { P2PError } from "./errors.js";

/** A promise with its `resolve` and `reject`. A rejection without a handler causes no warning. */
export interface Deferred<T> extends Waiter<T> {
  promise: Promise<T>;
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: P2PError) => void;
  const promise = new Promise<T>((take, refuse) => {
    resolve = take;
    reject = refuse;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
