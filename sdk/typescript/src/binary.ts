/** Whether a file can be run here, and why not: the system's own answers are a bare `ENOENT`, or a shell that reads the file as a script. */

import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readFileSync, readSync, statSync, type Stats } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";

import { BinaryNotFound, BinaryUnusable, type BinaryReason } from "./errors.js";

/** An ELF header has 64 bytes, and each of its program headers 56; compilers write about a dozen of those. */
const HEAD_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAX_PROGRAM_HEADERS = 128;
const SECTION_HEADER_BYTES = 64;
/** The longest path on Linux. */
const PATH_BYTES = 4096;
const PT_INTERP = 3;
const PT_LOAD = 1;
/** `e_machine` of the processors that Node.js runs on. */
const MACHINES: Readonly<Record<number, string>> = { 3: "ia32", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x64", 183: "arm64", 243: "riscv64", 258: "loong64" };

/** What the headers of an ELF file say. */
export interface Elf {
  machine: string;
  /** The loader, which is a part of the libc; a static binary has none. */
  loader: string | undefined;
  /** How long the file has to be. */
  bytes: number;
}

/** Reads a part of a file; shorter where the file ends. */
export type Read = (offset: number, length: number) => Buffer;

/** The headers of an ELF file; `undefined`: it is cut within them. Takes 64-bit little-endian files, which all of our platforms have. */
export function readElf(read: Read): Elf | undefined {
  const head = read(0, HEAD_BYTES);
  if (head.length < HEAD_BYTES) return undefined;
  const machine = MACHINES[head.readUInt16LE(18)] ?? `machine ${head.readUInt16LE(18)}`;
  // Class 2 is 64 bits, data 1 little-endian: another one belongs to another processor.
  if (head[4] !== 2 || head[5] !== 1) return { machine: `${machine} (other word size)`, loader: undefined, bytes: 0 };
  const [table, count] = [Number(head.readBigUInt64LE(32)), Math.min(head.readUInt16LE(56), MAX_PROGRAM_HEADERS)];
  const headers = read(table, count * PROGRAM_HEADER_BYTES);
  if (headers.length < count * PROGRAM_HEADER_BYTES) return undefined;
  const sections = Number(head.readBigUInt64LE(40));
  let bytes = sections === 0 ? 0 : sections + head.readUInt16LE(60) * SECTION_HEADER_BYTES;
  let loader: string | undefined;
  for (let at = 0; at < headers.length; at += PROGRAM_HEADER_BYTES) {
    const kind = headers.readUInt32LE(at);
    const [offset, size] = [Number(headers.readBigUInt64LE(at + 8)), Number(headers.readBigUInt64LE(at + 32))];
    if (kind === PT_LOAD || kind === PT_INTERP) bytes = Math.max(bytes, offset + size);
    if (kind === PT_INTERP && size <= PATH_BYTES) loader = read(offset, size).toString("latin1").replace(/\0.*$/s, "");
  }
  return { machine, loader, bytes };
}

/** The libc that a loader belongs to, as npm calls it. */
export function libcOf(loader: string | undefined): "glibc" | "musl" | undefined {
  if (loader === undefined) return undefined;
  return loader.includes("musl") ? "musl" : "glibc";
}

/** Calls `act` with a reader of a file. */
export function withFile<T>(path: string, act: (read: Read) => T): T {
  const file = openSync(path, "r");
  try {
    return act((offset, length) => {
      const buffer = Buffer.alloc(length);
      // An offset that is no such number is that of a damaged file.
      return Number.isSafeInteger(offset) ? buffer.subarray(0, readSync(file, buffer, 0, length, offset)) : Buffer.alloc(0);
    });
  } finally {
    closeSync(file);
  }
}

/** The file within an Electron archive, which the system cannot run, and its twin beside the archive. */
export function unpacked(path: string): string {
  const twin = path.replace(/(\.asar)(?=[\\/])/g, "$1.unpacked");
  return twin !== path && existsSync(twin) ? twin : path;
}

/**
 * The file that a start runs: for a bare name, the one on PATH.
 *
 * @throws {BinaryNotFound} when PATH has none.
 */
export function resolveProgram(program: string, env: NodeJS.ProcessEnv, cwd: string | undefined): string {
  if (program.includes("/") || process.platform === "win32") return unpacked(resolve(cwd ?? "", program));
  for (const directory of (env["PATH"] ?? "").split(delimiter)) {
    const candidate = join(directory, program);
    if (directory !== "" && isExecutable(candidate)) return candidate;
  }
  throw new BinaryNotFound([`PATH (as ${program})`], "give the path of the file");
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Looks at a file before it is started.
 *
 * @throws {BinaryUnusable} when it cannot be run here.
 */
export function checkBinary(path: string, arch: string = process.arch): void {
  if (process.platform === "win32") return;
  const unusable = (reason: BinaryReason, message: string): never => {
    throw new BinaryUnusable(path, reason, message);
  };
  const stats = statOf(path);
  if (stats === undefined) return unusable("missing", "does not exist: name the binary (`binary`, P2P_NODE_BIN), or install the package of this platform");
  if (!stats.isFile()) return unusable("not_a_file", "is no file: name the binary itself");
  if (/\.asar[\\/]/.test(path)) {
    return unusable("in_archive", "is within an Electron archive, from which the system runs nothing: unpack it (`asarUnpack`), and name the file in app.asar.unpacked");
  }
  if (stats.size === 0) return unusable("empty", "is empty: install it again");
  checkPermission(path, stats, unusable);
  let head: Buffer;
  try {
    head = withFile(path, (read) => read(0, HEAD_BYTES));
  } catch {
    // One that may be run, but not read: the system has to judge.
    return;
  }
  if (head.toString("latin1", 0, 2) === "#!") return checkScript(path, unusable);
  if (process.platform !== "linux") return checkMachO(head, unusable);
  if (head.toString("latin1", 0, 4) !== "\x7fELF") return unusable("not_a_program", "is no program of this system: it is damaged, or for another one; install it again");
  checkElf(path, stats.size, arch, unusable);
}

type Unusable = (reason: BinaryReason, message: string) => never;

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function checkPermission(path: string, stats: Stats, unusable: Unusable): void {
  if (isExecutable(path)) return;
  if ((stats.mode & 0o111) !== 0 && isOnNoexec(path)) {
    unusable("noexec", "lies on a file system that is mounted with `noexec`: move it to another one, and name it (`binary`, P2P_NODE_BIN)");
  }
  unusable("not_executable", `may not be run by this user: chmod +x ${path}`);
}

/** Whether the mount that holds the file forbids to run it. The last mount of the longest point is the one in force. */
function isOnNoexec(path: string): boolean {
  let mounts: string;
  try {
    mounts = readFileSync("/proc/self/mounts", "utf8");
  } catch {
    return false;
  }
  let [longest, noexec] = [-1, false];
  for (const line of mounts.split("\n")) {
    const [, point = "", , options = ""] = line.split(" ");
    const holds = path === point || dirname(path) === point || path.startsWith(point.endsWith("/") ? point : `${point}/`);
    if (point === "" || !holds || point.length < longest) continue;
    [longest, noexec] = [point.length, options.split(",").includes("noexec")];
  }
  return noexec;
}

function checkScript(path: string, unusable: Unusable): void {
  const line = withFile(path, (read) => read(2, PATH_BYTES)).toString("utf8").split("\n", 1)[0] ?? "";
  const [interpreter = ""] = line.trim().split(/\s+/);
  if (!existsSync(interpreter)) unusable("missing_interpreter", `is a script for ${interpreter || "nothing"}, which does not exist here`);
}

/** A Mach-O of 64 bits, or one for several processors. macOS itself knows about the processor, and runs x64 on arm64. */
function checkMachO(head: Buffer, unusable: Unusable): void {
  const magic = head.toString("hex", 0, 4);
  if (!["cffaedfe", "cafebabe", "7f454c46"].includes(magic) || (magic === "7f454c46" && process.platform === "darwin")) {
    unusable("not_a_program", "is no program of this system: it is damaged, or for another one; install it again");
  }
}

function checkElf(path: string, size: number, arch: string, unusable: Unusable): void {
  const elf = withFile(path, readElf);
  if (elf === undefined) return unusable("truncated", `is cut off: it has ${size} bytes, fewer than its own headers; install it again`);
  if (elf.machine !== arch && !hasEmulator()) {
    return unusable("wrong_architecture", `is for ${elf.machine}, and this is ${arch}: install the package @p2p-node/${process.platform}-${arch}, or build it here`);
  }
  if (elf.bytes > size) return unusable("truncated", `is cut off: it has ${size} of ${elf.bytes} bytes; install it again`);
  if (elf.loader !== undefined && elf.machine === arch && !existsSync(elf.loader)) {
    unusable("missing_loader", `needs the loader ${elf.loader} of ${libcOf(elf.loader)}, which this system has not: build it for the libc of this system, and name it (\`binary\`, P2P_NODE_BIN)`);
  }
}

/** Whether this system has emulators for foreign programs. */
function hasEmulator(): boolean {
  try {
    return readdirSync("/proc/sys/fs/binfmt_misc").some((entry) => entry !== "register" && entry !== "status");
  } catch {
    return false;
  }
}
