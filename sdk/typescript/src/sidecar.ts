/** A process that is started again when it crashes, and the calls that wait for it. */

import { randomBytes } from "node:crypto";

import { encode, type Reply, type Waiter } from "./channel.js";
import { Child } from "./child.js";
import { deferred, type Deferred } from "./deferred.js";
import {
  CallTimeout,
  CommandRefused,
  describeExit,
  NodeClosed,
  P2PError,
  SidecarError,
  SidecarExited,
  SidecarRestarted,
  SidecarUnavailable,
  type Exit,
} from "./errors.js";
import { findBinary } from "./locate.js";
import { commandLine, DEFAULTS, environment, type CallOptions, type Options } from "./options.js";
import { EXIT_GRACE_MS, Process } from "./process.js";
import { RESTART, Supervisor } from "./supervisor.js";
import { after, within } from "./timer.js";
import { PROTOCOL_VERSION, type Command, type Delivery, type Event, type Ready } from "./types.js";
import { Wanted } from "./wanted.js";

/** What becomes of the process. */
export interface Lifecycle {
  /** The process ended, and is started again after `delayMs`. `exit`: how, unless there was none or it was killed here. */
  restarting: [{ exit: Exit | undefined; reason: string; delayMs: number; attempt: number }];
  /** The node is back: same address and port, subscribed as before. What was broadcast meanwhile was missed. */
  restarted: [{ attempt: number; downtimeMs: number; ready: Ready }];
  /** The process has crashed so often in short order. It is still started again. */
  unhealthy: [{ crashes: number }];
  /** The last of all. `error`: why the node is gone, unless `close` was called. */
  closed: [P2PError | undefined];
}

/** Told of what nobody asked for. */
export interface Audience {
  told(event: Event): void;
  happened<Name extends keyof Lifecycle>(name: Name, ...what: Lifecycle[Name]): void;
}

/** A command on its way: until it is written it waits here, from then on in the channel of a child. */
interface Call {
  command: Command;
  body: string;
  answer: Deferred<Reply>;
  /** Where the delivery of mail goes. */
  outcome: Deferred<Delivery> | undefined;
  written?: { child: Child; id: number };
  abandoned: boolean;
}

/** Errors after which another start would end the same way. */
const FINAL = ["VERSION_MISMATCH", "IDENTITY_CHANGED", "INTERNAL"];

/** What becomes of one node's processes, and of what is asked of them. */
export class Sidecar {
  /** Lines of the node that could not be read. */
  undecodable = 0;
  ready!: Ready;
  child: Child | undefined;
  readonly #options: Options;
  readonly #audience: Audience;
  readonly #program: string;
  readonly #key = `0x${randomBytes(32).toString("hex")}`;
  readonly #supervisor: Supervisor;
  readonly #wanted = new Wanted();
  readonly #processes = new Set<Process>();
  #waiting: Call[] = [];
  #closed: P2PError | undefined;
  #closing: Promise<Exit | undefined> | undefined;
  #supervising: Promise<void> | undefined;
  #pause: { timer: NodeJS.Timeout; end: () => void } | undefined;
  #holds = 0;

  constructor(options: Options, audience: Audience) {
    this.#options = options;
    this.#audience = audience;
    this.#program = findBinary(options.binary, options.searchPath);
    this.#supervisor = new Supervisor(options.restart ?? {});
  }

  /** Starts the first process. What goes wrong before it is ready is not tried again. */
  async open(): Promise<void> {
    const [child, ready] = await this.#start(this.#options.port, this.#options.signal);
    this.#comeUp(child, ready);
    this.#supervising = this.#supervise(child);
  }

  // --- Asking ---

