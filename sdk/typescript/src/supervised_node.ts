/** A process that is started again when it crashes, and the calls that wait for it. */

import { randomBytes } from "node:crypto";

import { Calls, waitFor } from "./calls.js";
import { encode, type Reply } from "./channel.js";
import { Child } from "./child.js";
import type { Deferred } from "./deferred.js";
import {
  CommandRefused,
  describeEnd,
  NodeClosed,
  P2PError,
  SidecarError,
  SidecarExited,
  SidecarRestarted,
  StartFailed,
  type Exit,
} from "./errors.js";
import { findBinary } from "./locate.js";
import { commandLine, DEFAULTS, environment, type CallOptions, type Options } from "./options.js";
import { EXIT_GRACE_MS, Process, type KeepAlive } from "./process.js";
import { RESTART, Supervisor } from "./supervisor.js";
import { after, within } from "./timer.js";
import { ErrorCode, PROTOCOL_VERSION, type Command, type Delivery, type Event, type Ready } from "./types.js";
import { DesiredState } from "./desired_state.js";

/** Events of the process. */
export interface Lifecycle {
  /** The process ended. The SDK restarts it after `delayMs`. `exit` is missing if no process had started or the SDK killed it. */
  restarting: [{ exit: Exit | undefined; reason: string; delayMs: number; attempt: number }];
  /** The node is ready again, with the same address, port and subscriptions. It missed the broadcasts of the meantime. */
  restarted: [{ attempt: number; downtimeMs: number; ready: Ready }];
  /** The process crashed this often within the window. The SDK still restarts it. */
  unhealthy: [{ crashes: number }];
  /** The last event. `error`: the reason, unless the program called `close`. */
  closed: [P2PError | undefined];
}

/** Handles the events of the node and of its process. */
export interface Handler {
  onEvent(event: Event): void;
  onLifecycle<Name extends keyof Lifecycle>(name: Name, ...what: Lifecycle[Name]): void;
}

/** Errors after which another start would end the same way. A binary that is being replaced at this time is none. */
const FINAL: readonly ErrorCode[] = [ErrorCode.VERSION_MISMATCH, ErrorCode.IDENTITY_CHANGED, ErrorCode.INTERNAL];

/** Starts and restarts the process of a node, and passes the calls to it. */
export class SupervisedNode implements KeepAlive {
  /** Number of lines of the node that the SDK could not decode. */
  undecodable = 0;
  ready!: Ready;
  child: Child | undefined;
  /** How the last process ended. */
  exit: Exit | undefined;
  readonly #options: Options;
  readonly #handler: Handler;
  readonly #program: string;
  readonly #key = `0x${randomBytes(32).toString("hex")}`;
  readonly #supervisor: Supervisor;
  readonly #desired = new DesiredState();
  readonly #processes = new Set<Process>();
  readonly #calls: Calls;
  #closed: P2PError | undefined;
  #closing: Promise<void> | undefined;
  #supervising: Promise<void> | undefined;
  #pause: { timer: NodeJS.Timeout; end: () => void } | undefined;
  #refs = 0;

  constructor(options: Options, handler: Handler) {
    this.#options = options;
    this.#handler = handler;
    this.#program = findBinary(options.binary, options.searchPath);
    this.#supervisor = new Supervisor(options.restart ?? {});
    this.#calls = new Calls(this.#desired, this);
  }

  /** Starts the first process. What goes wrong before it is ready is not tried again. */
  async open(): Promise<void> {
    const [child, ready] = await this.#start(this.#options.port, this.#options.signal);
    this.#onReady(child, ready);
    this.#supervising = this.#supervise(child);
  }

  // --- Asking ---

  /** Has a command written when its turn comes, and waits for its answer. */
  async ask(command: Command, options: CallOptions, outcome?: Deferred<Delivery>): Promise<Reply> {
    return this.#calls.ask(command, this.#checked(options), outcome);
  }

