/**
 * Waits until the node has a peer, and until no more mail arrives. Without this a program cannot
 * distinguish "no mail" from "no network".
 */

import type { KeepAlive } from "./process.js";
import { CallTimeout, NotJoined, P2PError } from "./errors.js";
import type { CallOptions } from "./options.js";
import { after } from "./timer.js";
import { ErrorCode, type ConnectedPeer, type Event } from "./types.js";

/** Default timeout of `joined` in ms. A dial without an answer takes 10 s; this allows retries. */
export const JOIN_TIMEOUT_MS = 30_000;
/**
 * Default of `quietMs`. A node sends its mail as soon as it learns that the recipient is connected,
 * which takes about a second.
 */
export const QUIET_MS = 3000;
/** Interval in ms between requests for the peers, because the node may drop peer events. */
const LOOK_MS = 1000;
/** Maximum number of the node's errors that a `NotJoined` quotes. */
const MAX_ERRORS = 8;
/** Errors of a `peers` request after which the next one may succeed. */
const PASSING: readonly ErrorCode[] = [ErrorCode.TIMEOUT, ErrorCode.SIDECAR_RESTARTED, ErrorCode.SIDECAR_UNAVAILABLE, ErrorCode.WRITE_TIMEOUT];

/** The functions of a node that `Joining` needs. */
export interface JoiningContext {
  peers(options: CallOptions): Promise<ConnectedPeer[]>;
  /** Returns the number of messages that the program has not processed. */
  unprocessed(): number;
  /** Keeps this process alive while a call waits. */
  keepAlive: KeepAlive;
  bootstrapPeers: readonly string[];
}

export class Joining {
  readonly #node: JoiningContext;
  #errors: string[] = [];
  #lastChange = performance.now();
  readonly #waiting = new Set<() => void>();

  constructor(node: JoiningContext) {
    this.#node = node;
  }

  /** Records an event of the node, if it concerns mail, peers or errors. */
  put(event: Event): void {
    if (event.type === "error") this.#complain(`${event.code}: ${event.message}`);
    if (event.type === "log" && (event.level === "warn" || event.level === "error")) this.#complain(event.message);
    if (event.type === "peer_connected" || (event.type === "message" && event.topic === undefined)) this.changed();
  }

  #complain(what: string): void {
    this.#errors = [...this.#errors.filter((other) => other !== what), what].slice(-MAX_ERRORS);
  }

  /** Restarts the quiet period after a new peer, mail or an `ack`. */
  changed(): void {
    this.#lastChange = performance.now();
    for (const wake of [...this.#waiting]) wake();
  }

  /** Waits until a peer is connected; resolves with the connected peers. */
  async joined(timeoutMs: number, signal: AbortSignal | undefined): Promise<ConnectedPeer[]> {
    const deadline = performance.now() + timeoutMs;
    return this.#holding(async () => {
      for (;;) {
        const left = deadline - performance.now();
        const connected = left > 0 ? await this.#look(left, signal) : [];
        if (connected.length > 0) return connected;
        if (left <= 0) throw new NotJoined(timeoutMs, this.#node.bootstrapPeers, this.#errors);
        await this.#change(Math.min(left, LOOK_MS), signal);
      }
    });
  }

  /** Waits until a peer is connected, all mail is processed, and `quietMs` have passed since. */
  async caughtUp(quietMs: number, timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    await this.joined(Math.min(timeoutMs, JOIN_TIMEOUT_MS), signal);
    this.changed();
    await this.#holding(async () => {
      for (;;) {
        const now = performance.now();
        const quiet = this.#node.unprocessed() > 0 ? LOOK_MS : this.#lastChange + quietMs - now;
        if (quiet <= 0) return;
        if (now >= deadline) throw new CallTimeout("`caughtUp` (mail still arrives, or is unprocessed)", timeoutMs, true);
        await this.#change(Math.min(quiet, deadline - now), signal);
      }
    });
  }

  async #look(timeoutMs: number, signal: AbortSignal | undefined): Promise<ConnectedPeer[]> {
    try {
      return await this.#node.peers({ timeoutMs, ...(signal === undefined ? {} : { signal }) });
    } catch (error) {
      if (error instanceof P2PError && PASSING.includes(error.code)) return [];
      throw error;
    }
  }

  /** Waits for the next `changed`, at most `ms`. */
  async #change(ms: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    let wake!: () => void;
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const timer = after(ms, wake);
    this.#waiting.add(wake);
    signal?.addEventListener("abort", wake, { once: true });
    await woken;
    clearTimeout(timer);
    this.#waiting.delete(wake);
    signal?.removeEventListener("abort", wake);
    signal?.throwIfAborted();
  }

  async #holding<T>(act: () => Promise<T>): Promise<T> {
    this.#node.keepAlive.ref();
    try {
      return await act();
    } finally {
      this.#node.keepAlive.unref();
    }
  }
}
