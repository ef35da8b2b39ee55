/** The public interface of a node: calls, streams of messages and events, and lifecycle events. */

import { EventEmitter } from "node:events";
import { resolve } from "node:path";
import { inspect } from "node:util";

import { CALL, check, checkData, checkMessage, checkOptions, checkPeer, DISCOVER, flag, functions, integer, milliseconds, name, object, PUBLISH, SEND, type Rule } from "./arguments.js";
import type { FoundAgents } from "./channel.js";
import { deferred } from "./deferred.js";
import { CONCURRENCY, Handlers, type RequestHandler } from "./handlers.js";
import { CallTimeout, NotJoined, SidecarError, Undelivered, type Exit, type P2PError } from "./errors.js";
import { Inbox } from "./inbox.js";
import { JOIN_TIMEOUT_MS, Joining, QUIET_MS } from "./joining.js";
import { checkOpenOptions, DEFAULTS, type CallOptions, type Options, type PublishOptions, type SendOptions } from "./options.js";
import { ask, askAll, askStream, type Answers, type Ask, type AskAllOptions, type AskOptions, type AskStreamOptions } from "./requests.js";
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
  type NetworkReport,
  type Overflow,
  type Ready,
  type RegistryEntry,
  type StatusReport,
} from "./types.js";

/** Rule for the buffer size of a stream. */
const BUFFER = integer(1, Number.MAX_SAFE_INTEGER);

/** The events that `on` reports. */
export interface NodeEvents extends Lifecycle {
  /** The node dropped events because this process read too slowly. */
  overflow: [Overflow];
  /** A handler failed with another error than `HandlerError`. The asker got its name and no text. */
  handlerFailed: [{ kind: string; error: unknown }];
}

/** A message that the node has accepted. */
export interface SentMessage {
  /** Identifies the message across the network. */
  readonly messageId: string;
  /**
   * Waits until the recipient has acknowledged the message, and resolves with the delivery. A
   * recipient that uses an SDK acknowledges a message after its program has processed it. May be
   * called any number of times, or never. Without `timeoutMs` the wait ends at the latest when the
   * message has expired.
   *
   * @throws {Undelivered} if the message did not arrive; `SidecarRestarted` if the node crashed
   * before it reported the delivery; `CallTimeout` after `timeoutMs`.
   */
  delivered(options?: CallOptions): Promise<Delivery>;
}

/**
 * A supervised node; `open` creates it.
 *
 * Every call rejects with `CommandRefused` if the node rejects the command, `CallTimeout` without
 * an answer in time, `InvalidArgument`, and the errors of a lost node; the README has a table.
 */
