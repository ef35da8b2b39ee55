/** The end of a node or of its program leaves no process and no open pipe. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import type { Options } from "../src/index.js";
import { CHILD, children, is, isAlive, misbehaving, once, openFiles, PATIENCE_MS, until } from "./common.js";

const run = promisify(execFile);

test("close sends shutdown, then SIGTERM, then SIGKILL", async () => {
  const node = await misbehaving("deaf", { closeTimeoutsMs: [50, 50] });
  const pid = node.pid ?? 0;
  assert.deepEqual(await Promise.all([node.close(), node.close()]), [[], []]);
  assert.deepEqual(node.exit, { code: null, signal: "SIGKILL" });
  assert.ok(!isAlive(pid));
});

test("close during a restart pause fails waiting calls", async () => {
  const node = await misbehaving("crash", { restart: { firstMs: 1e6, maxMs: 1e6 } });
  await assert.rejects(node.send("0xB", 1), is("SIDECAR_RESTARTED"));
  await assert.rejects(node.ping({ timeoutMs: 10 }), is("SIDECAR_UNAVAILABLE"));
  const waiting = assert.rejects(node.ping(), is("CLOSED"));
  assert.deepEqual(await node.close(), []);
  assert.equal(node.exit?.code, 70);
  await waiting;
});

test("close while the next process starts kills it and fails calls", async () => {
  const options: Options = { args: ["crash"] };
  const node = await misbehaving("crash", options);
  const pids = children();
  options.args?.splice(0, 1, "silent");
  await assert.rejects(node.send("0xB", 1), is("SIDECAR_RESTARTED"));
  const others = (): number[] => children().filter((pid) => !pids.includes(pid));
  await until("the next one runs", () => others().length > 0);
  const [next] = others();
  const waiting = [node.ping(), node.ping()].map((call) => assert.rejects(call, is("CLOSED")));
  assert.deepEqual(await Promise.all([node.close(), node.close()]), [[], []]);
  assert.ok(!isAlive(next ?? 0));
  await Promise.all(waiting);
});

test("calls in progress at close are answered or fail", async () => {
  const node = await misbehaving("good");
  const closed = once(node, "closed");
  const asked = Promise.all(Array.from({ length: 10 }, () => node.ping()));
  const never = await node.send("0xB", 1, { kind: "never" });
  await node.close();
  assert.deepEqual(node.exit, { code: 0, signal: null });
  await asked;
  for (let count = 0; count < 2; count++) await assert.rejects(never.delivered(), is("CLOSED"));
  assert.equal(await closed, undefined);
});

test("open aborted at any time leaves no process", async () => {
  for (let count = 0; count < 20; count++) {
    const signal = AbortSignal.timeout(count);
    const mode = count % 2 === 0 ? "silent" : "good";
    const opened = await misbehaving(mode, { signal }).catch((error: Error) => assert.equal(error.name, "TimeoutError"));
    await opened?.close();
  }
  assert.deepEqual(children(), []);
});

test("closed and failed nodes leave no open handles", async () => {
  const round = async (): Promise<void> => {
    const node = await misbehaving("good");
    await node.ping();
    await node.close();
    await assert.rejects(misbehaving("early"));
  };
  await round();
  const before = openFiles();
  for (let count = 0; count < 5; count++) await round();
  await until("every file is closed", () => openFiles() <= before);
});

test("an idle or throwing program exits by itself and leaves no child", async () => {
  const index = fileURLToPath(new URL("../src/index.js", import.meta.url));
  for (const end of ["", "throw new Error('a defect of the program');", "process.exit(3);"]) {
    const script = `
      import { P2PNode } from ${JSON.stringify(index)};
      const node = await P2PNode.open({ binary: ${JSON.stringify(CHILD)}, args: ["deaf"] });
      const messages = node.messages();
      await node.ping();
      console.log(node.pid);
      ${end}`;
    const program = run(process.execPath, ["--input-type=module", "-e", script], { timeout: PATIENCE_MS });
    const { stdout } = await program.catch((error: { stdout: string; code: number }) => error);
    const pid = Number(stdout);
    assert.ok(pid > 0, end);
    await until("the child is gone", () => !isAlive(pid));
  }
});
