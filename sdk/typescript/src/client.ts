/** The node as a program uses it: calls, streams of events, and a process that is started again when it crashes. */

import { EventEmitter } from "node:events";
import { inspect } from "node:util";

import { CALL, check, checkData, checkMessage, checkOptions, checkPeer, DISCOVER, flag, integer, milliseconds, name, object, PUBLISH, SEND, type Rule } from "./arguments.js";
import { deferred } from "./deferred.js";
import { CallTimeout, NotJoined, SidecarError, Undelivered, type Exit, type P2PError } from "./errors.js";
import { Inbox } from "./inbox.js";
import { JOIN_TIMEOUT_MS, Joining, QUIET_MS } from "./joining.js";
import { checkOpenOptions, DEFAULTS, type CallOptions, type Options, type PublishOptions, type SendOptions } from "./options.js";
import { SupervisedNode, type Lifecycle } from "./supervised_node.js";
import type { Stream } from "./stream.js";
import {
  ErrorCode,
  type Answer,
  type Command,
  type ConnectedPeer,
  type Delivery,
  type Event,
  type Message,
  type Overflow,
  type PeerDiscovered,
  type Ready,
  type StatusReport,
} from "./types.js";

/** Of broadcasts or events that wait in a stream. */
const BUFFER = integer(1, Number.MAX_SAFE_INTEGER);

/** The events of `on`. */
export interface NodeEvents extends Lifecycle {
  /** The node dropped events because this process did not read. */
  overflow: [Overflow];
}

/** A message that the node has accepted. */
export interface SentMessage {
  /** Identifies the message across the network. */
  readonly messageId: string;
  /**
   * Waits until the recipient has acknowledged it: with the SDKs, until its program has processed it. May be called any number of times, or
   * never.
   *
   * @throws {Undelivered} when it did not arrive; `SidecarRestarted` when the node crashed before it could tell.
   */
  delivered(options?: CallOptions): Promise<Delivery>;
}

/** A supervised node. */
export class P2PNode extends EventEmitter<NodeEvents> implements AsyncDisposable {
  readonly #supervised: SupervisedNode;
  readonly #inbox: Inbox;
  readonly #joining: Joining;
  readonly #callTimeoutMs: number;
  #closing: Promise<Message[]> | undefined;

