/**
 * Checks if the system can run a file, and explains why not. The system itself reports only
 * `ENOENT`, or runs a shell that reads the file as a script.
 */

import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readFileSync, readSync, statSync, type Stats } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";

import { BinaryNotFound, BinaryUnusable, type BinaryReason } from "./errors.js";

/** Sizes of the ELF structures in bytes. Compilers write about a dozen program headers. */
const HEAD_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const MAX_PROGRAM_HEADERS = 128;
const SECTION_HEADER_BYTES = 64;
/** Maximum length of a path on Linux in bytes. */
const PATH_BYTES = 4096;
const PT_INTERP = 3;
const PT_LOAD = 1;
/** What is wrong with a file that has an unknown format. */
const NOT_A_PROGRAM = "is not a program for this system, or is damaged: install it again";
/** ELF `e_machine` numbers of the processors that Node.js supports. */
const MACHINES: Readonly<Record<number, string>> = { 3: "ia32", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x64", 183: "arm64", 243: "riscv64", 258: "loong64" };

/** The content of an ELF file's headers. */
export interface Elf {
  machine: string;
  /** The path of the loader, a part of the libc; `undefined` for a static binary. */
  loader: string | undefined;
  /** The minimum size of the complete file in bytes. */
  bytes: number;
}

/** Reads a part of a file. Returns fewer bytes if the file ends first. */
export type Read = (offset: number, length: number) => Buffer;

/**
 * Parses the headers of an ELF file. Returns `undefined` if the file ends within them. Parses only
 * 64-bit little-endian files, because all supported platforms use these.
 */
export function readElf(read: Read): Elf | undefined {
  const head = read(0, HEAD_BYTES);
  if (head.length < HEAD_BYTES) return undefined;
  const machine = MACHINES[head.readUInt16LE(18)] ?? `machine ${head.readUInt16LE(18)}`;
  // Class 2 means 64 bits, data 1 means little-endian. Other values mean another processor.
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

/** Returns the libc of a loader, by its npm name. */
export function libcOf(loader: string | undefined): "glibc" | "musl" | undefined {
  if (loader === undefined) return undefined;
  return loader.includes("musl") ? "musl" : "glibc";
}

/** Opens a file, calls `act` with a reader, and closes the file. */
export function withFile<T>(path: string, act: (read: Read) => T): T {
  const file = openSync(path, "r");
  try {
    return act((offset, length) => {
      const buffer = Buffer.alloc(length);
      // Only a damaged file has an offset that is not a safe integer.
      return Number.isSafeInteger(offset) ? buffer.subarray(0, readSync(file, buffer, 0, length, offset)) : Buffer.alloc(0);
    });
  } finally {
    closeSync(file);
  }
}

/**
 * Maps a path within an Electron archive to its unpacked copy beside the archive, if that exists:
 * the system cannot run a file within an archive.
 */
export function unpacked(path: string): string {
  const twin = path.replace(/(\.asar)(?=[\\/])/g, "$1.unpacked");
  return twin !== path && existsSync(twin) ? twin : path;
}

/**
 * Returns the path of the file to start. Searches PATH for a bare name.
 *
 * @throws {BinaryNotFound} if PATH does not contain the name.
 */
export function resolveProgram(program: string, env: NodeJS.ProcessEnv, cwd: string | undefined): string {
  if (program.includes("/") || process.platform === "win32") return unpacked(resolve(cwd ?? "", program));
  for (const directory of (env["PATH"] ?? "").split(delimiter)) {
    const candidate = join(directory, program);
    if (directory !== "" && isExecutable(candidate)) return candidate;
  }
  throw new BinaryNotFound([`PATH (as ${program})`], "pass the path of the file");
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
 * Checks a file before the SDK starts it.
 *
 * @throws {BinaryUnusable} if the system cannot run the file.
 */
export function checkBinary(path: string, arch: string = process.arch): void {
  if (process.platform === "win32") return;
  const unusable = (reason: BinaryReason, message: string): never => {
    throw new BinaryUnusable(path, reason, message);
  };
  const stats = statOf(path);
  if (stats === undefined) {
    const advice = "set `binary` or P2P_NODE_BIN, or install the package of this platform";
    return unusable("missing", `does not exist: ${advice}`);
  }
  if (!stats.isFile()) return unusable("not_a_file", "is not a file: name the binary itself");
  if (/\.asar[\\/]/.test(path)) {
    const advice = "unpack it (`asarUnpack`), and name the file in app.asar.unpacked";
    return unusable("in_archive", `is in an Electron archive and cannot run there: ${advice}`);
  }
  if (stats.size === 0) return unusable("empty", "is empty: install it again");
  checkPermission(path, stats, unusable);
  let head: Buffer;
  try {
    head = withFile(path, (read) => read(0, HEAD_BYTES));
  } catch {
    // This user may execute the file but not read it, so only the system can check it.
    return;
  }
  if (head.toString("latin1", 0, 2) === "#!") return checkScript(path, unusable);
  if (process.platform !== "linux") return checkMachO(head, unusable);
  if (head.toString("latin1", 0, 4) !== "\x7fELF") return unusable("not_a_program", NOT_A_PROGRAM);
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
    unusable("noexec", "is on a file system mounted with `noexec`: move it to another one");
  }
  unusable("not_executable", `is not executable for this user: run chmod +x ${path}`);
}

/**
 * Returns `true` if the file's mount has the option `noexec`. Of all mounts that contain the file,
 * the one with the longest mount point applies, and of several with the same point the last one.
 */
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
  if (existsSync(interpreter)) return;
  unusable("missing_interpreter", `is a script, and its interpreter ${interpreter || "(none)"} does not exist`);
}

/**
 * Accepts a 64-bit Mach-O file, or one for several processors. Leaves the check of the processor to
 * macOS, which also runs x64 on arm64.
 */
function checkMachO(head: Buffer, unusable: Unusable): void {
  const magic = head.toString("hex", 0, 4);
  if (!["cffaedfe", "cafebabe", "7f454c46"].includes(magic) || (magic === "7f454c46" && process.platform === "darwin")) {
    unusable("not_a_program", NOT_A_PROGRAM);
  }
}

function checkElf(path: string, size: number, arch: string, unusable: Unusable): void {
  const elf = withFile(path, readElf);
  if (elf === undefined) return unusable("truncated", `is incomplete (${size} bytes): install it again`);
  if (elf.machine !== arch && !hasEmulator()) {
    const advice = `install the package @p2p-node/${process.platform}-${arch}, or build it here`;
    return unusable("wrong_architecture", `is for ${elf.machine}, this machine is ${arch}: ${advice}`);
  }
  if (elf.bytes > size) return unusable("truncated", `is incomplete (${size} of ${elf.bytes} bytes): install it again`);
  if (elf.loader !== undefined && elf.machine === arch && !existsSync(elf.loader)) {
    const advice = "build it for the libc of this system, and set `binary` or P2P_NODE_BIN";
    unusable("missing_loader", `needs the ${libcOf(elf.loader)} loader ${elf.loader}, which does not exist: ${advice}`);
  }
}

/** Returns `true` if this system has emulators for programs of other processors. */
function hasEmulator(): boolean {
  try {
    return readdirSync("/proc/sys/fs/binfmt_misc").some((entry) => entry !== "register" && entry !== "status");
  } catch {
    return false;
  }
}
