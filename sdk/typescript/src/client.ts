/** The node as a program uses it: calls, streams of events, and a process that is started again when it crashes. */

import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";

import type { Reply, Waiter } from "./channel.js";
import { Child } from "./child.js";
import {
  CallTimeout,
  describeExit,
  NodeClosed,
  P2PError,
  SidecarError,
  SidecarExited,
  SidecarRestarted,
  SidecarUnavailable,
  Undelivered,
  type Exit,
} from "./errors.js";
import { findBinary } from "./locate.js";
import { Process } from "./process.js";
import { Stream } from "./stream.js";
import { Supervisor, type Restart, RESTART } from "./supervisor.js";
import {
  LIMITS,
  PROTOCOL_VERSION,
  type Answer,
  type Command,
  type ConnectedPeer,
  type Delivery,
  type Event,
  type Message,
  type Overflow,
  type PeerDiscovered,
  type Priority,
  type Ready,
  type Route,
  type StatusReport,
} from "./types.js";

/** How a node is started. */
export interface Options {
  /** The binary; otherwise `P2P_NODE_BIN`, or the package of this platform. */
  binary?: string;
  /** Search PATH as well. */
  searchPath?: boolean;
  args?: string[];
  env?: Record<string, string>;
  cwd?: string;
  name?: string;
  network?: string;
  port?: number;
  bootstrapPeers?: string[];
  dataDir?: string;
  envFile?: string;
  /** Goes into the child's environment, never into its arguments. */
  privateKey?: string;
  bindingFile?: string;
  /** 30,000 by default. */
  readyTimeoutMs?: number;
  /** How long a call waits, for the node to be there and for its answer; 30,000 by default. */
  callTimeoutMs?: number;
  /** How long the node may leave its stdin unread before it is taken for dead; 10,000 by default. */
  writeTimeoutMs?: number;
  /** Events kept for each stream; 1,024 by default. */
  eventBuffer?: number;
  /** `false`: a process that ends is not started again. */
  restart?: Partial<Restart> | false;
  /** Called with what the node writes to stderr, in pieces. */
  onStderr?: (chunk: Buffer) => void;
  /** Gives up opening. */
  signal?: AbortSignal;
  /** How long a node may take to end after `close`: to finish (it takes up to 5 s itself), and then to obey SIGTERM; 7,000 and 2,000. */
  closeTimeoutsMs?: [number, number];
}

/** Of each call. Aborted, it does not take the command back. */
export interface CallOptions {
  signal?: AbortSignal;
  timeoutMs?: number;
}

export interface SendOptions extends CallOptions {
  kind?: string;
  priority?: Priority;
  ttlMs?: number;
  route?: Route;
  replyTo?: string;
  conversationId?: string;
}

