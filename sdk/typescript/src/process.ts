/**
 * The child process: runs in its own process group. The SDK always drains its stderr, and detects
 * its end by the exit and not by the pipes.
 */

import { spawn, type ChildProcessByStdio } from "node:child_process";
import { statSync } from "node:fs";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";

import { checkBinary, resolveProgram } from "./binary.js";
import { InvalidArgument, SidecarError, type Exit } from "./errors.js";
import { within } from "./timer.js";
import { ErrorCode } from "./types.js";

/** Maximum size of the retained stderr in bytes: the capacity of a Linux pipe. */
const STDERR_BYTES = 64 * 1024;
/** Bytes of stderr that an error quotes: about twenty lines. */
const QUOTED_BYTES = 2048;
/** Time in ms for which the SDK reads the pipes after the exit. A grandchild may keep them open. */
export const EXIT_GRACE_MS = 1000;

/** Children to kill when this process exits. `--parent-pid` covers exits that run no code. */
const running = new Set<Process>();
process.on("exit", () => {
  for (const child of running) child.signal("SIGKILL");
});

export interface SpawnOptions {
  program: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  cwd: string | undefined;
  onStderr: ((chunk: Buffer) => void) | undefined;
}

/** Keeps this process alive, as `ref` and `unref` of Node.js handles. Counts the calls of both. */
export interface KeepAlive {
  ref(): void;
  unref(): void;
}

/** A running child. It keeps this process alive only between `ref` and `unref`. */
export class Process {
  readonly exit: Promise<Exit>;
  /** Resolves at the end of stdout. */
  readonly outputEnd: Promise<void>;
  readonly program: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #stderrEnd: Promise<void>;
  #stderr = Buffer.alloc(0);
  #exited = false;

  private constructor(options: SpawnOptions, child: ChildProcessByStdio<Writable, Readable, Readable>) {
    this.program = options.program;
    this.#child = child;
    this.exit = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        this.#exited = true;
        running.delete(this);
        resolve({ code, signal });
      });
    });
    this.outputEnd = new Promise((resolve) => child.stdout.once("close", resolve));
    this.#stderrEnd = new Promise((resolve) => child.stderr.once("close", resolve));
    // Ignores pipe errors: waiting calls fail at the exit of the child.
    for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.on("error", () => undefined);
    child.stderr.on("data", (chunk: Buffer) => {
      this.#stderr = Buffer.concat([this.#stderr, chunk]).subarray(-STDERR_BYTES);
      try {
        options.onStderr?.(chunk);
      } catch (error) {
        // A failing hook must not stop the reading.
        process.emitWarning(`onStderr failed: ${String(error)}`);
      }
    });
    running.add(this);
  }

  /**
   * Starts the child in its own process group, so that Ctrl-C in a terminal does not reach it.
   *
   * @throws {InvalidArgument} for a bad `cwd`; `BinaryNotFound`, `BinaryUnusable`, or
   * `SidecarError` with the code `SPAWN_FAILED`.
   */
  static async spawn(options: SpawnOptions): Promise<Process> {
    const { args, env, cwd } = options;
    if (cwd !== undefined && !isDirectory(cwd)) throw new InvalidArgument("cwd", `is ${JSON.stringify(cwd)}, which is not a directory`);
    const program = resolveProgram(options.program, env, cwd);
    checkBinary(program);
    const failed = (error: unknown): SidecarError =>
      new SidecarError(ErrorCode.SPAWN_FAILED, `cannot start ${program}: ${String(error)}`, false, "", { cause: error });
    let child: ChildProcessByStdio<Writable, Readable, Readable>;
    try {
      child = spawn(program, args, {
        env,
        ...(cwd === undefined ? {} : { cwd }),
        detached: true,
        shell: false,
        stdio: ["pipe", "pipe", "pipe"],
      });
    } catch (error) {
      throw failed(error);
    }
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (error) => reject(failed(error)));
    });
    return new Process({ ...options, program }, child);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Returns the pipe to the child, which Node.js represents as a socket. */
  get stdin(): Socket {
    return this.#child.stdin as Socket;
  }

  get exited(): boolean {
    return this.#exited;
  }

  onOutput(take: (chunk: Buffer) => void): void {
    this.#child.stdout.on("data", take);
  }

  /** Returns the last bytes of the child's stderr as text, at most 2,048. */
  stderrTail(): string {
    return this.#stderr.subarray(-QUOTED_BYTES).toString("utf8");
  }

  /** Waits for the exit, and then at most `EXIT_GRACE_MS` for the end of stderr. */
  async finished(): Promise<Exit> {
    const exit = await this.exit;
    await within(this.#stderrEnd, EXIT_GRACE_MS);
    return exit;
  }

  /** Keeps this process alive while the child runs. */
  ref(): void {
    for (const handle of this.#handles()) handle.ref?.();
  }

  /** Lets this process end while the child runs. */
  unref(): void {
    for (const handle of this.#handles()) handle.unref?.();
  }

  #handles(): Partial<KeepAlive>[] {
    const handles: unknown[] = [this.#child, this.#child.stdin, this.#child.stdout, this.#child.stderr];
    return handles as Partial<KeepAlive>[];
  }

  /**
   * Sends a signal to the child's process group, unless the child has exited: then another process
   * may have its id.
   */
  signal(name: NodeJS.Signals): void {
    if (this.#exited || this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, name);
    } catch {
      // The child has just exited, so the signal is not needed.
    }
  }

  /** Closes the pipes of a child that has exited. */
  release(): void {
    for (const pipe of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) pipe.destroy();
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
