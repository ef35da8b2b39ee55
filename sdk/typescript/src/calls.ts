/** The calls of the program: each waits until its command is written, and then for its answer. */

import { ackOf, AckQueue } from "./acks.js";
import { encode, type OnResponse, type Reply, type Waiter } from "./channel.js";
import type { Child } from "./child.js";
import { deferred, type Deferred } from "./deferred.js";
import { CallTimeout, P2PError, SidecarUnavailable, TooManyCalls } from "./errors.js";
import type { CallOptions } from "./options.js";
import type { KeepAlive } from "./process.js";
import { SendQueue } from "./sends.js";
import { after } from "./timer.js";
import { ErrorCode, LIMITS, SDK_LIMITS, type Command, type Delivery } from "./types.js";
import { subject, type DesiredState } from "./desired_state.js";

/** Maximum number of unwritten calls other than `send`; the same as for `send`s. */
const MAX_WAITING_CALLS = SDK_LIMITS.maxWaitingSends;
/** Delay in ms before the SDK repeats an `ack` after `BUSY`. */
const ACK_RETRY_MS = 1000;

/** A command that waits to be written, or that a child's channel tracks until its answer. */
interface Call {
  command: Command;
  body: string;
  answer: Deferred<Reply>;
  /** Gets the delivery of mail. */
  outcome: Deferred<Delivery> | undefined;
  /** Gets the answers to a request. */
  onResponse: OnResponse | undefined;
  /** For a `send`: the key of its recipient or topic, and the size of its line. */
  send: { recipient: string; bytes: number } | undefined;
  written?: { child: Child; id: number };
  abandoned: boolean;
}

/** The calls of one node. Writes `send`s within the node's credit, and all other commands first. */
export class Calls {
  readonly acks = new AckQueue();
  readonly #desired: DesiredState;
  readonly #keepAlive: KeepAlive;
  readonly #sends = new SendQueue<Call>({ sends: LIMITS.maxInflight - SDK_LIMITS.reservedCommands, bytes: LIMITS.maxInflightBytes });
  readonly #others = new Set<Call>();
  #child: Child | undefined;
  #isWriteDue = false;
  #isAckGathering = false;
  #isAliveForAcks = false;
  #ackRetry: NodeJS.Timeout | undefined;

  constructor(wanted: DesiredState, keepAlive: KeepAlive) {
    this.#desired = wanted;
    this.#keepAlive = keepAlive;
  }

  /** Starts to write to a process that is ready. */
  use(child: Child): void {
    this.#child = child;
    this.#sends.credit = { sends: Math.max(1, child.limits.maxInflight - SDK_LIMITS.reservedCommands), bytes: child.limits.maxInflightBytes };
    this.write();
  }

  /** Handles the end of the process. Unwritten calls wait for the next process. */
  lose(error: P2PError): void {
    this.#child = undefined;
    this.acks.lost(error);
    this.#stayAliveForAcks();
  }

