/**
 * Decides when to restart a node after its process has ended. No I/O: time and chance are
 * arguments.
 */

import type { Exit } from "./errors.js";
import { FINAL_CODES } from "./types.js";

/**
 * The restart policy. The pause before a restart doubles after each crash, from `firstMs` up to
 * `maxMs`; the SDK multiplies it by a random factor from 0.5 to 1.
 */
export interface Restart {
  /** The first pause, in ms. Default: 1,000. */
  firstMs: number;
  /** The longest pause, in ms. Default: 60,000. */
  maxMs: number;
  /** A run of this many ms resets the pause. Default: 60,000. */
  stableMs: number;
  /** This many crashes within `windowMs` emit `unhealthy`. Default: 3. */
  crashes: number;
  /** The window in which the SDK counts crashes, in ms. Default: 60,000. */
  windowMs: number;
}

export const RESTART: Restart = { firstMs: 1000, maxMs: 60_000, stableMs: 60_000, crashes: 3, windowMs: 60_000 };

/** Restart after `delayMs`. `unhealthy`: the crashes reached the limit of the policy. */
export interface RestartDecision {
  delayMs: number;
  attempt: number;
  unhealthy: boolean;
}

/** Decides after each exit of a node's process. */
export class Supervisor {
  readonly #policy: Restart | false;
  #attempts = 0;
  #readyAt: number | undefined;
  #crashes: number[] = [];
  #reported = false;

  /** `false`: never restart. */
  constructor(policy: Partial<Restart> | false = {}) {
    this.#policy = policy === false ? false : { ...RESTART, ...policy };
  }

  /** Records that the process is ready. */
  ready(now: number): void {
    this.#readyAt = now;
  }

  /**
   * Handles an unexpected exit, or a failed start (no `exit`). `chance` is from 0 to 1. Returns
   * `undefined` if the SDK must not restart the node.
   */
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
