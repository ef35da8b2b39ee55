/** One process of the node, with its channel: writes commands and dispatches events. */

import { Channel, encode, type OnResponse, type Reply, type Waiter } from "./channel.js";
import { decodeEvent } from "./decode.js";
import { deferred } from "./deferred.js";
import { SidecarError, SidecarExited, StartFailed, type Exit } from "./errors.js";
import { Framer } from "./framer.js";
import { EXIT_GRACE_MS, type Process } from "./process.js";
import { within } from "./timer.js";
import { ErrorCode, LIMITS, PROTOCOL_VERSION, type Command, type ErrorEvent, type Event, type Limits, type Ready } from "./types.js";
import { LineWriter } from "./writer.js";

/** The version of this package and of the binary that it supports. */
export const VERSION = "0.1.0";

/** Handles the events of a child. */
export interface Listener {
  onEvent(event: Event): void;
  undecodable(lines: number): void;
  /** The pipe may have room for more commands. */
  room(): void;
}

/** A child is stuck after this many times `maxPauseMs`: a margin for a slow machine. */
const PAUSES = 5;

/** One process of a node, from its start to its exit. After a crash another one replaces it. */
export class Child {
  readonly channel = new Channel();
  readonly process: Process;
  limits: Limits = LIMITS;
  /** The last `error` of the node without a call or message: the reason if the node ends. */
  #lastError: ErrorEvent | undefined;
  #isReady = false;
  readonly #ready: Promise<Ready>;
  readonly #writer: LineWriter;