  /** Fails all calls, because there will be no other process. */
  failAll(error: P2PError): void {
    this.#child = undefined;
    clearTimeout(this.#ackRetry);
    this.failWaiting(error);
    this.acks.failAll(error);
    this.#stayAliveForAcks();
  }

  failWaiting(error: P2PError): void {
    const waiting = [...this.#others, ...this.#sends.clear()];
    this.#others.clear();
    for (const call of waiting) call.answer.reject(error);
  }

  /**
   * Queues a command and waits for its answer. `outcome` gets the delivery of a message, `onResponse` each
   * answer to a request.
   */
  async ask(
    command: Command,
    options: CallOptions & { timeoutMs: number },
    outcome?: Deferred<Delivery>,
    onResponse?: OnResponse,
  ): Promise<Reply> {
    const call: Call = { command, body: encode(command), answer: deferred<Reply>(), outcome, onResponse, send: undefined, abandoned: false };
    this.#enqueue(call);
    this.#writeSoon();
    const late = (ms: number): P2PError => {
      const { written } = call;
      if (written === undefined && this.#child === undefined) return new SidecarUnavailable(ms);
      return new CallTimeout(`\`${command.type}\``, ms, written === undefined || !isMessage(command));
    };
    try {
      return await waitFor(call.answer.promise, options, late, this.#keepAlive);
    } catch (error) {
      this.#abandon(call);
      throw error;
    }
  }

  #enqueue(call: Call): void {
    const { command, body } = call;
    if (command.type === "send" || command.type === "respond") {
      const recipient =
        command.type === "respond" ? `ticket ${command.ticket}`
        : command.topic === undefined ? `to ${subject(command.peerId ?? "")}`
        : `on ${command.topic}`;
      // The size of the line. The node counts only `data`, which is a little smaller.
      call.send = { recipient, bytes: Buffer.byteLength(body) };
      if (!this.#sends.push(recipient, call.send.bytes, call)) throw new TooManyCalls(this.#sends.size, this.#sends.bytes);
    } else {
      if (this.#others.size >= MAX_WAITING_CALLS) throw new TooManyCalls(this.#others.size, 0);
      this.#others.add(call);
    }
  }

  /** Acknowledges a message. All acks of one iteration of the event loop go into one command. */
  ack(messageId: string, waiter?: Waiter<void>): void {
    this.acks.add(messageId, waiter);
    this.#stayAliveForAcks();
    if (this.#isAckGathering) return;
    this.#isAckGathering = true;
    setImmediate(() => {
      this.#isAckGathering = false;
      this.write();
    });
  }

  /** Acknowledges a message and waits for the answer. */
  async askAck(messageId: string, options: CallOptions & { timeoutMs: number }): Promise<void> {
    options.signal?.throwIfAborted();
    const answer = deferred<void>();
    this.ack(messageId, answer);
    const late = (ms: number): P2PError => {
      return this.#child === undefined ? new SidecarUnavailable(ms) : new CallTimeout("`ack`", ms, true);
    };
    try {
      await waitFor(answer.promise, options, late, this.#keepAlive);
    } catch (error) {
      this.acks.remove(messageId, answer);
      throw error;
    }
  }

  /** Writes a command at once, whose answer nobody waits for. */
  tell(command: Command): void {
    if (this.#child?.hasRoom === true) this.#child.ask(encode(command), nobody);
  }

  /** Writes all commands that may be written now. */
  write(): void {
    const child = this.#child;
    if (child === undefined) return;
    while (child.hasRoom) {
      if (this.acks.isDue && !this.#isAckGathering && this.#ackRetry === undefined) {
        this.#addAck(child);
        continue;
      }
      const call = this.#next(child);
      if (call === undefined) break;
      try {
        call.written = { child, id: child.add(call.body, this.#waiter(call, child), isMessage(call.command), call.onResponse) };
      } catch (error) {
        this.#ended(call);
        call.answer.reject(error as P2PError);
      }
    }
    child.flush();
  }

  /** Writes every queued `ack`, because the SDK is about to stop the process. */
  writeLastAcks(child: Child): void {
    while (this.acks.hasWaiting && child.channel.closed === undefined) this.#addAck(child);
  }

  /** Schedules a write, so that calls of one tick are written together. */
  #writeSoon(): void {
    if (this.#isWriteDue) return;
    this.#isWriteDue = true;
    queueMicrotask(() => {
      this.#isWriteDue = false;
      this.write();
    });
  }

  #next(child: Child): Call | undefined {
    if (child.channel.outstanding >= child.limits.maxInflight) return undefined;
    const [other] = this.#others;
    if (other === undefined) return this.#sends.next();
    this.#others.delete(other);
    return other;
  }

  /** Releases the credit of a call that `next` returned. */
  #ended(call: Call): void {
    if (call.send !== undefined) this.#sends.ended(call.send.recipient, call.send.bytes);
  }

  #waiter(call: Call, child: Child): Waiter<Reply> {
    const { answer, outcome, command } = call;
    return {
      resolve: (reply) => {
        const { messageId, delivery } = reply.answer;
        this.#desired.record(command);
        // Must run before the next line, because that may be the delivery. An abandoned call has no
        // `SentMessage`, so its delivery arrives as an event.
        if (outcome !== undefined && messageId !== undefined && delivery === "accepted" && !call.abandoned) {
          const tracked = child.channel.track(messageId, outcome);
          const full = `the SDK already tracks ${SDK_LIMITS.maxTrackedMessages} messages; an event reports the delivery of this one`;
          if (!tracked) outcome.reject(new P2PError(ErrorCode.TOO_MANY, full));
        }
        this.#ended(call);
        answer.resolve(reply);
        this.#writeSoon();
      },
      reject: (error) => {
        this.#ended(call);
        answer.reject(error);
        this.#writeSoon();
      },
    };
  }

  #addAck(child: Child): void {
    const batch = this.acks.next();
    const answered = (): void => {
      this.#stayAliveForAcks();
      this.#writeSoon();
    };
    const waiter: Waiter<Reply> = {
      resolve: () => {
        this.acks.accepted(batch);
        answered();
      },
      reject: (error) => {
        // `lose` and `failAll` handle the end of the process.
        if (child.channel.closed !== undefined) return;
        if (this.acks.refused(batch, error)) this.#retryAck();
        answered();
      },
    };
    child.add(encode(ackOf(batch)), waiter);
  }

  #retryAck(): void {
    this.#ackRetry = after(ACK_RETRY_MS, () => {
      this.#ackRetry = undefined;
      this.write();
    });
  }

  /** Keeps this process alive until the node has answered every `ack`. */
  #stayAliveForAcks(): void {
    const isDue = this.acks.size > 0;
    if (isDue && !this.#isAliveForAcks) this.#keepAlive.ref();
    if (!isDue && this.#isAliveForAcks) this.#keepAlive.unref();
    this.#isAliveForAcks = isDue;
  }

  #abandon(call: Call): void {
    call.abandoned = true;
    const { written, send } = call;
    if (written === undefined) {
      if (send === undefined) this.#others.delete(call);
      else this.#sends.remove(send.recipient, call);
    } else if (["discover", "request"].includes(call.command.type) && written.child.channel.isPending(written.id)) {
      written.child.ask(encode({ type: "cancel", target: written.id }), nobody);
    }
  }
}

/** Returns `true` if another agent may get the command: repeated, it may arrive twice. */
function isMessage(command: Command): boolean {
  return command.type === "send" || command.type === "request";
}

const nobody: Waiter<Reply> = { resolve: () => undefined, reject: () => undefined };

/**
 * Waits for `something`. Rejects with `late` after `timeoutMs`, and with the reason of `signal` if
 * it aborts. `keepAlive` keeps this process alive meanwhile.
 */
export async function waitFor<T>(
  something: Promise<T>,
  options: CallOptions,
  late: (timeoutMs: number) => P2PError,
  keepAlive: KeepAlive,
): Promise<T> {
  const { signal, timeoutMs } = options;
  signal?.throwIfAborted();
  let timer: NodeJS.Timeout | undefined;
  let aborted: (() => void) | undefined;
  keepAlive.ref();
  try {
    return await new Promise<T>((resolve, reject) => {
      if (timeoutMs !== undefined) timer = after(timeoutMs, () => reject(late(timeoutMs)));
      aborted = (): void => reject(signal?.reason as Error);
      signal?.addEventListener("abort", aborted, { once: true });
      something.then(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
    if (aborted !== undefined) signal?.removeEventListener("abort", aborted);
    keepAlive.unref();
  }
}
