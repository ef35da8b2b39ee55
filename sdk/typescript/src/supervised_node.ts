/** Supervises the process of one node, restarts it after a crash, and executes calls. */

import { randomBytes } from "node:crypto";

import { Calls, waitFor } from "./calls.js";
import { encode, type OnResponse, type Reply } from "./channel.js";
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
import { DEFAULTS, environment, processArguments, type CallOptions, type Options } from "./options.js";
import { EXIT_GRACE_MS, Process, type KeepAlive } from "./process.js";
import { RESTART, Supervisor } from "./supervisor.js";
import { after, within } from "./timer.js";
import { ErrorCode, PROTOCOL_VERSION, type Command, type Delivery, type Event, type Ready } from "./types.js";
import { DesiredState } from "./desired_state.js";

/** The lifecycle events of the process. */
export interface Lifecycle {
  /**
   * The process ended. The SDK restarts it after `delayMs`. `exit` is missing if no process had
   * started or the SDK killed it before it was ready. `attempt` counts the restarts, from 1.
   */
  restarting: [{ exit: Exit | undefined; reason: string; delayMs: number; attempt: number }];
  /**
   * The node is ready again, with the same address, access rules and subscriptions. It missed the
   * broadcasts of the last `downtimeMs`.
   */
  restarted: [{ attempt: number; downtimeMs: number; ready: Ready }];
  /** The process crashed `crashes` times within the policy's window. The SDK still restarts it. */
  unhealthy: [{ crashes: number }];
  /** The last event, with the reason; `undefined` if the program called `close`. */
  closed: [P2PError | undefined];
}

/** Handles the events of the node and of its process. */
export interface Handler {
  onEvent(event: Event): void;
  onLifecycle<Name extends keyof Lifecycle>(name: Name, ...what: Lifecycle[Name]): void;
}

/** Errors after which a restart would fail the same way. A missing binary may be being replaced. */
const FINAL: readonly ErrorCode[] = [ErrorCode.VERSION_MISMATCH, ErrorCode.IDENTITY_CHANGED, ErrorCode.INTERNAL];

/** Starts and restarts the process of a node, and passes the calls to it. */
export class SupervisedNode implements KeepAlive {
  /** The number of lines of the node that the SDK could not decode. */
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

  /** Starts the first process. The SDK does not retry if it fails before it is ready. */
  async open(): Promise<void> {
    const [child, ready] = await this.#start(this.#options.port, this.#options.signal);
    this.#onReady(child, ready);
    this.#supervising = this.#supervise(child);
  }

  // --- Asking ---

  /** Queues a command and waits for its answer. `outcome` gets the delivery of a message. */
  async ask(command: Command, options: CallOptions, outcome?: Deferred<Delivery>, onResponse?: OnResponse): Promise<Reply> {
    return this.#calls.ask(command, this.#checked(options), outcome, onResponse);
  }

  /** Writes a command at once, whose answer nobody waits for. */
  write(command: Command): void {
    this.#calls.tell(command);
  }