  /** Has a command written when its turn comes, and waits for its answer. */
  async ask(command: Command, options: CallOptions, outcome?: Deferred<Delivery>): Promise<Reply> {
    options.signal?.throwIfAborted();
    if (this.#closed !== undefined) throw this.#closed;
    const timeoutMs = options.timeoutMs ?? this.#options.callTimeoutMs ?? DEFAULTS.callTimeoutMs;
    const call: Call = { command, body: encode(command), answer: deferred<Reply>(), outcome, abandoned: false };
    this.#waiting.push(call);
    // Calls that are made together are written together.
    if (this.#waiting.length === 1) queueMicrotask(() => this.#writeWhatWaits());
    const late = (): P2PError =>
      call.written === undefined && this.child === undefined
        ? new SidecarUnavailable(timeoutMs)
        : new CallTimeout(`\`${command.type}\``, timeoutMs);
    try {
      return await this.wait(call.answer.promise, { ...options, timeoutMs }, late);
    } catch (error) {
      this.#abandon(call);
      throw error;
    }
  }

  #writeWhatWaits(): void {
    const stdin = this.child?.process.stdin;
    stdin?.cork();
    while (this.#waiting.length > 0 && this.child?.hasRoom) {
      const call = this.#waiting.shift() as Call;
      try {
        call.written = { child: this.child, id: this.child.ask(call.body, this.#waiter(call, this.child)) };
      } catch (error) {
        call.answer.reject(error as P2PError);
      }
    }
    stdin?.uncork();
  }

  #waiter(call: Call, child: Child): Waiter<Reply> {
    const { answer, outcome, command } = call;
    return {
      resolve: (reply) => {
        const { messageId, delivery } = reply.answer;
        this.#wanted.carriedOut(command);
        // Before the next line is looked at, for that may be the delivery. Nobody has the mail of a call that was given up, so its
        // delivery comes as an event.
        if (outcome !== undefined && messageId !== undefined && delivery === "accepted" && !call.abandoned) {
          const tracked = child.channel.track(messageId, outcome);
          const full = "too many deliveries are awaited; this one comes as an event";
          if (!tracked) outcome.reject(new P2PError("TOO_MANY", full));
        }
        answer.resolve(reply);
        this.#writeWhatWaits();
      },
      reject: (error) => {
        answer.reject(error);
        this.#writeWhatWaits();
      },
    };
  }

  #abandon(call: Call): void {
    call.abandoned = true;
    const { written } = call;
    if (written === undefined) {
      this.#waiting = this.#waiting.filter((other) => other !== call);
    } else if (call.command.type === "discover" && written.child.channel.isPending(written.id)) {
      written.child.ask(encode({ type: "cancel", target: written.id }), nobody);
    }
  }

  /** Waits for something for as long as a call may, and keeps this process alive meanwhile. */
  async wait<T>(something: Promise<T>, options: CallOptions, late: (timeoutMs: number) => P2PError): Promise<T> {
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    let timer: NodeJS.Timeout | undefined;
    let aborted: (() => void) | undefined;
    this.hold(true);
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
      this.hold(false);
    }
  }

