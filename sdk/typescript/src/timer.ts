/** Waiting for no longer than so many ms. */

/** The longest pause that Node.js knows, 24.8 days; of a longer one it makes 1 ms. */
export const LONGEST_MS = 2 ** 31 - 1;

/** Acts after so many ms, of which `Infinity` is one of the possible numbers. */
export function after(ms: number, act: () => void): NodeJS.Timeout {
  return setTimeout(act, Math.min(ms, LONGEST_MS));
}

/** Waits for something, but no longer than so many ms; whether it happened. */
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
