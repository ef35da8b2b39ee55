/** The node as a program uses it: calls, streams of events, and a process that is started again when it crashes. */

import { EventEmitter } from "node:events";

import { deferred } from "./deferred.js";
import { CallTimeout, SidecarError, Undelivered, type Exit, type P2PError } from "./errors.js";
import { DEFAULTS, type CallOptions, type Options, type SendOptions } from "./options.js";
import { Sidecar, type Lifecycle } from "./sidecar.js";
import { MAX_MAIL, Stream } from "./stream.js";
import type {
  Answer,
  Command,
  ConnectedPeer,
  Delivery,
  Event,
  Message,
  Overflow,
  PeerDiscovered,
  Priority,
  Ready,
  StatusReport,
} from "./types.js";

/** What `on` tells of. */
export interface Notices extends Lifecycle {
  /** The node dropped events because this process did not read. */
  overflow: [Overflow];
}

/** Mail that the node has accepted. */
export interface Mail {
  /** Names it across the network. */
  readonly messageId: string;
  /**
   * Waits until the recipient's node has signed for it. May be called any number of times, or never.
   *
   * @throws {Undelivered} when it did not arrive; `SidecarRestarted` when the node crashed before it could tell.
   */
  delivered(options?: CallOptions): Promise<Delivery>;
}

const isEvent = (event: unknown): event is Event => event !== undefined;
const isMessage = (event: unknown): event is Event & Message => (event as Event | undefined)?.type === "message";

/** A supervised node. */
export class P2PNode extends EventEmitter<Notices> implements AsyncDisposable {
  readonly #sidecar: Sidecar;
  readonly #eventBuffer: number;
  readonly #callTimeoutMs: number;
  readonly #streams = new Set<{ put(event: unknown): void; end(): void }>();
  #backlog: Stream<Event> | undefined;
  #acksByHand = false;
  /** Mail that waits for an `ack`, oldest first. */
  readonly #owed = new Set<string>();
  #over = false;

