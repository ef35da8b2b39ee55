/** Timers without the limit of Node.js. */

/** The longest delay of Node.js in ms, 24.8 days; Node.js reduces a longer one to 1 ms. */
export const LONGEST_MS = 2 ** 31 - 1;

/** Calls `act` after `ms`, at most `LONGEST_MS`; `ms` may be `Infinity`. */
export function after(ms: number, act: () => void): NodeJS.Timeout {
  return setTimeout(act, Math.min(ms, LONGEST_MS));
}

/** Waits for `something`, at most `ms`. Resolves with `true` if it happened in time. */
export async function within(something: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = after(ms, () => resolve(false));
  });
  try {
    return await Promise.race([something.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
