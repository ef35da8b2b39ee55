/** Helpers that several tests share. */

import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { P2PNode, type Command, type Message, type Options } from "../src/index.js";

/** The root of the repository; the tests run from `out/sdk/typescript/test`. */
export const ROOT = fileURLToPath(new URL("../../../../../../", import.meta.url));
export const CHILD = join(ROOT, "sdk/testing/child.sh");
/** Timeout in ms, longer than any step of a test. A passing test never waits this long. */
export const PATIENCE_MS = 30_000;
/** A restart policy with short pauses. */
export const QUICK = { firstMs: 20, maxMs: 100 };

export function binary(): string {
  const named = process.env["P2P_NODE_BIN"];
  if (named === undefined || named === "") throw new Error("P2P_NODE_BIN does not name a binary");
  return named;
}

/**
 * Opens a node whose process is the fake child in this mode. Each restart uses the mode that
 * `options.args` then holds.
 */
export function misbehaving(mode: string, options: Options = {}): Promise<P2PNode> {
  return P2PNode.open({ binary: CHILD, args: [mode], restart: QUICK, ...options });
}

export const is = (code: string) => (error: unknown): boolean => (error as { code?: string }).code === code;

/** Returns the child processes of this process that have not been reaped. */
export function children(): number[] {
  const lists = readdirSync("/proc/self/task").map((thread) => readFileSync(`/proc/self/task/${thread}/children`, "utf8"));
  return lists.flatMap((list) => list.split(" ").filter((pid) => pid !== "").map(Number));
}

/** A temporary directory for the files of nodes; removed when this process exits. */
export const HOME = mkdtempSync(join(tmpdir(), "p2p-node-test-"));
process.on("exit", () => rmSync(HOME, { recursive: true, force: true }));

/** Opens a real node on the `dev` network of this machine. */
export function real(options: Options = {}): Promise<P2PNode> {
  const env = { P2P_NODE_NETWORK: "dev", P2P_NODE_LOCK_SCOPE: HOME, P2P_NODE_RENDEZVOUS: "off" };
  return P2PNode.open({ binary: binary(), env, cwd: HOME, port: 0, restart: QUICK, ...options });
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Waits for a lifecycle event. A timer keeps the program alive, because a listener does not. */
export async function once(node: P2PNode, name: "restarted" | "unhealthy" | "closed" | "restarting"): Promise<unknown> {
  const alive = setInterval(() => undefined, 1000);
  try {
    return await new Promise((resolve) => (node as NodeJS.EventEmitter).once(name, resolve));
  } finally {
    clearInterval(alive);
  }
}

/** Reads all messages of a node. */
export function drain(node: P2PNode): Message[] {
  const seen: Message[] = [];
  void (async () => {
    for await (const message of node.messages()) seen.push(message);
  })();
  return seen;
}

/** Returns a program that runs the fake child and logs its input, and a reader of that log. */
export function recording(name: string): { binary: string; commands: () => Command[] } {
  const [log, binary] = [join(HOME, `${name}.log`), join(HOME, name)];
  writeFileSync(log, "");
  writeFileSync(binary, `#!/bin/bash\nexec ${CHILD} "$1" < <(tee -a ${log})\n`);
  chmodSync(binary, 0o755);
  const commands = (): Command[] => readFileSync(log, "utf8").split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Command);
  return { binary, commands };
}

/** The directory with the development tools of the SDK. */
export const DEV = join(ROOT, "sdk/typescript/dev/node_modules");

/** Other runtimes with their npm packages and arguments. */
export const RUNTIMES = [
  { name: "bun", variable: "BUN_BIN", scope: "@oven", file: "bin/bun", args: ["run"] },
  { name: "deno", variable: "DENO_BIN", scope: "@deno", file: "deno", args: ["run", "--allow-all", "--no-config", "--no-npm"] },
] as const;

/**
 * Finds a runtime: the path in its variable, else its npm package, else PATH. `skip`: why a test
 * cannot use the runtime.
 */
export async function runtime(name: (typeof RUNTIMES)[number]["name"]): Promise<{ command: string; skip: string | false }> {
  const { variable, scope, file } = RUNTIMES.find((other) => other.name === name) ?? RUNTIMES[0];
  const packages = existsSync(join(DEV, scope)) ? readdirSync(join(DEV, scope)).map((found) => join(DEV, scope, found, file)) : [];
  for (const command of [process.env[variable], ...packages, name]) {
    const runs = command !== undefined && (await promisify(execFile)(command, ["--version"]).then(() => true, () => false));
    if (runs) return { command, skip: false };
  }
  return { command: name, skip: `there is no ${name}: neither ${variable}, nor its npm package in dev, nor one on PATH` };
}