  /** The child, or the wait for the next one, keeps this process alive only while somebody waits for something. */
  hold(more: boolean): void {
    this.#holds += more ? 1 : -1;
    if (this.#holds !== (more ? 1 : 0)) return;
    this.child?.process.hold(more);
    if (more) this.#pause?.timer.ref();
    else this.#pause?.timer.unref();
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
    const child = new Child(process, options.writeTimeoutMs ?? DEFAULTS.writeTimeoutMs, {
      told: (event) => this.#audience.told(event),
      undecodable: (lines) => (this.undecodable += lines),
      room: () => this.#writeWhatWaits(),
    });
    const connect: Command = {
      type: "connect",
      protocol: PROTOCOL_VERSION,
      bootstrapPeers: options.bootstrapPeers ?? [],
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
      if (error instanceof CommandRefused) error.exit = exit;
      throw error;
    } finally {
      signal?.removeEventListener("abort", give);
    }
  }

  #comeUp(child: Child, ready: Ready): void {
    this.#supervisor.ready(performance.now());
    this.ready = ready;
    this.child = child;
    child.process.hold(this.#holds > 0);
    this.#writeWhatWaits();
  }

  async #supervise(child: Child): Promise<void> {
    try {
      await this.#keepUp(child);
    } catch (error) {
      // A defect of this package must not leave callers waiting for ever.
      for (const process of this.#processes) process.signal("SIGKILL");
      this.#finish(new SidecarError("INTERNAL", `the supervision failed: ${String(error)}`), child);
    }
  }

  /** Has a process take the place of one that ended, again and again, until that is no use or the node is closed. */
  async #keepUp(child: Child): Promise<void> {
    for (;;) {
      const end = await child.ended();
      if (this.#closing !== undefined) return;
      const [since, tail, old] = [performance.now(), child.process.stderrTail(), child];
      let exit: Exit | undefined = end;
      let error: P2PError = new SidecarExited(end, tail);
      let reason = `the node ended with ${describeExit(end)}`;
      this.child = undefined;
      while (this.child === undefined) {
        const again = this.#supervisor.ended(exit, performance.now(), Math.random());
        if (again === undefined) return this.#finish(error, old);
        old.channel.failAll(new SidecarRestarted(end, tail));
        const { delayMs, attempt } = again;
        this.#audience.happened("restarting", { exit, reason, delayMs, attempt });
        const { restart } = this.#options;
        const crashes = (restart === false ? undefined : restart?.crashes) ?? RESTART.crashes;
        if (again.unhealthy) this.#audience.happened("unhealthy", { crashes });
        await this.#wait(delayMs);
        if (this.#isClosing()) return;
        try {
          child = await this.#replace(attempt, since);
        } catch (failure) {
          if (this.#isClosing()) return;
          error = failure instanceof P2PError ? failure : new SidecarError("INTERNAL", String(failure));
          if (FINAL.includes(error.code)) return this.#finish(error, old);
          exit = error instanceof SidecarExited || error instanceof CommandRefused ? error.exit : undefined;
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
      if (this.#holds === 0) timer.unref();
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
        throw new SidecarError("IDENTITY_CHANGED", message);
      }
      const timeoutMs = this.#options.callTimeoutMs ?? DEFAULTS.callTimeoutMs;
      for (const command of this.#wanted.commands()) {
        try {
          await child.answer(command, timeoutMs);
        } catch (error) {
          if (!(error instanceof CommandRefused)) throw error;
          // It was possible once. Nobody waits for this answer, so it is told as an event.
          const { code, retryable } = error;
          const message = `after a restart, ${encode(command)}: ${error.message}`;
          this.#audience.told({ type: "error", code, message, retryable });
        }
      }
    } catch (error) {
      await child.kill();
      throw error;
    }
    if (this.#isClosing()) throw new NodeClosed();
    this.#comeUp(child, ready);
    this.#audience.happened("restarted", { attempt, downtimeMs: performance.now() - since, ready });
    return child;
  }

  /** There is no process any more, and will be none. */
  #finish(error: P2PError | undefined, child: Child | undefined): void {
    this.#closed = error ?? new NodeClosed();
    this.child = undefined;
    this.#failWhatWaits(this.#closed);
    child?.channel.failAll(this.#closed);
    this.#audience.happened("closed", error);
  }

  #failWhatWaits(error: P2PError): void {
    for (const call of this.#waiting.splice(0)) call.answer.reject(error);
  }

  // --- The end ---

  close(): Promise<Exit | undefined> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<Exit | undefined> {
    if (this.#closed !== undefined) return undefined;
    const child = this.child;
    this.#closed = new NodeClosed();
    this.#failWhatWaits(this.#closed);
    this.hold(true);
    // Those who are told by now see that it is closing.
    await Promise.resolve();
    this.#pause?.end();
    const [drainMs, terminateMs] = this.#options.closeTimeoutsMs ?? DEFAULTS.closeTimeoutsMs;
    if (child === undefined) for (const process of this.#processes) process.signal("SIGKILL");
    const exit = await child?.shutDown(drainMs, terminateMs);
    await this.#supervising;
    this.#finish(undefined, child);
    this.hold(false);
    return exit;
  }
}

const nobody: Waiter<Reply> = { resolve: () => undefined, reject: () => undefined };

/** The TCP port that a node listens on. */
function portOf(ready: Ready): number | undefined {
  const port = ready.addrs.map((addr) => /\/tcp\/(\d+)/.exec(addr)?.[1]).find((found) => found !== undefined);
  return port === undefined ? undefined : Number(port);
}
