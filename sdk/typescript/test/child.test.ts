/** Tests against a fake child that misbehaves. */

import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { P2PNode, SidecarRestarted, type Event } from "../src/index.js";
import { findBinary } from "../src/locate.js";
import { CHILD, HOME, is, isAlive, misbehaving, once, until } from "./common.js";

test("calls to a good child return its answers", async () => {
  const node = await misbehaving("good");
  assert.equal(node.address, "0xA");
  const messages = node.messages();
  const mail = await node.send("0xB", { a: 1 });
  assert.equal((await mail.delivered()).attempts, 1);
  assert.equal((await mail.delivered()).attempts, 1, "`delivered` may be called twice");
  assert.deepEqual((await messages.next()).value?.data, { text: "hé" });
  assert.equal((await node.publish("t", 1)).peers, 3);
  const found = await node.discover();
  assert.deepEqual([found.map((peer) => peer.address), found.complete], [["0xB"], false]);
  await node.subscribe("t");
  const late = await node.send("0xB", 1, { priority: "low" });
  await assert.rejects(late.delivered(), (error: P2PNode & { code: string; retryable: boolean }) => error.code === "EXPIRED" && error.retryable);
  await assert.rejects(node.send("nobody", 1), is("PEER_NOT_FOUND"));
  await assert.rejects(node.publish("t", "x".repeat(1 << 20)), is("LINE_TOO_LONG"));
  await assert.rejects(node.publish("t", undefined), is("INVALID_ARGUMENT"));
  await node.ping();
  const pid = node.pid ?? 0;
  assert.deepEqual(await node.close(), []);
  assert.equal(await node.close(), await node.close());
  assert.deepEqual(node.exit, { code: 0, signal: null });
  await assert.rejects(node.ping(), is("CLOSED"));
  assert.ok(!isAlive(pid));
});

test("a binary of another version or protocol is rejected with its path", async () => {
  for (const mode of ["version", "old"]) {
    await assert.rejects(misbehaving(mode), (error: Error) => is("VERSION_MISMATCH")(error) && error.message.includes(CHILD) && error.message.includes("0.1.0"));
  }
});

test("a child that is silent, never reads or exits early fails the start with its stderr", async () => {
  await assert.rejects(misbehaving("silent", { readyTimeoutMs: 100 }), is("NOT_READY"));
  await assert.rejects(misbehaving("stuck", { readyTimeoutMs: 100 }), is("NOT_READY"));
  await assert.rejects(misbehaving("early"), (error: Error) => is("SIDECAR_EXITED")(error) && error.message.includes("--nonsense is unknown"));
  await assert.rejects(P2PNode.open({ binary: "/nowhere/p2p-node" }), (error: Error) => is("BINARY_UNUSABLE")(error) && error.message.includes("/nowhere"));
  const signal = AbortSignal.timeout(50);
  await assert.rejects(misbehaving("silent", { signal }), { name: "TimeoutError" });
});

test("undecodable and long lines are counted and skipped", async () => {
  for (const [mode, undecodable] of [["garbage", 3], ["huge", 1], ["split", 0]] as const) {
    const node = await misbehaving(mode);
    await node.ping();
    assert.ok(node.undecodable >= undecodable, mode);
    if (mode === "split") assert.equal(node.ready.name, "né");
    await node.close();
  }
});

test("a stderr flood and a failing hook do not stop the node", async () => {
  let [seen, last] = [0, ""];
  const onStderr = (chunk: Buffer): void => {
    seen += chunk.length;
    last = chunk.toString();
    throw new Error("a bad hook");
  };
  const warned: Error[] = [];
  const take = (warning: Error): void => void warned.push(warning);
  process.on("warning", take);
  const node = await misbehaving("stderr", { onStderr });
  await node.ping();
  await until("all of stderr", () => last.endsWith("the last words\n"));
  await node.close();
  process.off("warning", take);
  assert.ok(seen > 1_000_000 && warned.length > 0 && warned.every((warning) => warning.message.includes("a bad hook")));
});

test("a crash fails calls in progress and the SDK restarts the node", async () => {
  const node = await misbehaving("crash");
  await node.subscribe("t");
  const first = node.pid;
  const restarting = once(node, "restarting") as Promise<{ exit: object; attempt: number }>;
  const restarted = once(node, "restarted");
  for (const result of await Promise.allSettled([node.send("0xB", 1), node.send("0xB", 2)])) {
    assert.ok(result.status === "rejected" && result.reason instanceof SidecarRestarted && !result.reason.retryable);
    assert.ok(result.reason.message.includes("a defect"));
  }
  await node.ping();
  assert.notEqual(node.pid, first);
  const { exit, attempt } = await restarting;
  assert.deepEqual([exit, attempt], [{ code: 70, signal: null }, 1]);
  await restarted;
  await node.close();
});

test("three crashes emit unhealthy, and `restart: false` closes the node", async () => {
  const node = await misbehaving("crash");
  const unhealthy = once(node, "unhealthy");
  for (let count = 0; count < 3; count++) await assert.rejects(node.send("0xB", 1), is("SIDECAR_RESTARTED"));
  assert.deepEqual(await unhealthy, { crashes: 3 });
  await node.close();
  const mortal = await misbehaving("crash", { restart: false });
  const closed = once(mortal, "closed");
  await assert.rejects(mortal.send("0xB", 1), is("SIDECAR_EXITED"));
  await assert.rejects(mortal.ping(), is("SIDECAR_EXITED"));
  assert.ok(is("SIDECAR_EXITED")(await closed));
  for await (const event of mortal.events()) assert.notEqual(event.type, "message");
});

test("a line incomplete at the exit is no event, and a pipe held by a grandchild does not delay the restart", async () => {
  const node = await misbehaving("partial");
  const seen: Event[] = [];
  await once(node, "restarted");
  const events = node.events();
  await node.close();
  for await (const event of events) seen.push(event);
  assert.ok(seen.length > 0 && seen.every((event) => event.type !== "message"));
  const held = await misbehaving("holder");
  await assert.rejects(held.send("0xB", 1, { timeoutMs: 10_000 }), is("SIDECAR_RESTARTED"));
  await held.ping();
  await held.close();
});

test("the binary search uses the option, then the variable, then the package, then PATH", () => {
  const before = { ...process.env };
  try {
    assert.equal(findBinary("/a"), "/a");
    process.env["P2P_NODE_BIN"] = "/b";
    assert.equal(findBinary(), "/b");
    process.env["P2P_NODE_BIN"] = "";
    const directory = join(HOME, "path");
    process.env["PATH"] = directory;
    assert.throws(() => findBinary(undefined, true, "linux-x64"), (error: Error) => is("BINARY_NOT_FOUND")(error) && ["P2P_NODE_BIN", "@p2p-node/linux-x64", "PATH", "--omit=optional"].every((word) => error.message.includes(word)));
    assert.throws(() => findBinary(undefined, false, "aix-ppc64"), (error: Error) => error.message.includes("no package for this platform"));
    mkdirSync(directory);
    writeFileSync(join(directory, "p2p-node"), "#!/bin/sh\n");
    chmodSync(join(directory, "p2p-node"), 0o755);
    assert.equal(findBinary(undefined, true), join(directory, "p2p-node"));
    assert.throws(() => findBinary());
  } finally {
    process.env = before;
  }
});
