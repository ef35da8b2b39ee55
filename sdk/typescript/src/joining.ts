/** Whether the node has reached the network, and whether mail still comes: a program that reads nothing cannot tell "no mail" from "no network". */

import type { KeepAlive } from "./process.js";
import { CallTimeout, NotJoined, P2PError } from "./errors.js";
import type { CallOptions } from "./options.js";
import { after } from "./timer.js";
import { ErrorCode, type ConnectedPeer, type Event } from "./types.js";

/** How long `joined` waits for a peer, in ms: a dial to a host that does not answer takes 10 s, and the node tries again. */
export const JOIN_TIMEOUT_MS = 30_000;
/** How long no mail has to come, in ms. A node offers its mail as soon as it hears that the recipient is back, which takes about a second. */
export const QUIET_MS = 3000;
/** Looks at the peers besides those at every event, in ms: the node drops events of peers when the program is slow. */
const LOOK_MS = 1000;
/** Complaints of the node that an error quotes. */
const MAX_ERRORS = 8;
/** Errors of the look itself after which the next one may succeed. */
const PASSING: readonly ErrorCode[] = [ErrorCode.TIMEOUT, ErrorCode.SIDECAR_RESTARTED, ErrorCode.SIDECAR_UNAVAILABLE, ErrorCode.WRITE_TIMEOUT];

/** What it needs of a node. */
export interface JoiningContext {
  peers(options: CallOptions): Promise<ConnectedPeer[]>;
  /** Mail that the program has not processed. */
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

  /** Takes what the node told. */
  put(event: Event): void {
    if (event.type === "error") this.#complain(`${event.code}: ${event.message}`);
    if (event.type === "log" && (event.level === "warn" || event.level === "error")) this.#complain(event.message);
    if (event.type === "peer_connected" || (event.type === "message" && event.topic === undefined)) this.changed();
  }

  #complain(what: string): void {
    this.#errors = [...this.#errors.filter((other) => other !== what), what].slice(-MAX_ERRORS);
  }

  /** A peer, a mail or an `ack`: the quiet begins anew. */
  changed(): void {
    this.#lastChange = performance.now();
    for (const wake of [...this.#waiting]) wake();
  }

  /** Waits until a peer is connected. */
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

  /** Waits until a peer is connected, the program has processed all mail, and none came for `quietMs`. */
  async caughtUp(quietMs: number, timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    await this.joined(Math.min(timeoutMs, JOIN_TIMEOUT_MS), signal);
    this.changed();
    await this.#holding(async () => {
      for (;;) {
        const now = performance.now();
        const quiet = this.#node.unprocessed() > 0 ? LOOK_MS : this.#lastChange + quietMs - now;
        if (quiet <= 0) return;
        if (now >= deadline) throw new CallTimeout("`caughtUp`, while mail comes or is unprocessed,", timeoutMs, true);
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

  /** Waits for a change, but no longer than so many ms. */
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