export interface Lifecycle {
  /** The process ended, and is started again after `delayMs`. */
  restarting: [{ exit: Exit; reason: string; delayMs: number; attempt: number }];
  /** The node is back: same address and port, subscribed as before. What was broadcast meanwhile was missed. */
  restarted: [{ attempt: number; downtimeMs: number; ready: Ready }];
  /** The process has crashed so often in short order. It is still started again. */
  unhealthy: [{ crashes: number }];
  /** The node dropped events because this process did not read. */
  overflow: [Overflow];
  /** The last of all. `error`: why the node is gone, unless `close` was called. */
  closed: [P2PError | undefined];
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

/** A promise and what settles it; one that nobody looks at is no mistake. */
interface Deferred<T> extends Waiter<T> {
  promise: Promise<T>;
}

function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: P2PError) => void;
  const promise = new Promise<T>((take, refuse) => {
    resolve = take;
    reject = refuse;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

/** A supervised node. */
export class P2PNode extends EventEmitter<Lifecycle> implements AsyncDisposable {
  /** Lines of the node that could not be read. */
  undecodable = 0;
  readonly #options: Options;
  readonly #program: string;
  readonly #key = `0x${randomBytes(32).toString("hex")}`;
  readonly #supervisor: Supervisor;
  readonly #topics = new Set<string>();
  readonly #standings = new Map<string, "block" | "allow">();
  readonly #streams = new Set<{ put(event: unknown): void; end(): void }>();
  #backlog: Event[] | undefined = [];
  #child: Child | undefined;
  #ready!: Ready;
  #up = deferred<void>();
  #closed: P2PError | undefined;
  #closing: Promise<Exit | undefined> | undefined;
  #stopWaiting: (() => void) | undefined;
  #permits = LIMITS.maxInflight;
  #queue: (() => void)[] = [];
  #holds = 0;

  private constructor(options: Options) {
    super();
    this.#options = options;
    this.#program = findBinary(options.binary, options.searchPath);
    this.#supervisor = new Supervisor(options.restart ?? {});
  }

  /** Starts a node, waits until it is ready, and starts it again when it crashes. */
  static async open(options: Options = {}): Promise<P2PNode> {
    const node = new P2PNode(options);
    const [child, ready] = await node.#start(options.port, options.signal);
    node.#ready = ready;
    node.#comeUp(child);
    void node.#supervise(child);
    return node;
  }

  /** What the node said when it was ready last. */
  get ready(): Ready {
    return this.#ready;
  }

  /** The agent's Ethereum address. */
  get address(): string {
    return this.#ready.address;
  }

  /** The process's id, while there is one. */
  get pid(): number | undefined {
    return this.#child?.process.pid;
  }

  /** Commands of which the answer has not come. */
  get outstanding(): number {
    return this.#child?.channel.outstanding ?? 0;
  }

  /**
   * Sends mail to an agent, by `0x…` address or PeerId. Resolves when the node has accepted it. `data`: bytes, or whatever JSON can say.
   */
  async send(to: string, data: unknown, options: SendOptions = {}): Promise<Mail> {
    const { signal: _signal, timeoutMs: _timeoutMs, ...fields } = options;
    const outcome = deferred<Delivery>();
    const { answer } = await this.#ask({ type: "send", peerId: to, ...payload(data), ...fields }, options, outcome);
    return {
      messageId: messageIdOf(answer),
      delivered: async (wait: CallOptions = {}) => {
        const delivery = await this.#await(outcome.promise, wait, `the mail ${answer.messageId}`);
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
    const { answer } = await this.#ask({ type: "send", topic, ...payload(data), ...fields }, options);
    return { messageId: messageIdOf(answer), peers: answer.peers ?? 0 };
  }

  /** Receives what is broadcast on a topic; also after a restart. */
  async subscribe(topic: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ type: "subscribe", topic }, options);
    this.#topics.add(topic);
  }

  /** Ends a subscription. */
  async unsubscribe(topic: string, options: CallOptions = {}): Promise<void> {
    this.#topics.delete(topic);
    await this.#ask({ type: "unsubscribe", topic }, options);
  }

  /** Finds agents; looks for `lookForMs` (2,000 by default). Aborted or timed out, it ends the search. */
  async discover(
    options: CallOptions & { topic?: string; address?: string; capability?: string; lookForMs?: number } = {},
  ): Promise<PeerDiscovered[]> {
    const { signal: _signal, timeoutMs, lookForMs, ...what } = options;
    const patience = timeoutMs ?? this.#callTimeout + (lookForMs ?? 0);
    const look = lookForMs === undefined ? {} : { timeoutMs: lookForMs };
    const command: Command = { type: "discover", ...what, ...look };
    return (await this.#ask(command, { ...options, timeoutMs: patience })).found;
  }

  /** The peers that are connected. */
  async peers(options: CallOptions = {}): Promise<ConnectedPeer[]> {
    return (await this.#ask({ type: "peers" }, options)).answer.connected ?? [];
  }

  /** What the node knows and has counted. */
  async status(options: CallOptions = {}): Promise<StatusReport> {
    const { status } = (await this.#ask({ type: "status" }, options)).answer;
    if (status === undefined) throw new SidecarError("CONTRACT", "the answer to `status` has no status");
    return status;
  }

  /** Resolves when the node answers. */
  async ping(options: CallOptions = {}): Promise<void> {
    await this.#ask({ type: "ping" }, options);
  }

  /** Takes nothing more from an agent (`0x…`) or a node (PeerId). */
  async block(peer: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ type: "block", peerId: peer }, options);
    this.#standings.set(peer, "block");
  }

  /** Marks what an agent or a node sends as `trust` = `allowed`. */
  async allow(peer: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ type: "allow", peerId: peer }, options);
    this.#standings.set(peer, "allow");
  }

  /** Takes back `block` and `allow`. */
  async unblock(peer: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ type: "unblock", peerId: peer }, options);
    this.#standings.delete(peer);
  }

  /** Any command of the contract. */
  async request(command: Command, options: CallOptions = {}): Promise<Answer> {
    return (await this.#ask(command, options)).answer;
  }

  /** Mail and broadcasts. Whoever waits for one keeps this process alive. */
  messages(options: { highWaterMark?: number } = {}): Stream<Event & Message> {
    const isMessage = (event: unknown): event is Event & Message => (event as Event).type === "message";
    return this.#stream(isMessage, options.highWaterMark);
  }

  /** All that the node tells unasked. */
  events(options: { highWaterMark?: number } = {}): Stream<Event> {
    return this.#stream((event: unknown): event is Event => event !== undefined, options.highWaterMark);
  }

  #stream<T>(wanted: (event: unknown) => event is T, limit = this.#options.eventBuffer ?? 1024): Stream<T> {
    const leave = (left: Stream<T>): boolean => this.#streams.delete(left);
    const stream = new Stream<T>(limit, wanted, leave, (waiting) => this.#hold(waiting));
    // What came before anybody looked is for the first who does.
    for (const event of this.#backlog ?? []) stream.put(event);
    this.#backlog = undefined;
    if (this.#closed === undefined) this.#streams.add(stream);
    else stream.end();
    return stream;
  }

  #tell(event: Event): void {
    if (event.type === "overflow") this.emit("overflow", event);
    if (this.#backlog !== undefined) {
      this.#backlog.push(event);
      if (this.#backlog.length > (this.#options.eventBuffer ?? 1024)) this.#backlog.shift();
    }
    for (const stream of this.#streams) stream.put(event);
  }

  // --- Asking ---

  get #callTimeout(): number {
    return this.#options.callTimeoutMs ?? 30_000;
  }

  async #ask(command: Command, options: CallOptions, outcome?: Deferred<Delivery>): Promise<Reply> {
    const deadline = performance.now() + (options.timeoutMs ?? this.#callTimeout);
    const left = (): CallOptions => ({ ...options, timeoutMs: Math.max(0, deadline - performance.now()) });
    const what = `\`${command.type}\``;
    const answer = deferred<Reply>();
    const child = await this.#waitUp(left());
    await this.#permit(left(), what);
    // The permit counts the request until it is answered, whoever waits for it.
    void answer.promise.catch(() => undefined).then(() => this.#giveBack());
    let wanted = true;
    const sent = child.send(command, waiterOf(child, answer, outcome), this.#options.writeTimeoutMs ?? 10_000, () => {
      if (!wanted) throw new P2PError("ABORTED", "it was given up before it was sent");
    });
    sent.catch((error: unknown) => answer.reject(error as P2PError));
    try {
      return await this.#await(answer.promise, left(), what);
    } catch (error) {
      wanted = false;
      if (command.type === "discover" && !(error instanceof P2PError && error.code !== "TIMEOUT")) {
        void sent.then((target) => child.send({ type: "cancel", target }, nobody, 10_000)).catch(() => undefined);
      }
      throw error;
    }
  }

  /** Waits for something for as long as a call may, and keeps this process alive meanwhile. */
  async #await<T>(something: Promise<T>, options: CallOptions, what: string, late?: P2PError): Promise<T> {
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    let timer: NodeJS.Timeout | undefined;
    let aborted: (() => void) | undefined;
    this.#hold(true);
    try {
      return await new Promise<T>((resolve, reject) => {
        if (timeoutMs !== undefined) {
          timer = setTimeout(() => reject(late ?? new CallTimeout(what, Math.round(timeoutMs))), timeoutMs);
        }
        aborted = (): void => reject(signal?.reason as Error);
        signal?.addEventListener("abort", aborted, { once: true });
        something.then(resolve, reject);
      });
    } finally {
      clearTimeout(timer);
      if (aborted !== undefined) signal?.removeEventListener("abort", aborted);
      this.#hold(false);
    }
  }

  async #waitUp(options: CallOptions): Promise<Child> {
    const deadline = performance.now() + (options.timeoutMs ?? 0);
    for (;;) {
      if (this.#closed !== undefined) throw this.#closed;
      if (this.#child !== undefined) return this.#child;
      const timeoutMs = Math.max(0, deadline - performance.now());
      const late = new SidecarUnavailable(Math.round(options.timeoutMs ?? 0));
      await this.#await(this.#up.promise, { ...options, timeoutMs }, "", late);
    }
  }

  async #permit(options: CallOptions, what: string): Promise<void> {
    options.signal?.throwIfAborted();
    if (this.#permits > 0) {
      this.#permits -= 1;
      return;
    }
    const turn = deferred<void>();
    const mine = (): void => turn.resolve();
    this.#queue.push(mine);
    try {
      await this.#await(turn.promise, options, what);
    } catch (error) {
      const index = this.#queue.indexOf(mine);
      if (index >= 0) this.#queue.splice(index, 1);
      // It was given at the very moment at which it was no longer wanted.
      else this.#giveBack();
      throw error;
    }
  }

  #giveBack(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#permits += 1;
    else next();
  }

  /** The child keeps this process alive only while somebody waits for something. */
  #hold(more: boolean): void {
    this.#holds += more ? 1 : -1;
    if (this.#holds === (more ? 1 : 0)) this.#child?.process.hold(more);
  }

  // --- The process ---

  async #start(port: number | undefined, signal?: AbortSignal): Promise<[Child, Ready]> {
    signal?.throwIfAborted();
    const options = this.#options;
    const flags: [string, string | undefined][] = [
      ["--name", options.name],
      ["--network", options.network],
      ["--data-dir", options.dataDir],
      ["--env-file", options.envFile],
      ["--binding", options.bindingFile],
      ["--parent-pid", String(process.pid)],
    ];
    const named = flags.flatMap(([flag, value]) => (value === undefined ? [] : [flag, value]));
    const key = options.privateKey === undefined ? {} : { PRIVATE_KEY: options.privateKey };
    const child = new Child(
      await Process.spawn({
        program: this.#program,
        args: [...(options.args ?? []), ...named],
        env: { ...process.env, EPHEMERAL_KEY: this.#key, ...options.env, ...key },
        cwd: options.cwd,
        onStderr: options.onStderr,
      }),
      { told: (event) => this.#tell(event), undecodable: (lines) => (this.undecodable += lines) },
    );
    const connect: Command = {
      type: "connect",
      protocol: PROTOCOL_VERSION,
      bootstrapPeers: options.bootstrapPeers ?? [],
      ...(port === undefined ? {} : { port }),
    };
    const aborted = (): void => child.process.signal("SIGKILL");
    signal?.addEventListener("abort", aborted, { once: true });
    try {
      return [child, await child.connect(connect, options.readyTimeoutMs ?? 30_000)];
    } catch (error) {
      await child.kill();
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", aborted);
    }
  }

  #comeUp(child: Child): void {
    this.#supervisor.ready(performance.now());
    this.#child = child;
    child.process.hold(this.#holds > 0);
    this.#up.resolve();
  }

  async #supervise(child: Child): Promise<void> {
    try {
      await this.#keepUp(child);
    } catch (error) {
      // A defect of this package must not leave callers waiting for ever.
      this.#finish(new SidecarError("INTERNAL", `the supervision failed: ${String(error)}`), child);
    }
  }

  /** Has a process take the place of one that ended, again and again, until that is no use or the node is closed. */
  async #keepUp(first: Child): Promise<void> {
    let child = first;
    let exit = await child.ended();
    while (this.#closing === undefined) {
      const since = performance.now();
      this.#child = undefined;
      this.#up = deferred();
      const tail = child.process.stderrTail();
      const again = this.#supervisor.ended(exit, since, Math.random());
      if (again === undefined) return this.#finish(new SidecarExited(exit, tail), child);
      child.channel.failAll(new SidecarRestarted(exit, tail));
      const { delayMs, attempt } = again;
      this.emit("restarting", { exit, reason: describeExit(exit), delayMs, attempt });
      if (again.unhealthy) {
        const restart = this.#options.restart;
        this.emit("unhealthy", { crashes: (restart === false ? undefined : restart?.crashes) ?? RESTART.crashes });
      }
      await this.#pause(delayMs);
      if (this.#closing !== undefined) return;
      try {
        child = await this.#replace(attempt, since);
      } catch (error) {
        const code = error instanceof P2PError ? error.code : "INTERNAL";
        if (["VERSION_MISMATCH", "IDENTITY_CHANGED", "INTERNAL"].includes(code)) {
          return this.#finish(error as P2PError, child);
        }
        exit = error instanceof SidecarExited ? error.exit : { code: null, signal: "SIGKILL" };
        continue;
      }
      exit = await child.ended();
    }
  }

  /** Waits, unless the node is closed before. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      if (this.#holds === 0) timer.unref();
      this.#stopWaiting = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** A new process in the place of the old one, with all that this program had asked of that. */
  async #replace(attempt: number, since: number): Promise<Child> {
    const before = this.#ready;
    const [child, ready] = await this.#start(portOf(before) ?? this.#options.port);
    try {
      if (ready.address !== before.address) {
        const message = `the node was ${before.address} and is now ${ready.address}: give it a key`;
        throw new SidecarError("IDENTITY_CHANGED", message);
      }
      for (const topic of this.#topics) await child.ask({ type: "subscribe", topic }, this.#callTimeout);
      for (const [peerId, type] of this.#standings) await child.ask({ type, peerId }, this.#callTimeout);
    } catch (error) {
      await child.kill();
      throw error;
    }
    this.#ready = ready;
    this.#comeUp(child);
    this.emit("restarted", { attempt, downtimeMs: performance.now() - since, ready });
    return child;
  }

  /** There is no process any more, and will be none. */
  #finish(error: P2PError | undefined, child: Child | undefined): void {
    this.#closed = error ?? new NodeClosed();
    this.#child = undefined;
    this.#up.resolve();
    child?.channel.failAll(this.#closed);
    for (const stream of this.#streams) stream.end();
    this.#streams.clear();
    this.emit("closed", error);
  }

  /**
   * Has the node finish what it accepted and end; later calls fail. Takes 9 s at most, and may be called more than once. Resolves with how
   * the process ended: code 75 means that accepted mail was lost.
   */
  close(): Promise<Exit | undefined> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<Exit | undefined> {
    if (this.#closed !== undefined) return undefined;
    const child = this.#child;
    this.#closed = new NodeClosed();
    this.#stopWaiting?.();
    const [drainMs, terminateMs] = this.#options.closeTimeoutsMs ?? [7000, 2000];
    this.#hold(true);
    const exit = await child?.shutDown(drainMs, terminateMs);
    this.#finish(undefined, child);
    return exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const nobody: Waiter<Reply> = { resolve: () => undefined, reject: () => undefined };

function waiterOf(child: Child, answer: Deferred<Reply>, outcome: Deferred<Delivery> | undefined): Waiter<Reply> {
  return {
    resolve: (reply) => {
      const { messageId, delivery } = reply.answer;
      // Before the next line is looked at, for that may be the delivery.
      if (outcome !== undefined && messageId !== undefined && delivery === "accepted" && !child.channel.track(messageId, outcome)) {
        outcome.reject(new P2PError("TOO_MANY", "too many deliveries are awaited; this one comes as an event"));
      }
      answer.resolve(reply);
    },
    reject: (error) => {
      outcome?.reject(error);
      answer.reject(error);
    },
  };
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

/** The TCP port that a node listens on. */
function portOf(ready: Ready): number | undefined {
  const port = ready.addrs.map((addr) => /\/tcp\/(\d+)/.exec(addr)?.[1]).find((found) => found !== undefined);
  return port === undefined ? undefined : Number(port);
}
