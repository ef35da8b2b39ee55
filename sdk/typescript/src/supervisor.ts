/** When a node whose process has ended is started again. Pure: time and chance are arguments. */

import type { Exit } from "./errors.js";

/** Exit codes after which starting again would end the same way: done, wrong usage, identity taken, key file, configuration. */
export const FINAL_CODES: ReadonlySet<number> = new Set([0, 64, 65, 73, 77, 78]);

/** How a node is started again: after pauses that double, each times 0.5 to 1 by chance. */
export interface Restart {
  /** The first pause, in ms. Default: 1,000. */
  firstMs: number;
  /** The longest pause, in ms. Default: 60,000. */
  maxMs: number;
  /** After a run of so many ms the pauses begin anew. Default: 60,000. */
  stableMs: number;
  /** So many crashes within `windowMs` are `unhealthy`. Default: 3. */
  crashes: number;
  /** In ms. Default: 60,000. */
  windowMs: number;
}

export const RESTART: Restart = { firstMs: 1000, maxMs: 60_000, stableMs: 60_000, crashes: 3, windowMs: 60_000 };

/** Start again after `delayMs`. `unhealthy`: so many crashes in so short a time that somebody should know. */
export interface RestartDecision {
  delayMs: number;
  attempt: number;
  unhealthy: boolean;
}

/** Judges the ends of one node's processes. */
export class Supervisor {
  readonly #policy: Restart | false;
  #attempts = 0;
  #readyAt: number | undefined;
  #crashes: number[] = [];
  #reported = false;

  /** `false`: never start again. */
  constructor(policy: Partial<Restart> | false = {}) {
    this.#policy = policy === false ? false : { ...RESTART, ...policy };
  }

  /** The process said `ready`. */
  ready(now: number): void {
    this.#readyAt = now;
  }

  /** The process ended unasked, or there was none (no `exit`); `chance` is from 0 to 1. `undefined`: it is not started again. */
  ended(exit: Exit | undefined, now: number, chance: number): RestartDecision | undefined {
    const policy = this.#policy;
    const readyAt = this.#readyAt;
    this.#readyAt = undefined;
    if (policy === false || (exit !== undefined && exit.code !== null && FINAL_CODES.has(exit.code))) return undefined;
    if (readyAt !== undefined && now - readyAt >= policy.stableMs) {
      this.#attempts = 0;
      this.#crashes = [];
      this.#reported = false;
    }
    this.#crashes = [...this.#crashes, now].filter((at) => now - at < policy.windowMs).slice(-policy.crashes);
    const unhealthy = this.#crashes.length >= policy.crashes && !this.#reported;
    this.#reported ||= unhealthy;
    const delayMs = Math.min(policy.firstMs * 2 ** this.#attempts, policy.maxMs) * (0.5 + 0.5 * chance);
    this.#attempts += 1;
    return { delayMs, attempt: this.#attempts, unhealthy };
  }
}
