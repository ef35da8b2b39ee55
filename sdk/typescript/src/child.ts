/** One process and the channel to it: what is asked of it, and what it says. */

import { Channel, encode, type Reply, type Waiter } from "./channel.js";
import { decodeEvent } from "./decode.js";
import { P2PError, SidecarError, SidecarExited, type Exit } from "./errors.js";
import { Framer } from "./framer.js";
import { EXIT_GRACE_MS, type Process, within } from "./process.js";
import { PROTOCOL_VERSION, type Command, type Event, type Ready } from "./types.js";

/** The version of this package, and so of the binary that it expects. */
export const VERSION = "0.1.0";

/** What a child tells its node. */
export interface Listener {
  told(event: Event): void;
  undecodable(lines: number): void;
}

/** A node's process, from its start to its end; another one takes its place after a crash. */
export class Child {
  readonly channel = new Channel();
  readonly process: Process;
  readonly #ready: Promise<Ready>;
  #turn: Promise<void> = Promise.resolve();

  constructor(process: Process, listener: Listener) {
    this.process = process;
    this.#ready = new Promise((resolve) => {
      const framer = new Framer();
      process.onOutput((chunk) => {
        const before = framer.tooLong;
        for (const line of framer.push(chunk)) {
          let event: Event | undefined;
          try {
            event = decodeEvent(line);
          } catch {
            listener.undecodable(1);
            continue;
          }
          if (event?.type === "ready") resolve(event);
          const news = event === undefined ? undefined : this.channel.receive(event);
          if (news !== undefined) listener.told(news);
        }
        listener.undecodable(framer.tooLong - before);
      });
    });
  }

  /** Has the node listen, and waits until it is ready and of a version that this package speaks. */
  async connect(command: Command, timeoutMs: number): Promise<Ready> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Ready>((resolve, reject) => {
        const late = `the node was not ready within ${timeoutMs} ms`;
        timer = setTimeout(
          () => reject(new SidecarError("NOT_READY", late, true, this.process.stderrTail())),
          timeoutMs,
        );
        this.#ready.then((ready) => resolve(checkVersion(ready, this.process.program))).catch(reject);
        this.process.finished().then((exit) => reject(new SidecarExited(exit, this.process.stderrTail())), reject);
        this.send(command, { resolve: () => undefined, reject }, timeoutMs).catch(reject);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Writes a command, whose answer goes to `waiter`; returns its id. It is not written if `wanted` says so when its turn comes. A child
   * that does not read in time is killed.
   */
  async send(
    command: Command,
    waiter: Waiter<Reply>,
    timeoutMs: number,
    wanted: () => void = () => undefined,
  ): Promise<number> {
    const before = this.#turn;
    let done = (): void => undefined;
    this.#turn = new Promise((resolve) => {
      done = resolve;
    });
    try {
      await before;
      wanted();
      const { id, line } = this.channel.request(command, waiter);
      if (!this.process.stdin.write(line)) await this.#drained(timeoutMs);
      return id;
    } finally {
      done();
    }
  }

  async #drained(timeoutMs: number): Promise<void> {
    const stdin = this.process.stdin;
    const drained = new Promise<void>((resolve) => {
      stdin.once("drain", resolve);
      stdin.once("close", resolve);
    });
    if (await within(drained, timeoutMs)) return;
    const message = `the node did not read for ${timeoutMs} ms, and was killed`;
    this.channel.failAll(new SidecarError("WRITE_TIMEOUT", message, true));
    this.process.signal("SIGKILL");
  }

  /** A command of which the answer has to come before anything else is asked. */
  async ask(command: Command, timeoutMs: number): Promise<void> {
    const answered = new Promise<void>((resolve, reject) => {
      // It was possible once; what is refused now has been told by the node.
      const refused = (error: P2PError): void => (error.name === "CommandRefused" ? resolve() : reject(error));
      this.send(command, { resolve: () => resolve(), reject: refused }, timeoutMs).catch(reject);
      this.process.finished().then((exit) => reject(new SidecarExited(exit, this.process.stderrTail())), reject);
    });
    if (!(await within(answered, timeoutMs))) {
      throw new SidecarError("TIMEOUT", `\`${command.type}\` was not answered after the restart`, true);
    }
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
  async shutDown(drainMs: number, terminateMs: number): Promise<Exit> {
    const { process } = this;
    if (process.stdin.writable) {
      // The end of its input says the same to most nodes, but not to one that outlives its parent.
      process.stdin.end(encode({ type: "shutdown" }));
    }
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
      "VERSION_MISMATCH",
      `${program} is version ${ready.version} and speaks protocol ${ready.protocol}; ` +
        `this package is version ${VERSION} and speaks protocol ${PROTOCOL_VERSION}`,
    );
  }
  return ready;
}
