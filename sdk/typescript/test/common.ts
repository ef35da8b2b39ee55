/** What several tests use. */

import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { P2PNode, type Command, type Message, type Options } from "../src/index.js";

/** The repository; the tests run from `out/sdk/typescript/test`. */
export const ROOT = fileURLToPath(new URL("../../../../../../", import.meta.url));
export const CHILD = join(ROOT, "sdk/testing/child.sh");
/** Longer than anything here takes; no test that passes waits for it. */
export const PATIENCE_MS = 30_000;
/** Pauses that tests can wait for. */
export const QUICK = { firstMs: 20, maxMs: 100 };

export function binary(): string {
  const named = process.env["P2P_NODE_BIN"];
  if (named === undefined || named === "") throw new Error("P2P_NODE_BIN does not name a binary");
  return named;
}

/** A child that stands in for a node. What `options.args` hold by then is how the next one misbehaves. */
export function misbehaving(mode: string, options: Options = {}): Promise<P2PNode> {
  return P2PNode.open({ binary: CHILD, args: [mode], restart: QUICK, ...options });
}

export const is = (code: string) => (error: unknown): boolean => (error as { code?: string }).code === code;

/** The processes that this one has started and not seen the end of. */
export function children(): number[] {
  const lists = readdirSync("/proc/self/task").map((thread) => readFileSync(`/proc/self/task/${thread}/children`, "utf8"));
  return lists.flatMap((list) => list.split(" ").filter((pid) => pid !== "").map(Number));
}

/** A directory for the files of nodes, removed at the end of the process. */
export const HOME = mkdtempSync(join(tmpdir(), "p2p-node-test-"));
process.on("exit", () => rmSync(HOME, { recursive: true, force: true }));

/** A node of its own on this machine. */
export function real(options: Options = {}): Promise<P2PNode> {
  const env = { P2P_NODE_NETWORK: "dev", P2P_NODE_LOCK_SCOPE: HOME };
  return P2PNode.open({ binary: binary(), env, cwd: HOME, port: 0, restart: QUICK, ...options });
}

export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never: ${what}`);
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

/** Waits for a notice. Listening does not keep a program alive, so something else has to. */
export async function once(node: P2PNode, name: "restarted" | "unhealthy" | "closed" | "restarting"): Promise<unknown> {
  const alive = setInterval(() => undefined, 1000);
  try {
    return await new Promise((resolve) => (node as NodeJS.EventEmitter).once(name, resolve));
  } finally {
    clearInterval(alive);
  }
}

/** Takes all messages of a node. */
export function drain(node: P2PNode): Message[] {
  const seen: Message[] = [];
  void (async () => {
    for await (const message of node.messages()) seen.push(message);
  })();
  return seen;
}

/** A program that runs a child and writes down what it reads; and what that is by now. */
export function recording(name: string): { binary: string; commands: () => Command[] } {
  const [log, binary] = [join(HOME, `${name}.log`), join(HOME, name)];
  writeFileSync(log, "");
  writeFileSync(binary, `#!/bin/bash\nexec ${CHILD} "$1" < <(tee -a ${log})\n`);
  chmodSync(binary, 0o755);
  const commands = (): Command[] => readFileSync(log, "utf8").split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Command);
  return { binary, commands };
}

/** What the SDK is checked with. */
export const DEV = join(ROOT, "sdk/typescript/dev/node_modules");

/** Other runtimes, their npm packages, and how they run a file. */
export const RUNTIMES = [
  { name: "bun", variable: "BUN_BIN", scope: "@oven", file: "bin/bun", args: ["run"] },
  { name: "deno", variable: "DENO_BIN", scope: "@deno", file: "deno", args: ["run", "--allow-all", "--no-config", "--no-npm"] },
] as const;

/** A runtime: as its variable names it, from its npm package, or on PATH. `skip`: why a test has to do without. */
export async function runtime(name: (typeof RUNTIMES)[number]["name"]): Promise<{ command: string; skip: string | false }> {
  const { variable, scope, file } = RUNTIMES.find((other) => other.name === name) ?? RUNTIMES[0];
  const packages = existsSync(join(DEV, scope)) ? readdirSync(join(DEV, scope)).map((found) => join(DEV, scope, found, file)) : [];
  for (const command of [process.env[variable], ...packages, name]) {
    const runs = command !== undefined && (await promisify(execFile)(command, ["--version"]).then(() => true, () => false));
    if (runs) return { command, skip: false };
  }
  return { command: name, skip: `there is no ${name}: neither ${variable}, nor its npm package in dev, nor one on PATH` };
}