  private constructor(options: Options) {
    super();
    this.#eventBuffer = options.eventBuffer ?? DEFAULTS.eventBuffer;
    this.#callTimeoutMs = options.callTimeoutMs ?? DEFAULTS.callTimeoutMs;
    this.#backlog = this.#makeStream(isEvent);
    this.#sidecar = new Sidecar(options, {
      told: (event) => this.#tell(event),
      happened: (name, ...what) => this.#happened(name, what),
    });
  }

  /** Starts a node, waits until it is ready, and starts it again when it crashes. */
  static async open(options: Options = {}): Promise<P2PNode> {
    const node = new P2PNode(options);
    await node.#sidecar.open();
    return node;
  }

  /** What the node said when it was ready last. */
  get ready(): Ready {
    return this.#sidecar.ready;
  }

  /** The agent's Ethereum address. */
  get address(): string {
    return this.ready.address;
  }

  /** The process's id, while there is one. */
  get pid(): number | undefined {
    return this.#sidecar.child?.process.pid;
  }

  /** Lines of the node that could not be read. */
  get undecodable(): number {
    return this.#sidecar.undecodable;
  }

  /** Commands of which the answer has not come. */
  get outstanding(): number {
    return this.#sidecar.child?.channel.outstanding ?? 0;
  }

  /**
   * Sends mail to an agent, by `0x…` address or PeerId. Resolves when the node has accepted it. `data`: bytes, or whatever JSON can say.
   */
  async send(to: string, data: unknown, options: SendOptions = {}): Promise<Mail> {
    const { signal: _signal, timeoutMs: _timeoutMs, ...fields } = options;
    const outcome = deferred<Delivery>();
    const { answer } = await this.#sidecar.ask({ type: "send", peerId: to, ...payload(data), ...fields }, options, outcome);
    return {
      messageId: messageIdOf(answer),
      delivered: async (wait: CallOptions = {}) => {
        const late = (ms: number): P2PError => new CallTimeout(`the mail ${answer.messageId}`, ms);
        const delivery = await this.#sidecar.wait(outcome.promise, wait, late);
        if (delivery.state !== "delivered") throw new Undelivered(delivery);
        return delivery;
      },
    };
  }

  /** Answers a message: mail to its sender, in its conversation. */
  reply(message: Message, data: unknown, options: SendOptions = {}): Promise<Mail> {
    const { conversationId, messageId } = message;
    const conversation = conversationId === undefined ? {} : { conversationId };
    return this.send(message.from, data, { replyTo: messageId, ...conversation, ...options });
  }

  /** Broadcasts to a topic. Resolves when the node has accepted it, with how many subscribers it went to at once. */
  async publish(
    topic: string,
    data: unknown,
    options: CallOptions & { kind?: string; priority?: Priority } = {},
  ): Promise<{ messageId: string; peers: number }> {
    const { signal: _signal, timeoutMs: _timeoutMs, ...fields } = options;
    const { answer } = await this.#sidecar.ask({ type: "send", topic, ...payload(data), ...fields }, options);
    return { messageId: messageIdOf(answer), peers: answer.peers ?? 0 };
  }

  /** Receives what is broadcast on a topic; also after a restart. */
  async subscribe(topic: string, options: CallOptions = {}): Promise<void> {
    await this.#sidecar.ask({ type: "subscribe", topic }, options);
  }

  /** Ends a subscription. */
  async unsubscribe(topic: string, options: CallOptions = {}): Promise<void> {
    await this.#sidecar.ask({ type: "unsubscribe", topic }, options);
  }

  /** Finds agents; looks for `lookForMs` (2,000 by default). Aborted or timed out, it ends the search. */
  async discover(
    options: CallOptions & { topic?: string; address?: string; capability?: string; lookForMs?: number } = {},
  ): Promise<PeerDiscovered[]> {
    const { signal: _signal, timeoutMs, lookForMs, ...what } = options;
    const patience = timeoutMs ?? this.#callTimeoutMs + (lookForMs ?? 0);
    const look = lookForMs === undefined ? {} : { timeoutMs: lookForMs };
    const command: Command = { type: "discover", ...what, ...look };
    return (await this.#sidecar.ask(command, { ...options, timeoutMs: patience })).found;
  }

  /** The peers that are connected. */
  async peers(options: CallOptions = {}): Promise<ConnectedPeer[]> {
    return (await this.#sidecar.ask({ type: "peers" }, options)).answer.connected ?? [];
  }

  /** What the node knows and has counted. */
  async status(options: CallOptions = {}): Promise<StatusReport> {
    const { status } = (await this.#sidecar.ask({ type: "status" }, options)).answer;
    if (status === undefined) throw new SidecarError("CONTRACT", "the answer to `status` has no status");
    return status;
  }

  /** Resolves when the node answers. */
  async ping(options: CallOptions = {}): Promise<void> {
    await this.#sidecar.ask({ type: "ping" }, options);
  }

  /**
   * Says that this program has done with a message, so that its sender is told that it was delivered. Only with `ack: "manual"`. Of a
   * broadcast, which needs no `ack`, it does nothing, so that nobody has to tell the two apart.
   */
  async ack(message: Message, options: CallOptions = {}): Promise<void> {
    if (message.topic !== undefined) return;
    await this.#sidecar.ask({ type: "ack", messageId: message.messageId }, options);
    this.#owed.delete(message.messageId);
  }

  /** Takes nothing more from an agent (`0x…`) or a node (PeerId). */
  async block(peer: string, options: CallOptions = {}): Promise<void> {
    await this.#sidecar.ask({ type: "block", peerId: peer }, options);
  }

  /** Marks what an agent or a node sends as `trust` = `allowed`. */
  async allow(peer: string, options: CallOptions = {}): Promise<void> {
    await this.#sidecar.ask({ type: "allow", peerId: peer }, options);
  }

  /** Takes back `block` and `allow`. */
  async unblock(peer: string, options: CallOptions = {}): Promise<void> {
    await this.#sidecar.ask({ type: "unblock", peerId: peer }, options);
  }

  /** Any command of the contract. */
  async request(command: Command, options: CallOptions = {}): Promise<Answer> {
    return (await this.#sidecar.ask(command, options)).answer;
  }

  /** Mail and broadcasts. Whoever waits for one keeps this process alive. */
  messages(options: { highWaterMark?: number } = {}): Stream<Event & Message> {
    return this.#stream(isMessage, options.highWaterMark);
  }

  /** All that the node tells unasked. */
  events(options: { highWaterMark?: number } = {}): Stream<Event> {
    return this.#stream(isEvent, options.highWaterMark);
  }

  #makeStream<T>(wanted: (event: unknown) => event is T, limit = this.#eventBuffer): Stream<T> {
    return new Stream<T>(limit, wanted, {
      isOwed: (event) => isMessage(event) && this.#owed.has(event.messageId),
      left: (stream) => this.#streams.delete(stream),
      waits: (waiting) => this.#sidecar.hold(waiting),
    });
  }

  #stream<T>(wanted: (event: unknown) => event is T, limit?: number): Stream<T> {
    const stream = this.#makeStream(wanted, limit);
    // What came before anybody looked is for the first who does.
    this.#backlog?.moveTo(stream);
    this.#backlog = undefined;
    if (this.#over) stream.end();
    else this.#streams.add(stream);
    return stream;
  }

  #tell(event: Event): void {
    if (event.type === "overflow") this.emit("overflow", event);
    if (event.type === "ready") this.#acksByHand = event.features.includes("ack");
    if (this.#acksByHand && isMessage(event) && event.topic === undefined) this.#owe(event.messageId);
    this.#backlog?.put(event);
    for (const stream of this.#streams) stream.put(event);
  }

  #owe(messageId: string): void {
    this.#owed.add(messageId);
    const [oldest] = this.#owed;
    if (this.#owed.size > MAX_MAIL && oldest !== undefined) this.#owed.delete(oldest);
  }

  #happened(name: keyof Lifecycle, what: unknown[]): void {
    if (name === "closed") {
      this.#over = true;
      for (const stream of this.#streams) stream.end();
      this.#streams.clear();
    }
    (this as EventEmitter).emit(name, ...what);
  }

  /**
   * Has the node finish what it accepted and end; later calls fail. Takes 9 s at most, and may be called more than once. Resolves with how
   * the process ended: code 75 means that accepted mail was lost.
   */
  close(): Promise<Exit | undefined> {
    return this.#sidecar.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function payload(data: unknown): { data: unknown; encoding?: "base64" } {
  if (data instanceof Uint8Array) return { data: Buffer.from(data).toString("base64"), encoding: "base64" };
  if (data === undefined) throw new TypeError("data is undefined, which JSON cannot say");
  return { data };
}

function messageIdOf(answer: Answer): string {
  if (answer.messageId === undefined) throw new SidecarError("CONTRACT", "the answer to `send` has no messageId");
  return answer.messageId;
}
