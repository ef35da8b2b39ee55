/** The fake child under runtimes whose pipes differ from those of Node.js. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { CHILD, HOME, isAlive, PATIENCE_MS, runtime, RUNTIMES, until } from "./common.js";

const run = promisify(execFile);
/** Deno emits no `exit` event after an exception; there the end of stdin stops the child. */
const lastChild = (name: string): string => (name === "deno" ? "good" : "deaf");

for (const { name, args } of RUNTIMES) {
  const { command, skip } = await runtime(name);
  test(`${name} replaces a stopped child, keeps a pausing one, acknowledges mail and leaves no child`, { skip }, () =>
    misbehaves(name, command, args));
}

async function misbehaves(name: string, command: string, args: readonly string[]): Promise<void> {
  const index = fileURLToPath(new URL("../src/index.js", import.meta.url));
  const script = `
    import { P2PNode } from ${JSON.stringify(index)};
    const open = (mode, env = {}) => P2PNode.open({ binary: ${JSON.stringify(CHILD)}, args: [mode], env, restart: { firstMs: 20, maxMs: 100 } });
    const stopped = await open("good", { MAX_PAUSE_MS: "20" });
    process.kill(stopped.pid, "SIGSTOP");
    console.log(await stopped.publish("t", "x".repeat(1 << 19)).catch((error) => error.code));
    await stopped.ping();
    await stopped.close();
    const pausing = await open("pause", { PAUSE_LINES: "20", MAX_PAUSE_MS: "100" });
    const pid = pausing.pid;
    const large = await Promise.all(Array.from({ length: 4 }, () => pausing.publish("t", "x".repeat(500_000))));
    console.log(large.length, pausing.pid === pid);
    await pausing.close();
    const node = await open("burst");
    let count = 0;
    for await (const message of node.messages()) {
      if (++count < 1000) continue;
      await node.ack(message);
      break;
    }
    console.log(count, (await node.close()).length, node.acksNotFound);
    console.log((await open("${lastChild(name)}")).pid);
    throw new Error("a defect of the program");`;
  const file = join(HOME, `${name}-misbehaving.mjs`);
  writeFileSync(file, script);
  const { stdout } = await run(command, [...args, file], { timeout: PATIENCE_MS }).catch((error: { stdout: string }) => error);
  const lines = stdout.trim().split("\n");
  assert.deepEqual(lines.slice(0, 3), ["WRITE_TIMEOUT", "4 true", "1000 0 0"]);
  const pid = Number(lines[3]);
  await until("the child is gone", () => !isAlive(pid));
}
