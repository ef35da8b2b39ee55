/** Processes that share one node. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, test } from "node:test";

import { P2PNode, StartFailed } from "../src/index.js";
import { HOME, real } from "./common.js";

const socket = join(HOME, "shared.sock");

/** Returns the process that serves the socket. */
function daemon(): number {
  const found = execFileSync("sh", ["-c", `for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q " daemon .*${socket}" && echo "\${p#/proc/}"; done; true`], { encoding: "utf8" });
  return Number(found.trim().split("\n")[0]);
}

after(() => {
  if (daemon() > 0) process.kill(daemon(), "SIGTERM");
});

test("a shared node is started once and outlives its users", async () => {
  const first = await real({ shared: true, socket });
  const second = await real({ shared: true, socket, inbox: false });
  assert.equal(second.address, first.address);
  const pid = daemon();
  await Promise.all([first.close(), second.close()]);
  const third = await real({ socket, group: "workers" });
  assert.equal(third.address, first.address);
  assert.equal(daemon(), pid);
  await third.close();
});

test("connect without a node fails", async () => {
  await assert.rejects(real({ socket: join(HOME, "none.sock"), restart: false }), (error: Error) => {
    assert.ok(error instanceof StartFailed && error.code === "NOT_CONNECTED", String(error));
    return true;
  });
  await assert.rejects(P2PNode.connect(join(HOME, "none.sock"), { group: "" }), { code: "INVALID_ARGUMENT" });
});
