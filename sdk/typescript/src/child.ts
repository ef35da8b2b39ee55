/** One process and the channel to it: what is asked of it, and what it says. */

import { Channel, encode, type Reply, type Waiter } from "./channel.js";
import { decodeEvent } from "./decode.js";
import { deferred } from "./deferred.js";
import { SidecarError, SidecarExited, StartFailed, type Exit } from "./errors.js";
import { Framer } from "./framer.js";
import { EXIT_GRACE_MS, type Process } from "./process.js";
import { within } from "./timer.js";
import { ErrorCode, LIMITS, PROTOCOL_VERSION, type Command, type ErrorEvent, type Event, type Limits, type Ready } from "./types.js";
import { LineWriter } from "./writer.js";

/** The version of this package, and so of the binary that it expects. */
export const VERSION = "0.1.0";

/** What a child tells its node. */
export interface Listener {
  onEvent(event: Event): void;
  undecodable(lines: number): void;
  /** There may be room for commands that there was not. */
  room(): void;
}

/** A node pauses its stdin for `maxPauseMs` at most. Five of them: a node that is slow besides is not dead. */
const PAUSES = 5;

/** A node's process, from its start to its end; another one takes its place after a crash. */
export class Child {
  readonly channel = new Channel();
  readonly process: Process;
  limits: Limits = LIMITS;
  /** The last `error` that the node told for itself: if it ends, that is why. */
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

  /** One more command can be written now. */
  get hasRoom(): boolean {
    return this.#writer.hasRoom && !this.process.exited && this.channel.closed === undefined;
  }

  /** Adds a command, whose answer goes to `waiter`, to what `flush` writes; returns its id. */
  add(command: string, waiter: Waiter<Reply>, isSend = false): number {
    const { id, line } = this.channel.request(command, waiter, isSend);
    this.#writer.add(line);
    return id;
  }

  flush(): void {
    this.#writer.flush();
  }

  /** Writes a command as soon as the child reads it. */
  ask(command: string, waiter: Waiter<Reply>): number {
    const id = this.add(command, waiter);
    this.flush();
    return id;
  }

  /** Asks at once and waits for the answer, or for the end of the process. */
  async answer(command: Command, timeoutMs: number): Promise<Reply> {
    const answer = deferred<Reply>();
    this.ask(encode(command), answer);
    const late = `the node did not answer \`${command.type}\` within ${timeoutMs} ms`;
    return this.#first(answer.promise, timeoutMs, late);
  }

  /** Has the node listen, and waits until it is ready and of a version that this package speaks. */
  async connect(command: Command, timeoutMs: number): Promise<Ready> {
    const refused = deferred<Ready>();
    this.ask(encode(command), { resolve: () => undefined, reject: refused.reject });
    const ready = Promise.race([this.#ready, refused.promise]);
    return checkVersion(
      await this.#first(ready, timeoutMs, `the node was not ready within ${timeoutMs} ms`),
      this.process.program,
    );
  }

  /** Waits for something that the process says, for so many ms, or for its end. What it said before its end counts. */
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

  /** How the process ended, and why, as far as the node or the way of its end says. */
  exited(exit: Exit): SidecarExited {
    const { program } = this.process;
    const tail = this.process.stderrTail();
    if (this.#isReady) return new SidecarExited(exit, tail, this.#lastError);
    const isDamaged = ["SIGSEGV", "SIGBUS", "SIGILL"].includes(exit.signal ?? "");
    const advice =
      isDamaged ? `; ${program} is damaged, or for another processor: install it again`
      : exit.code === 0 ? `, before it was ready; ${program} may be another program`
      : "";
    return new StartFailed(exit, tail, this.#lastError, advice);
  }

  #stuck(): void {
    const message = `the node neither read nor wrote for ${this.#writer.timeoutMs} ms, and the SDK killed it`;
    this.channel.failAll((maySend) => new SidecarError(ErrorCode.WRITE_TIMEOUT, message, !maySend));
    this.process.signal("SIGKILL");
  }

  /** Waits for the end of the process. One that closes its output without ending is killed, for nothing can come of it. */
  async ended(): Promise<Exit> {
    const finished = this.process.finished();
    await Promise.race([finished, this.process.outputEnd]);
    if (!(await within(finished, EXIT_GRACE_MS))) this.process.signal("SIGKILL");
    const exit = await finished;
    // What it said last may still be in the pipe; a grandchild may hold that open for ever.
    await within(this.process.outputEnd, EXIT_GRACE_MS);
    this.process.release();
    return exit;
  }

  /** Ends the child at once, and everything about it. */
  async kill(): Promise<Exit> {
    this.process.signal("SIGKILL");
    const exit = await this.process.exit;
    this.process.release();
    return exit;
  }

  /** Asks the child to finish and end; makes it end if it does not. */
  async close(drainMs: number, terminateMs: number): Promise<Exit> {
    const { process } = this;
    // The end of its input says the same to most nodes, but not to one that outlives its parent.
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
        `this package is version ${VERSION} and speaks protocol ${PROTOCOL_VERSION}`,
    );
  }
  return ready;
}