  constructor(process: Process, listener: Listener) {
    this.process = process;
    this.#writer = new LineWriter(process.stdin, PAUSES * LIMITS.maxPauseMs, {
      idle: () => listener.room(),
      stuck: () => this.#stuck(),
    });
    this.#ready = new Promise((resolve) => {
      const framer = new Framer();
      process.onOutput((chunk) => {
        this.#writer.progress();
        const before = framer.tooLong;
        for (const line of framer.push(chunk)) {
          let event: Event | undefined;
          try {
            event = decodeEvent(line);
          } catch {
            listener.undecodable(1);
            continue;
          }
          if (event?.type === "ready") {
            this.#useLimits(event.limits);
            this.#isReady = true;
            resolve(event);
          }
          const news = event === undefined ? undefined : this.channel.receive(event);
          if (news?.type === "error" && news.messageId === undefined) this.#lastError = news;
          if (news !== undefined) listener.onEvent(news);
        }
        listener.undecodable(framer.tooLong - before);
      });
    });
  }

  #useLimits(limits: Limits): void {
    this.limits = { ...LIMITS, ...limits };
    this.#writer.timeoutMs = PAUSES * this.limits.maxPauseMs;
  }

  /** `true` if the pipe accepts one more command now. */
  get hasRoom(): boolean {
    return this.#writer.hasRoom && !this.process.exited && this.channel.closed === undefined;
  }

  /** Adds a command to the next `flush`; its answer goes to `waiter`. Returns the id. */
  add(command: string, waiter: Waiter<Reply>, isSend = false, onResponse?: OnResponse): number {
    const { id, line } = this.channel.request(command, waiter, isSend, onResponse);
    this.#writer.add(line);
    return id;
  }

  flush(): void {
    this.#writer.flush();
  }

  /** Writes a command as soon as the pipe has room; its answer goes to `waiter`. Returns the id. */
  ask(command: string, waiter: Waiter<Reply>): number {
    const id = this.add(command, waiter);
    this.flush();
    return id;
  }

  /** Writes a command and waits for its answer, for `timeoutMs`, or until the process exits. */
  async answer(command: Command, timeoutMs: number): Promise<Reply> {
    const answer = deferred<Reply>();
    this.ask(encode(command), answer);
    const late = `the restarted node did not answer \`${command.type}\` within ${timeoutMs} ms`;
    return this.#first(answer.promise, timeoutMs, late);
  }

  /** Sends `connect`, waits until the node is ready, and checks its version. */
  async connect(command: Command, timeoutMs: number): Promise<Ready> {
    const refused = deferred<Ready>();
    this.ask(encode(command), { resolve: () => undefined, reject: refused.reject });
    const ready = Promise.race([this.#ready, refused.promise]);
    return checkVersion(
      await this.#first(ready, timeoutMs, `the node was not ready within ${timeoutMs} ms`),
      this.process.program,
    );
  }

  /**
   * Waits for `something`, for `timeoutMs`, or until the process exits. Output before the exit
   * still counts.
   */
  async #first<T>(something: Promise<T>, timeoutMs: number, late: string): Promise<T> {
    const { process } = this;
    const exited = process.finished().then(async (exit) => {
      await within(process.outputEnd, EXIT_GRACE_MS);
      throw this.exited(exit);
    });
    exited.catch(() => undefined);
    if (await within(Promise.race([something, exited]), timeoutMs)) return Promise.race([something, exited]);
    const why = this.#lastError === undefined ? "" : `: ${this.#lastError.code}: ${this.#lastError.message}`;
    throw new SidecarError(ErrorCode.NOT_READY, `${late}${why}`, true, process.stderrTail());
  }

  /** Returns the error for an exit, with the reason that the node or the exit status gives. */
  exited(exit: Exit): SidecarExited {
    const { program } = this.process;
    const tail = this.process.stderrTail();
    if (this.#isReady) return new SidecarExited(exit, tail, this.#lastError);
    const isDamaged = ["SIGSEGV", "SIGBUS", "SIGILL"].includes(exit.signal ?? "");
    const advice =
      isDamaged ? `; ${program} is damaged or for another processor: install it again`
      : exit.code === 0 ? ` before it was ready; ${program} may be another program: check the path`
      : "";
    return new StartFailed(exit, tail, this.#lastError, advice);
  }

  #stuck(): void {
    const { timeoutMs } = this.#writer;
    const message = `the node neither read nor wrote for ${timeoutMs} ms, so the SDK killed it`;
    this.channel.failAll((maySend) => new SidecarError(ErrorCode.WRITE_TIMEOUT, message, !maySend));
    this.process.signal("SIGKILL");
  }

  /**
   * Waits for the exit of the process. Kills a process that closes its stdout but does not exit,
   * because the SDK can no longer hear from it.
   */
  async ended(): Promise<Exit> {
    const finished = this.process.finished();
    await Promise.race([finished, this.process.outputEnd]);
    if (!(await within(finished, EXIT_GRACE_MS))) this.process.signal("SIGKILL");
    const exit = await finished;
    // The pipe may still hold the last lines. The wait is bounded, because a grandchild may keep
    // the pipe open forever.
    await within(this.process.outputEnd, EXIT_GRACE_MS);
    this.process.release();
    return exit;
  }

  /** Kills the child, waits for its exit and releases its pipes. */
  async kill(): Promise<Exit> {
    this.process.signal("SIGKILL");
    const exit = await this.process.exit;
    this.process.release();
    return exit;
  }

  /**
   * Sends `shutdown` and waits for the exit: `drainMs` until SIGTERM, then `terminateMs` until
   * SIGKILL.
   */
  async close(drainMs: number, terminateMs: number): Promise<Exit> {
    const { process } = this;
    // The end of stdin also stops a node, but not one with `--on-eof stay`.
    this.#writer.end(`${encode({ type: "shutdown" })}\n`);
    if (!(await within(process.exit, drainMs))) {
      process.signal("SIGTERM");
      if (!(await within(process.exit, terminateMs))) process.signal("SIGKILL");
    }
    return this.ended();
  }
}

function checkVersion(ready: Ready, program: string): Ready {
  const parts = VERSION.startsWith("0.") ? 2 : 1;
  const series = (version: string): string => version.split(".").slice(0, parts).join(".");
  if (ready.protocol !== PROTOCOL_VERSION || series(ready.version) !== series(VERSION)) {
    throw new SidecarError(
      ErrorCode.VERSION_MISMATCH,
      `${program} is version ${ready.version} and speaks protocol ${ready.protocol}; ` +
        `this package is version ${VERSION} and speaks protocol ${PROTOCOL_VERSION}: ` +
        "install package and binary of the same version",
    );
  }
  return ready;
}