  /** Acknowledges a message without waiting for the answer. */
  ack(messageId: string): void {
    if (this.#closed === undefined) this.#calls.ack(messageId);
  }

  /** Acknowledges a message and waits for the answer. */
  async askAck(messageId: string, options: CallOptions): Promise<void> {
    return this.#calls.askAck(messageId, this.#checked(options));
  }

  /** Number of acknowledged messages that the node did not know. */
  get acksNotFound(): number {
    return this.#calls.acks.notFound;
  }

  #checked(options: CallOptions): CallOptions & { timeoutMs: number } {
    options.signal?.throwIfAborted();
    if (this.#closed !== undefined) throw this.#closed;
    return { ...options, timeoutMs: options.timeoutMs ?? this.#options.callTimeoutMs ?? DEFAULTS.callTimeoutMs };
  }

  /** Waits for `something` with the options of a call, and keeps this process alive meanwhile. */
  wait<T>(something: Promise<T>, options: CallOptions, late: (timeoutMs: number) => P2PError): Promise<T> {
    return waitFor(something, options, late, this);
  }

  /** Keeps this process alive until `unref`. Counts the calls. */
  ref(): void {
    this.#refs += 1;
    if (this.#refs !== 1) return;
    this.child?.process.ref();
    this.#pause?.timer.ref();
  }

  /**
   * Undoes one `ref`. After the last one, neither the child nor a timer keeps this process alive.
   */
  unref(): void {
    this.#refs -= 1;
    if (this.#refs !== 0) return;
    this.child?.process.unref();
    this.#pause?.timer.unref();
  }

  // --- The process ---

  /**
   * Starts a process and waits until it is ready. If that fails, kills the process before it throws
   * the error.
   */
  async #start(port: number | undefined, signal?: AbortSignal): Promise<[Child, Ready]> {
    signal?.throwIfAborted();
    const options = this.#options;
    const process = await Process.spawn({
      program: this.#program,
      args: processArguments(options),
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
      ...(options.inbox === undefined ? {} : { inbox: options.inbox }),
      ...(options.group === undefined ? {} : { group: options.group }),
    };
    const give = (): void => process.signal("SIGKILL");
    signal?.addEventListener("abort", give, { once: true });
    // `close` or an abort before this point found no process to kill.
    if (this.#closing !== undefined || signal?.aborted) give();
    try {
      return [child, await child.connect(connect, options.readyTimeoutMs ?? DEFAULTS.readyTimeoutMs)];
    } catch (error) {
      // A process that rejected the command exits by itself. Its exit code says if a restart can
      // help.
      if (error instanceof CommandRefused) await within(process.exit, EXIT_GRACE_MS);
      const exit = await child.kill();
      signal?.throwIfAborted();
      if (!(error instanceof CommandRefused)) throw error;
      const { code, details, retryable } = error;
      // The error's text begins with the code, which the report holds separately.
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
      // After a bug in this package, callers must not wait forever.
      for (const process of this.#processes) process.signal("SIGKILL");
      const message = `the supervisor of the SDK failed, please report this bug: ${String(error)}`;
      this.#finish(new SidecarError(ErrorCode.INTERNAL, message), child);
    }
  }

  /**
   * Restarts the process after each exit, until a restart cannot help or the program closes the
   * node.
   */
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

  /** Waits for `ms`, or until `close`. */
  async #wait(ms: number): Promise<void> {
    await new Promise<void>((end) => {
      const timer = after(ms, end);
      if (this.#refs === 0) timer.unref();
      this.#pause = { timer, end };
    });
    clearTimeout(this.#pause?.timer);
    this.#pause = undefined;
  }

  /** Starts a replacement process and restores the desired state in it. */
  async #replace(attempt: number, since: number): Promise<Child> {
    const before = this.ready;
    const [child, ready] = await this.#start(portOf(before) ?? this.#options.port);
    try {
      if (ready.address !== before.address) {
        const change = `the node was ${before.address} and is now ${ready.address}`;
        const advice = "set privateKey, so that every process has the same address";
        throw new SidecarError(ErrorCode.IDENTITY_CHANGED, `${change}: ${advice}`);
      }
      const timeoutMs = this.#options.callTimeoutMs ?? DEFAULTS.callTimeoutMs;
      for (const command of this.#desired.replay()) {
        try {
          await child.answer(command, timeoutMs);
        } catch (error) {
          if (!(error instanceof CommandRefused)) throw error;
          // No caller waits for this answer, so the SDK reports the error as an event.
          const { code, retryable } = error;
          const message = `the restarted node rejected ${encode(command)}: ${error.message}`;
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

  /** Ends the node for good: fails all calls. `undefined`: `close` ran. */
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
    // Lets the callers of the failed calls run; they see that the node is closing.
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

/** Returns the TCP port on which the node listens. */
function portOf(ready: Ready): number | undefined {
  const port = ready.addrs.map((addr) => /\/tcp\/(\d+)/.exec(addr)?.[1]).find((found) => found !== undefined);
  return port === undefined ? undefined : Number(port);
}
