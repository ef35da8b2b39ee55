/** The child process: in a process group of its own, its stderr always read, waited for by its exit and not by its pipes. */

import { spawn, type ChildProcessByStdio } from "node:child_process";
import { statSync } from "node:fs";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";

import { checkBinary, resolveProgram } from "./binary.js";
import { InvalidArgument, SidecarError, type Exit } from "./errors.js";
import { within } from "./timer.js";
import { ErrorCode } from "./types.js";

/** Bytes of stderr that are kept: what a Linux pipe holds. */
const STDERR_BYTES = 64 * 1024;
/** What an error quotes of it: about twenty lines. */
const QUOTED_BYTES = 2048;
/** How long pipes are read on after the exit, in ms: a grandchild may hold them for ever. */
export const EXIT_GRACE_MS = 1000;

/** Whatever ends this process, no child is left behind; `--parent-pid` covers the ends that run no code. */
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

/** Keeps this process alive, as `ref` and `unref` of the handles of Node.js do. Calls of both are counted. */
export interface KeepAlive {
  ref(): void;
  unref(): void;
}

/** A running child. It keeps this process alive only after `ref`, until `unref`. */
export class Process {
  readonly exit: Promise<Exit>;
  /** The end of stdout. */
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
    // Who waits for an answer learns of the end by the exit; an error of a pipe says nothing more.
    for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.on("error", () => undefined);
    child.stderr.on("data", (chunk: Buffer) => {
      this.#stderr = Buffer.concat([this.#stderr, chunk]).subarray(-STDERR_BYTES);
      try {
        options.onStderr?.(chunk);
      } catch (error) {
        // A hook that fails must not stop the reading.
        process.emitWarning(`onStderr failed: ${String(error)}`);
      }
    });
    running.add(this);
  }

  /** Starts the child. Its process group is its own, so that Ctrl-C at a terminal reaches this process alone. */
  static async spawn(options: SpawnOptions): Promise<Process> {
    const { args, env, cwd } = options;
    if (cwd !== undefined && !isDirectory(cwd)) throw new InvalidArgument("cwd", `is ${JSON.stringify(cwd)}, which is no directory`);
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

  /** A pipe is a socket to Node.js, which knows when nothing has moved in it for a while. */
  get stdin(): Socket {
    return this.#child.stdin as Socket;
  }

  get exited(): boolean {
    return this.#exited;
  }

  onOutput(take: (chunk: Buffer) => void): void {
    this.#child.stdout.on("data", take);
  }

  /** The end of what the child wrote to stderr. */
  stderrTail(): string {
    return this.#stderr.subarray(-QUOTED_BYTES).toString("utf8");
  }

  /** Waits for the exit, and a moment for the last of stderr. */
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

  /** Signals the child and its children, unless it has ended: its number may be another's then. */
  signal(name: NodeJS.Signals): void {
    if (this.#exited || this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, name);
    } catch {
      // It has ended just now, which is what was wanted.
    }
  }

  /** Lets go of the pipes of a child that has ended. */
  release(): void {
    for (const pipe of [this.#child.stdin, this.#child.stdout, this.#child.stderr]) pipe.destroy();
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