export class P2PNode extends EventEmitter<NodeEvents> implements AsyncDisposable {
  readonly #supervised: SupervisedNode;
  readonly #inbox: Inbox;
  readonly #joining: Joining;
  readonly #handlers: Handlers;
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
    const send = (command: Command): Promise<unknown> => this.#supervised.ask(command, {});
    this.#handlers = new Handlers(send, (kind, error) => this.emit("handlerFailed", { kind, error }));
    this.#supervised = new SupervisedNode(options, {
      onEvent: (event) => this.#tell(event),
      onLifecycle: (name, ...what) => this.#onLifecycle(name, what),
    });
  }

  /**
   * Starts a node, waits until it is ready, and restarts it after a crash. Does not wait for peers:
   * see `joined`.
   *
   * @throws {StartFailed} with the node's `report` if the process ended before it was ready, or
   * rejected the start; `BinaryUnusable` or `BinaryNotFound` for a problem with the binary;
   * `InvalidArgument` for an invalid option; `SidecarError` with the code `NOT_READY`,
   * `VERSION_MISMATCH` or `SPAWN_FAILED`.
   */
  static async open(options: Options = {}): Promise<P2PNode> {
    checkOpenOptions(options);
    const node = new P2PNode(options);
    await node.#supervised.open();
    return node;
  }

  /**
   * Attaches to the node that listens on the Unix socket `path`, as `open` does with the option
   * `socket`.
   *
   * @throws as `open`; `StartFailed` with the code `NOT_CONNECTED` if no node listens there.
   */
  static async connect(path: string, options: Options = {}): Promise<P2PNode> {
    return await P2PNode.open({ ...options, socket: path });
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

  /** Returns the number of lines of the node that the SDK could not decode. */
  get undecodable(): number {
    return this.#supervised.undecodable;
  }

  /**
   * Returns how the last process ended; `undefined` while the first one runs. Code 75 means that
   * the node lost accepted mail.
   */
  get exit(): Exit | undefined {
    return this.#supervised.exit;
  }

  /**
   * Returns the number of messages that the SDK acknowledged after their senders had given them up,
   * or after the process that delivered them had ended.
   */
  get acksNotFound(): number {
    return this.#supervised.acksNotFound;
  }

  /**
   * Returns the number of messages that the SDK dropped unacknowledged, because the node delivered
   * more than `mailBuffer`.
   */
  get mailDropped(): number {
    return this.#inbox.mailbox.dropped;
  }

  /** Returns the number of messages that this program has not processed. */
  get unprocessed(): number {
    return this.#inbox.mailbox.size;
  }

  /** Returns the number of written commands without an answer. */
  get outstanding(): number {
    return this.#supervised.child?.channel.outstanding ?? 0;
  }

  /**
   * Sends a message to one agent. Resolves when the node has accepted the message. `to`: the `0x…`
   * address of an agent, its name of ENS (with `RPC_URL`), or a PeerId. `data`: bytes as a `Uint8Array`, or a value that JSON can
   * represent.
   *
   * @throws {InvalidArgument} for a value that JSON cannot represent, such as a BigInt or NaN;
   * `CommandRefused` if the node rejects the message.
   */
  async send(to: string, data: unknown, options: SendOptions = {}): Promise<SentMessage> {
    checkPeer("to", to);
    checkOptions(options, SEND);
    const { signal: _signal, timeoutMs: _timeoutMs, file, ...fields } = options;
    // The node may have another working directory.
    const attached = file === undefined ? {} : { file: resolve(file) };
    const outcome = deferred<Delivery>();
    const { answer } = await this.#supervised.ask({ type: "send", peerId: to, ...payload(data), ...fields, ...attached }, options, outcome);
    return {
      messageId: messageIdOf(answer),
      delivered: async (wait: CallOptions = {}) => {
        checkOptions(wait, CALL);
        const late = (ms: number): P2PError => new CallTimeout(`message ${answer.messageId}`, ms, false);
        const delivery = await this.#supervised.wait(outcome.promise, wait, late);
        if (delivery.state !== "delivered") throw new Undelivered(delivery);
        return delivery;
      },
    };
  }

  /** Sends a message to the sender of `message`, in the same conversation. Otherwise as `send`. */
  async reply(message: Message, data: unknown, options: SendOptions = {}): Promise<SentMessage> {
    checkMessage(message);
    check("options", options, object);
    const { conversationId, messageId } = message;
    const conversation = conversationId === undefined ? {} : { conversationId };
    return this.send(message.from, data, { replyTo: messageId, ...conversation, ...options });
  }

  /**
   * Broadcasts to a topic. Resolves when the node has accepted the broadcast. `peers` is the number
   * of subscribers that the node sent it to at once. If there is none, the node buffers the
   * broadcast for up to 10 s.
   */
  async publish(topic: string, data: unknown, options: PublishOptions = {}): Promise<{ messageId: string; peers: number }> {
    check("topic", topic, name);
    checkOptions(options, PUBLISH);
    const { signal: _signal, timeoutMs: _timeoutMs, ...fields } = options;
    const { answer } = await this.#supervised.ask({ type: "send", topic, ...payload(data), ...fields }, options);
    return { messageId: messageIdOf(answer), peers: answer.peers ?? 0 };
  }

  /**
   * Asks an agent, and resolves with its answer: a `Buffer`, or a value of JSON. `to` and `data` are as in
   * `send`.
   *
   * @throws {HandlerFailed} with the error of the handler; `CommandRefused` with the reason for which there
   * is no answer: `NO_HANDLER`, `HANDLER_GONE`, `DEADLINE_EXCEEDED`, `PEER_NOT_FOUND`, …
   */
  async ask(to: string, data: unknown, options: AskOptions = {}): Promise<unknown> {
    return ask(this.#ask, to, data, options);
  }

  /**
   * Asks an agent, and yields the parts of its answer in order. The end of the loop, also by `break`,
   * cancels the handler. Otherwise as `ask`.
   */
  askStream(to: string, data: unknown, options: AskStreamOptions = {}): AsyncGenerator<unknown, void, undefined> {
    return askStream(this.#ask, (command) => this.#supervised.write(command), to, data, options);
  }

  /**
   * Asks each agent of a list of at most 1,000 addresses, or the subscribers of a topic, whose name is a
   * string. Resolves when all agents of a list have answered or failed, with the `quorum`, or at the
   * deadline. Everybody can read a question to a topic.
   *
   * @throws {QuorumNotReached} with the answers that came, if there are fewer than `quorum`.
   */
  async askAll(to: string | string[], data: unknown, options: AskAllOptions = {}): Promise<Answers> {
    return askAll(this.#ask, to, data, options);
  }

  readonly #ask: Ask = (command, options, onResponse) => this.#supervised.ask(command, options, undefined, onResponse);

  /**
   * Sets the handler of requests of this kind; `*` stands for all that no other handler takes. Resolves when
   * the node has accepted it. The handler works on `concurrency` (default: 256) requests at the same time;
   * others wait. The SDK restores it after a restart.
   */
  async handle(kind: string, handler: RequestHandler, options: CallOptions & { concurrency?: number } = {}): Promise<void> {
    check("kind", kind, name);
    check("handler", handler, functions);
    checkOptions(options, { ...CALL, concurrency: integer(1, Number.MAX_SAFE_INTEGER) });
    this.#handlers.add(kind, handler, options.concurrency ?? CONCURRENCY);
    await this.#handlers.tell();
  }

  /** Removes the handler of a kind. Askers of this kind get `NO_HANDLER` from now on. */
  async unhandle(kind: string): Promise<void> {
    check("kind", kind, name);
    this.#handlers.remove(kind);
    await this.#handlers.tell();
  }

  /** Subscribes to the broadcasts of a topic. The SDK restores the subscription after a restart. */
  async subscribe(topic: string, options: CallOptions = {}): Promise<void> {
    check("topic", topic, name);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "subscribe", topic }, options);
  }

  /** Ends the subscription to a topic. */
  async unsubscribe(topic: string, options: CallOptions = {}): Promise<void> {
    check("topic", topic, name);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "unsubscribe", topic }, options);
  }

  /**
   * Finds agents. At most one of `topic`, `address` and `capability` selects agents; without one,
   * finds all agents that the node knows. Resolves with at most 4,096 agents, and with `complete`, which
   * says if these are all; further agents arrive as events. The node searches for `lookForMs`, 0 to 60,000; without it the search ends when the
   * node expects no further agents, after 2,000 ms at most. `timeoutMs` defaults to `callTimeoutMs`
   * plus `lookForMs`. An abort or a timeout ends the search.
   */
  async discover(
    options: CallOptions & { topic?: string; address?: string; capability?: string; lookForMs?: number } = {},
  ): Promise<FoundAgents> {
    checkOptions(options, DISCOVER);
    const { signal: _signal, timeoutMs, lookForMs, ...what } = options;
    const patience = timeoutMs ?? this.#callTimeoutMs + (lookForMs ?? 0);
    const look = lookForMs === undefined ? {} : { timeoutMs: lookForMs };
    const command: Command = { type: "discover", ...what, ...look };
    const { answer, found } = await this.#supervised.ask(command, { ...options, timeoutMs: patience });
    const complete = answer.complete === true && (answer.count ?? found.length) === found.length;
    return Object.assign(found, { complete });
  }

  /** Returns the connected peers. */
  async peers(options: CallOptions = {}): Promise<ConnectedPeer[]> {
    checkOptions(options, CALL);
    return (await this.#supervised.ask({ type: "peers" }, options)).answer.connected ?? [];
  }

  /**
   * Waits until at least one peer is connected, and resolves with the connected peers. `open` does
   * not wait for a peer. `timeoutMs` defaults to 30,000.
   *
   * @throws {NotJoined} if no peer connects in time, with the errors that the node reported. The
   * node keeps trying.
   */
  async joined(options: CallOptions = {}): Promise<ConnectedPeer[]> {
    checkOptions(options, CALL);
    return this.#joining.joined(options.timeoutMs ?? JOIN_TIMEOUT_MS, options.signal);
  }

  /**
   * Waits until a peer is connected, this program has processed all mail, and for `quietMs`
   * (default: 3,000) no mail arrived, the program acknowledged none and no new peer connected.
   * `timeoutMs` defaults to 30,000; the wait for the first peer takes at most 30,000 ms. A sender
   * that is unreachable now may still deliver later.
   *
   * @throws {NotJoined} if no peer connects in time; `CallTimeout` if mail still arrives, or if the
   * program has not processed all mail.
   */
  async caughtUp(options: CallOptions & { quietMs?: number } = {}): Promise<void> {
    checkOptions(options, { ...CALL, quietMs: milliseconds });
    return this.#joining.caughtUp(options.quietMs ?? QUIET_MS, options.timeoutMs ?? JOIN_TIMEOUT_MS, options.signal);
  }

  /** Returns the state and the counters of the node. */
  async status(options: CallOptions = {}): Promise<StatusReport> {
    checkOptions(options, CALL);
    const { status } = (await this.#supervised.ask({ type: "status" }, options)).answer;
    if (status === undefined) throw new SidecarError(ErrorCode.CONTRACT, "the node's answer to `status` has no `status` field");
    return status;
  }

  /** Returns the network, as the node knows it: metrics, nodes, connections, and the health score with its causes. */
  async report(options: CallOptions = {}): Promise<NetworkReport> {
    checkOptions(options, CALL);
    const { report } = (await this.#supervised.ask({ type: "report" }, options)).answer;
    if (report === undefined) throw new SidecarError(ErrorCode.CONTRACT, "the node's answer to `report` has no `report` field");
    return report;
  }

  /**
   * Returns what the registry on the chain says of an agent (`0x…` or a name). Rejects with the code
   * `NO_REGISTRY` without one, and `REGISTRY_UNAVAILABLE` if its servers do not answer or do not agree.
   */
  async registry(address: string, options: CallOptions = {}): Promise<RegistryEntry> {
    checkPeer("address", address);
    checkOptions(options, CALL);
    const { registry } = (await this.#supervised.ask({ type: "registry", address }, options)).answer;
    if (registry === undefined) throw new SidecarError(ErrorCode.CONTRACT, "the node's answer to `registry` has no `registry` field");
    return registry;
  }

  /** Waits until the node answers. */
  async ping(options: CallOptions = {}): Promise<void> {
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "ping" }, options);
  }

  /**
   * Acknowledges a message: the node reports `delivered` to its sender. With `ack: "manual"` only
   * this call does so. With `ack: "auto"` call it for the last message, after which the program
   * asks for no other. Ignores broadcasts, which need no `ack`.
   *
   * @throws {CommandRefused} with the code `MESSAGE_NOT_FOUND` if the message waits for no `ack`.
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

  /**
   * Rejects everything from an agent (`0x…`) or a node (PeerId). The SDK restores the rule after a
   * restart.
   */
  async block(peer: string, options: CallOptions = {}): Promise<void> {
    checkPeer("peer", peer);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "block", peerId: peer }, options);
  }

  /**
   * Marks messages from an agent (`0x…`) or a node (PeerId) with `trust` = `allowed`, and lifts the
   * limit on its high-priority messages. The SDK restores the rule after a restart.
   */
  async allow(peer: string, options: CallOptions = {}): Promise<void> {
    checkPeer("peer", peer);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "allow", peerId: peer }, options);
  }

  /** Removes the rule that `block` or `allow` has set. */
  async unblock(peer: string, options: CallOptions = {}): Promise<void> {
    checkPeer("peer", peer);
    checkOptions(options, CALL);
    await this.#supervised.ask({ type: "unblock", peerId: peer }, options);
  }

  /** Sends any command of the pipe protocol, without its `id`, and resolves with the answer. */
  async request(command: Command, options: CallOptions = {}): Promise<Answer> {
    check("command", command, (value) => object(value) ?? (name((value as Command).type) && "give an object with a `type`"));
    checkOptions(options, CALL);
    if ("data" in command) checkData(command.data);
    return (await this.#supervised.ask(command, options)).answer;
  }

  /**
   * Returns a stream of mail and broadcasts. The SDK acknowledges a message when this program asks
   * for the next one; see `Stream`. A pending read keeps this process alive. `buffer`: the maximum
   * number of buffered broadcasts (default: `broadcastBuffer`). `untilCaughtUp`: if set, the stream
   * ends when `caughtUp` would resolve; a number is its `quietMs`. The loop fails with `NotJoined`
   * if no peer connects within 30,000 ms.
   */
  messages(options: { buffer?: number; untilCaughtUp?: boolean | number } = {}): Stream<Event & Message> {
    const untilRule: Rule = (value) => (flag(value) && milliseconds(value) ? "give true, false or a number of milliseconds" : undefined);
    checkOptions(options, { buffer: BUFFER, untilCaughtUp: untilRule });
    const { buffer, untilCaughtUp = false } = options;
    const stream = this.#inbox.messages(buffer);
    if (untilCaughtUp !== false) void this.#endWhenCaughtUp(stream, untilCaughtUp === true ? QUIET_MS : untilCaughtUp);
    return stream;
  }

  /**
   * Returns a stream of the node's events, except messages. `buffer`: the maximum number of
   * buffered events of each kind (default: `eventBuffer`).
   */
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
      // A closed or lost node ends the stream without an error.
      stream.finish(error instanceof NotJoined ? error : undefined);
    }
  }

  #tell(event: Event): void {
    if (this.#handlers.onEvent(event)) return;
    this.#inbox.put(event);
    this.#joining.put(event);
    if (event.type === "overflow") this.emit("overflow", event);
  }

  #onLifecycle(name: keyof Lifecycle, what: unknown[]): void {
    if (name === "closed") this.#inbox.end();
    if (name === "closed" || name === "restarting") this.#handlers.processEnded();
    (this as EventEmitter).emit(name, ...what);
  }

  /**
   * Drains and stops the node. Later calls reject with `NodeClosed`. Takes at most the sum of
   * `closeTimeoutsMs`, by default 9,000 ms. May be called repeatedly. Resolves with the mail that
   * waits in the SDK, oldest first: no loop has read it, or a loop left it in the middle. The SDK
   * acknowledges neither this mail nor the mail that a loop holds at this time, so its senders keep
   * it.
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

  /** Returns the text that `console.log` shows. */
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
  if (answer.messageId === undefined) throw new SidecarError(ErrorCode.CONTRACT, "the node's answer to `send` has no `messageId` field");
  return answer.messageId;
}
