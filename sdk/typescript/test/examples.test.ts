/** The examples that people start from. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { binary, HOME, PATIENCE_MS } from "./common.js";

async function example(name: string): Promise<string[]> {
  const script = fileURLToPath(new URL(`../../../examples/typescript/${name}.js`, import.meta.url));
  const env = { ...process.env, P2P_NODE_BIN: binary(), P2P_NODE_LOCK_SCOPE: HOME };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script], { env, timeout: PATIENCE_MS });
  assert.equal(stderr, "");
  return stdout.trimEnd().split("\n");
}

test("two agents chat", async () => {
  const lines = await example("chat");
  assert.equal(lines.length, 6);
  assert.ok(lines.includes("alice hears: Not a packet lost.") && lines.includes("bob hears: Goodbye!"), lines.join("\n"));
});

test("requests are answered", async () => {
  const lines = await example("request-reply");
  assert.deepEqual(lines.slice(0, 2), ['7 squared: {"result":49}', '12 squared: {"result":144}']);
  assert.ok(lines[2]?.includes("error"));
});