  private constructor(options: Options) {
    super();
    this.#callTimeoutMs = options.callTimeoutMs ?? DEFAULTS.callTimeoutMs;
    this.#inbox = new Inbox({
      manual: options.ack === "manual",
      mailBuffer: options.mailBuffer ?? DEFAULTS.mailBuffer,
      broadcastBuffer: options.broadcastBuffer ?? DEFAULTS.broadcastBuffer,
      eventBuffer: options.eventBuffer ?? DEFAULTS.eventBuffer,
      ack: (messageId) => {
        this.#supervised.ack(messageId);
        this.#joining.changed();
      },
      waits: (waiting) => (waiting ? this.#supervised.ref() : this.#supervised.unref()),
    });
    this.#joining = new Joining({
      peers: (call) => this.peers(call),
      unprocessed: () => this.unprocessed,
      keepAlive: { ref: () => this.#supervised.ref(), unref: () => this.#supervised.unref() },
      bootstrapPeers: options.bootstrapPeers ?? [],
    });
    this.#supervised = new SupervisedNode(options, {
      onEvent: (event) => this.#tell(event),
      onLifecycle: (name, ...what) => this.#onLifecycle(name, what),
    });
  }

  /**
   * Starts a node, waits until it is ready, and starts it again when it crashes. Ready does not mean that there is a network: see `joined`.
   *
   * @throws {StartFailed} with the node's `report` when it ended or refused; `BinaryUnusable` or `BinaryNotFound` for the binary;
   * `InvalidArgument` for an option; `SidecarError` with the code `NOT_READY` when it took too long.
   */
  static async open(options: Options = {}): Promise<P2PNode> {
    checkOpenOptions(options);
    const node = new P2PNode(options);
    await node.#supervised.open();
    return node;
  }

  /** Returns the latest `ready` event of the node. */
  get ready(): Ready {
    return this.#supervised.ready;
  }

  /** Returns the agent's Ethereum address. */
  get address(): string {
    return this.ready.address;
  }

  /** Returns the process id; `undefined` while no process is ready. */
  get pid(): number | undefined {
    return this.#supervised.child?.process.pid;
  }

  /** Number of lines of the node that the SDK could not decode. */
  get undecodable(): number {
    return this.#supervised.undecodable;
  }

  /** How the last process ended: code 75 means that mail which the node had accepted was lost. */
  get exit(): Exit | undefined {
    return this.#supervised.exit;
  }

  /** Mail that this program processed after its sender had given it up, or after the process that told it had ended. */
  get acksNotFound(): number {
    return this.#supervised.acksNotFound;
  }

  /** Mail that a defective node handed over beyond `mailBuffer`. It was not acknowledged. */
  get mailDropped(): number {
    return this.#inbox.mailbox.dropped;
  }

  /** Mail that this program has not processed. */
  get unprocessed(): number {
    return this.#inbox.mailbox.size;
  }

  /** Commands of which the answer has not come. */
  get outstanding(): number {
    return this.#supervised.child?.channel.outstanding ?? 0;
  }

  /**
   * Sends mail to an agent, by `0x…` address or PeerId. Resolves when the node has accepted it. `data`: bytes as a `Uint8Array`, or a value
   * that JSON can hold.
   *
   * @throws {InvalidArgument} for a value that JSON cannot hold, such as a BigInt or NaN; `CommandRefused` when the node refuses it.
   */
  async send(to: string, data: unknown, options: SendOptions = {}): Promise<SentMessage> {
    checkPeer("to", to);
    checkOptions(options, SEND);
    const { signal: _signal, timeoutMs: _timeoutMs, ...fields } = options;
    const outcome = deferred<Delivery>();
    const { answer } = await this.#supervised.ask({ type: "send", peerId: to, ...payload(data), ...fields }, options, outcome);
    return {
      messageId: messageIdOf(answer),
      delivered: async (wait: CallOptions = {}) => {
        checkOptions(wait, CALL);
        const late = (ms: number): P2PError => new CallTimeout(`the mail ${answer.messageId}`, ms, false);
        const delivery = await this.#supervised.wait(outcome.promise, wait, late);
        if (delivery.state !== "delivered") throw new Undelivered(delivery);
        return delivery;
      },
    };
  }

  /** Answers a message: mail to its sender, in its conversation. */
  async reply(message: Message, data: unknown, options: SendOptions = {}): Promise<SentMessage> {
    checkMessage(message);
    check("options", options, object);
    const { conversationId, messageId } = message;
    const conversation = conversationId === undefined ? {} : { conversationId };
    return this.send(message.from, data, { replyTo: messageId, ...conversation, ...options });
  }

  /** Broadcasts to a topic. Resolves when the node has accepted it, with how many subscribers it went to at once. */
  async publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<{ messageId: string; peers: number }> {
    check("topic", topic, name);
    checkOptions(options, PUBLISH);
    const { signal: _signal, timeoutMs: _timeoutMs, ...fields } = options;
    const { answer } = await this.#supervised.ask({ type: "send", topic, ...payload(data), ...fields }, options);
    return { messageId: messageIdOf(answer), peers: answer.peers ?? 0 };
  }

  /** Subscribes to the broadcasts of a topic, also after a restart. */
  async subscribe(topic: string, options: CallOptions = {}): Promise<void> {
    check("topic", topic, name);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "subscribe", topic }, options);
  }

  /** Ends a subscription. */
  async unsubscribe(topic: string, options: CallOptions = {}): Promise<void> {
    check("topic", topic, name);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "unsubscribe", topic }, options);
  }

  /** Finds agents; looks for `lookForMs` (2,000 by default). Aborted or timed out, it ends the search. */
  async discover(
    options: CallOptions & { topic?: string; address?: string; capability?: string; lookForMs?: number } = {},
  ): Promise<PeerDiscovered[]> {
    checkOptions(options, DISCOVER);
    const { signal: _signal, timeoutMs, lookForMs, ...what } = options;
    const patience = timeoutMs ?? this.#callTimeoutMs + (lookForMs ?? 0);
    const look = lookForMs === undefined ? {} : { timeoutMs: lookForMs };
    const command: Command = { type: "discover", ...what, ...look };
    return (await this.#supervised.ask(command, { ...options, timeoutMs: patience })).found;
  }

  /** Returns the connected peers. */
  async peers(options: CallOptions = {}): Promise<ConnectedPeer[]> {
    checkOptions(options, CALL);
    return (await this.#supervised.ask({ type: "peers" }, options)).answer.connected ?? [];
  }

  /**
   * Waits until a peer is connected, and resolves with those that are. `open` does not wait for that: a node without a network is ready, and
   * keeps mail until there is one. `timeoutMs`: 30,000 by default.
   *
   * @throws {NotJoined} when there is no peer in time, with what the node complained of. It goes on trying.
   */
  async joined(options: CallOptions = {}): Promise<ConnectedPeer[]> {
    checkOptions(options, CALL);
    return this.#joining.joined(options.timeoutMs ?? JOIN_TIMEOUT_MS, options.signal);
  }

  /**
   * Waits until a peer is connected, this program has processed all mail, and for `quietMs` (3,000 by default) no mail and no peer has come.
   * It waits for the peer no longer than 30,000 ms. A sender that is out of reach now may deliver later. `timeoutMs`: 30,000 by default.
   *
   * @throws {NotJoined} when there is no peer in time; `CallTimeout` when mail still comes, or is not processed.
   */
  async caughtUp(options: CallOptions & { quietMs?: number } = {}): Promise<void> {
    checkOptions(options, { ...CALL, quietMs: milliseconds });
    return this.#joining.caughtUp(options.quietMs ?? QUIET_MS, options.timeoutMs ?? JOIN_TIMEOUT_MS, options.signal);
  }

  /** Returns the state and the counters of the node. */
  async status(options: CallOptions = {}): Promise<StatusReport> {
    checkOptions(options, CALL);
    const { status } = (await this.#supervised.ask({ type: "status" }, options)).answer;
    if (status === undefined) throw new SidecarError(ErrorCode.CONTRACT, "the answer to `status` has no status");
    return status;
  }

  /** Waits for an answer of the node. */
  async ping(options: CallOptions = {}): Promise<void> {
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "ping" }, options);
  }

  /**
   * Acknowledges a mail: its sender is told `delivered`. With `ack: "manual"` this program has to do it for every mail. Otherwise it
   * is for the last one, after which this program asks for no other. It does nothing for a broadcast, which needs no `ack`.
   */
  async ack(message: Message, options: CallOptions = {}): Promise<void> {
    checkMessage(message);
    checkOptions(options, CALL);
    if (message.topic !== undefined) return;
    this.#joining.changed();
    const answer = this.#supervised.askAck(message.messageId, options);
    this.#inbox.mailbox.acked(message.messageId);
    await answer;
  }

  /** Rejects everything from an agent (`0x…`) or a node (PeerId), also after a restart. */
  async block(peer: string, options: CallOptions = {}): Promise<void> {
    checkPeer("peer", peer);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "block", peerId: peer }, options);
  }

  /** Marks what an agent or a node sends as `trust` = `allowed`. */
  async allow(peer: string, options: CallOptions = {}): Promise<void> {
    checkPeer("peer", peer);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "allow", peerId: peer }, options);
  }

  /** Removes the rule of `block` or `allow`. */
  async unblock(peer: string, options: CallOptions = {}): Promise<void> {
    checkPeer("peer", peer);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "unblock", peerId: peer }, options);
  }

  /** Sends any command of the pipe protocol. */
  async request(command: Command, options: CallOptions = {}): Promise<Answer> {
    check("command", command, (value) => object(value) ?? (name((value as Command).type) && "give an object with a `type`"));
    checkOptions(options, CALL);
    if ("data" in command) checkData(command.data);
    return (await this.#supervised.ask(command, options)).answer;
  }

  /**
   * Mail and broadcasts. The SDK acknowledges a mail when this program asks for the next message; see `Stream`. A program that waits for
   * one stays alive. `buffer`: broadcasts that the stream keeps. `untilCaughtUp`: the stream ends when `caughtUp` would resolve; a
   * number is its `quietMs`. Without a peer within 30,000 ms the loop fails with `NotJoined`.
   */
  messages(options: { buffer?: number; untilCaughtUp?: boolean | number } = {}): Stream<Event & Message> {
    const untilRule: Rule = (value) => (flag(value) && milliseconds(value) ? "give true, false or a number of milliseconds" : undefined);
    checkOptions(options, { buffer: BUFFER, untilCaughtUp: untilRule });
    const { buffer, untilCaughtUp = false } = options;
    const stream = this.#inbox.messages(buffer);
    if (untilCaughtUp !== false) void this.#endWhenCaughtUp(stream, untilCaughtUp === true ? QUIET_MS : untilCaughtUp);
    return stream;
  }

  /** Everything but messages that the node tells unasked. `buffer`: events of each kind that the stream keeps. */
  events(options: { buffer?: number } = {}): Stream<Event> {
    checkOptions(options, { buffer: BUFFER });
    return this.#inbox.events(options.buffer);
  }

  async #endWhenCaughtUp(stream: Stream<Event & Message>, quietMs: number): Promise<void> {
    const over = new AbortController();
    void stream.ended.then(() => over.abort());
    try {
      await this.#joining.caughtUp(quietMs, Infinity, over.signal);
      stream.finish();
    } catch (error) {
      // A node that is closed, or gone, ends every stream in good order.
      stream.finish(error instanceof NotJoined ? error : undefined);
    }
  }

  #tell(event: Event): void {
    this.#inbox.put(event);
    this.#joining.put(event);
    if (event.type === "overflow") this.emit("overflow", event);
  }

  #onLifecycle(name: keyof Lifecycle, what: unknown[]): void {
    if (name === "closed") this.#inbox.end();
    (this as EventEmitter).emit(name, ...what);
  }

  /**
   * Has the node finish what it accepted and end; later calls fail. Takes 9 s at most, and may be called more than once. Resolves with the
   * mail that no loop of this program has taken, or that one left in the middle: it is not acknowledged, so that its senders keep it. Nor
   * is the mail that a loop has at this time.
   */
  close(): Promise<Message[]> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<Message[]> {
    this.#inbox.mailbox.close();
    await this.#supervised.close();
    return this.#inbox.mailbox.drainMail();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `P2PNode { address: ${inspect(this.address)}, pid: ${inspect(this.pid)} }`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function payload(data: unknown): { data: unknown; encoding?: "base64" } {
  if (data instanceof Uint8Array) return { data: Buffer.from(data).toString("base64"), encoding: "base64" };
  checkData(data);
  return { data };
}

function messageIdOf(answer: Answer): string {
  if (answer.messageId === undefined) throw new SidecarError(ErrorCode.CONTRACT, "the answer to `send` has no messageId");
  return answer.messageId;
}