  /** Acknowledges a mail of which the program does not ask for the answer. */
  ack(messageId: string): void {
    if (this.#closed === undefined) this.#calls.ack(messageId);
  }

  /** Acknowledges a mail and waits for the answer. */
  async askAck(messageId: string, options: CallOptions): Promise<void> {
    return this.#calls.askAck(messageId, this.#checked(options));
  }

  /** Mail whose `ack` the node did not know. */
  get acksNotFound(): number {
    return this.#calls.acks.notFound;
  }

  #checked(options: CallOptions): CallOptions & { timeoutMs: number } {
    options.signal?.throwIfAborted();
    if (this.#closed !== undefined) throw this.#closed;
    return { ...options, timeoutMs: options.timeoutMs ?? this.#options.callTimeoutMs ?? DEFAULTS.callTimeoutMs };
  }

  /** Waits for something for as long as a call may, and keeps this process alive meanwhile. */
  wait<T>(something: Promise<T>, options: CallOptions, late: (timeoutMs: number) => P2PError): Promise<T> {
    return waitFor(something, options, late, this);
  }

  /** Keeps this process alive until `unref`, by the child or by the timer of the next start. Calls are counted. */
  ref(): void {
    this.#refs += 1;
    if (this.#refs !== 1) return;
    this.child?.process.ref();
    this.#pause?.timer.ref();
  }

  /** Takes back one `ref`. After the last one, neither the child nor the timer keeps this process alive. */
  unref(): void {
    this.#refs -= 1;
    if (this.#refs !== 0) return;
    this.child?.process.unref();
    this.#pause?.timer.unref();
  }

  // --- The process ---

  /** A process that is ready; one that does not get there is gone. */
  async #start(port: number | undefined, signal?: AbortSignal): Promise<[Child, Ready]> {
    signal?.throwIfAborted();
    const options = this.#options;
    const process = await Process.spawn({
      program: this.#program,
      args: commandLine(options),
      env: environment(options, this.#key),
      cwd: options.cwd,
      onStderr: options.onStderr,
    });
    this.#processes.add(process);
    void process.exit.then(() => this.#processes.delete(process));
    const child = new Child(process, {
      onEvent: (event) => this.#handler.onEvent(event),
      undecodable: (lines) => (this.undecodable += lines),
      room: () => this.#calls.write(),
    });
    const connect: Command = {
      type: "connect",
      protocol: PROTOCOL_VERSION,
      bootstrapPeers: options.bootstrapPeers ?? [],
      maxUnacked: options.mailBuffer ?? DEFAULTS.mailBuffer,
      ...(port === undefined ? {} : { port }),
    };
    const give = (): void => process.signal("SIGKILL");
    signal?.addEventListener("abort", give, { once: true });
    // Whoever closed or gave up a moment ago saw no process to end.
    if (this.#closing !== undefined || signal?.aborted) give();
    try {
      return [child, await child.connect(connect, options.readyTimeoutMs ?? DEFAULTS.readyTimeoutMs)];
    } catch (error) {
      // One that says why it refuses is about to end by itself, with a code that tells whether to try again.
      if (error instanceof CommandRefused) await within(process.exit, EXIT_GRACE_MS);
      const exit = await child.kill();
      signal?.throwIfAborted();
      if (!(error instanceof CommandRefused)) throw error;
      const { code, details, retryable } = error;
      // The error's text begins with the code, which the report has apart.
      const message = error.message.slice(code.length + 2);
      throw new StartFailed(exit, process.stderrTail(), { code, message, retryable, details });
    } finally {
      signal?.removeEventListener("abort", give);
    }
  }

  #onReady(child: Child, ready: Ready): void {
    this.#supervisor.ready(performance.now());
    this.ready = ready;
    this.child = child;
    if (this.#refs > 0) child.process.ref();
    else child.process.unref();
    this.#calls.use(child);
  }

  async #supervise(child: Child): Promise<void> {
    try {
      await this.#restartOnExit(child);
    } catch (error) {
      // A defect of this package must not leave callers waiting for ever.
      for (const process of this.#processes) process.signal("SIGKILL");
      this.#finish(new SidecarError(ErrorCode.INTERNAL, `the supervision failed: ${String(error)}`), child);
    }
  }

  /** Has a process take the place of one that ended, again and again, until that is no use or the node is closed. */
  async #restartOnExit(child: Child): Promise<void> {
    for (;;) {
      const end = await child.ended();
      this.exit = end;
      if (this.#closing !== undefined) return;
      const [since, exited, old] = [performance.now(), child.exited(end), child];
      let exit: Exit | undefined = end;
      let error: P2PError = exited;
      let reason = describeEnd(end, exited.report);
      this.child = undefined;
      while (this.child === undefined) {
        const again = this.#supervisor.ended(exit, performance.now(), Math.random());
        if (again === undefined) return this.#finish(error, old);
        old.channel.failAll((maySend) => new SidecarRestarted(exited, !maySend));
        this.#calls.lose(new SidecarRestarted(exited, true));
        const { delayMs, attempt } = again;
        this.#handler.onLifecycle("restarting", { exit, reason, delayMs, attempt });
        const { restart } = this.#options;
        const crashes = (restart === false ? undefined : restart?.crashes) ?? RESTART.crashes;
        if (again.unhealthy) this.#handler.onLifecycle("unhealthy", { crashes });
        await this.#wait(delayMs);
        if (this.#isClosing()) return;
        try {
          child = await this.#replace(attempt, since);
        } catch (failure) {
          if (this.#isClosing()) return;
          error = failure instanceof P2PError ? failure : new SidecarError(ErrorCode.INTERNAL, String(failure));
          if (FINAL.includes(error.code)) return this.#finish(error, old);
          exit = error instanceof SidecarExited ? error.exit : undefined;
          reason = error.message;
        }
      }
    }
  }

  #isClosing(): boolean {
    return this.#closing !== undefined;
  }

  /** Waits, unless the node is closed before. */
  async #wait(ms: number): Promise<void> {
    await new Promise<void>((end) => {
      const timer = after(ms, end);
      if (this.#refs === 0) timer.unref();
      this.#pause = { timer, end };
    });
    clearTimeout(this.#pause?.timer);
    this.#pause = undefined;
  }

  /** A new process in the place of the old one, with all that this program had asked of that. */
  async #replace(attempt: number, since: number): Promise<Child> {
    const before = this.ready;
    const [child, ready] = await this.#start(portOf(before) ?? this.#options.port);
    try {
      if (ready.address !== before.address) {
        const message = `the node was ${before.address} and is now ${ready.address}: give it a key`;
        throw new SidecarError(ErrorCode.IDENTITY_CHANGED, message);
      }
      const timeoutMs = this.#options.callTimeoutMs ?? DEFAULTS.callTimeoutMs;
      for (const command of this.#desired.replay()) {
        try {
          await child.answer(command, timeoutMs);
        } catch (error) {
          if (!(error instanceof CommandRefused)) throw error;
          // It was possible once. Nobody waits for this answer, so it is told as an event.
          const { code, retryable } = error;
          const message = `after a restart, ${encode(command)}: ${error.message}`;
          this.#handler.onEvent({ type: "error", code, message, retryable });
        }
      }
    } catch (error) {
      await child.kill();
      throw error;
    }
    if (this.#isClosing()) throw new NodeClosed();
    this.#onReady(child, ready);
    this.#handler.onLifecycle("restarted", { attempt, downtimeMs: performance.now() - since, ready });
    return child;
  }

  /** There is no process any more, and will be none. */
  #finish(error: P2PError | undefined, child: Child | undefined): void {
    const closed = error ?? new NodeClosed();
    this.#closed = closed;
    this.child = undefined;
    this.#calls.failAll(closed);
    child?.channel.failAll(() => closed);
    this.#handler.onLifecycle("closed", error);
  }

  // --- The end ---

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#closed !== undefined) return;
    const child = this.child;
    this.#closed = new NodeClosed();
    this.#calls.failWaiting(this.#closed);
    this.ref();
    // Those who are told by now see that it is closing.
    await Promise.resolve();
    this.#pause?.end();
    const [drainMs, terminateMs] = this.#options.closeTimeoutsMs ?? DEFAULTS.closeTimeoutsMs;
    if (child === undefined) for (const process of this.#processes) process.signal("SIGKILL");
    if (child !== undefined) this.#calls.writeLastAcks(child);
    await child?.close(drainMs, terminateMs);
    await this.#supervising;
    this.#finish(undefined, child);
    this.unref();
  }
}

/** The TCP port that a node listens on. */
function portOf(ready: Ready): number | undefined {
  const port = ready.addrs.map((addr) => /\/tcp\/(\d+)/.exec(addr)?.[1]).find((found) => found !== undefined);
  return port === undefined ? undefined : Number(port);
}
