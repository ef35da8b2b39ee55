/** `joined` and `caughtUp`. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { NotJoined, type Message } from "../src/index.js";
import { is, misbehaving, real } from "./common.js";

/** An address without a listener. */
const DEAD = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

test("joined with an unreachable bootstrap peer fails and names it", async () => {
  const node = await real({ bootstrapPeers: [DEAD] });
  await assert.rejects(node.joined({ timeoutMs: 1500 }), (error: Error) => {
    assert.ok(error instanceof NotJoined && error.code === "NOT_JOINED" && error.retryable);
    assert.deepEqual(error.tried, [DEAD]);
    assert.ok(error.message.includes(DEAD) && error.message.includes("1500 ms"));
    return true;
  });
  await assert.rejects(node.joined({ signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
  const closing = assert.rejects(node.joined(), is("CLOSED"));
  await node.close();
  await closing;
});

test("joined with a peer resolves on both sides", async () => {
  const alice = await real({ name: "alice" });
  const waiting = alice.joined();
  const bob = await real({ name: "bob", bootstrapPeers: alice.ready.addrs.slice(0, 1) });
  assert.deepEqual((await bob.joined()).map((peer) => peer.peerId), [alice.ready.peerId]);
  assert.deepEqual((await waiting).map((peer) => peer.peerId), [bob.ready.peerId]);
  await Promise.all([alice.close(), bob.close()]);
});

test("messages untilCaughtUp with pending mail yields it once and ends", async () => {
  const key = `0x${"7".repeat(64)}`;
  const alice = await real({ name: "alice" });
  const bootstrapPeers = alice.ready.addrs.slice(0, 1);
  const before = await real({ privateKey: key, bootstrapPeers });
  const to = before.address;
  await before.joined();
  await before.close();
  const mails = await Promise.all([1, 2, 3].map((number) => alice.send(to, number)));
  const bob = await real({ privateKey: key, bootstrapPeers });
  const seen: unknown[] = [];
  for await (const message of bob.messages({ untilCaughtUp: true })) seen.push(message.data);
  assert.deepEqual(seen, [1, 2, 3]);
  await Promise.all(mails.map((mail) => mail.delivered()));
  await bob.caughtUp({ quietMs: 0 });
  assert.deepEqual(await bob.close(), []);
  await alice.close();
});

test("messages untilCaughtUp waits for a slow program and fails without a peer", async () => {
  const node = await misbehaving("joined", { restart: false });
  const seen: Message[] = [];
  for await (const message of node.messages({ untilCaughtUp: 50 })) {
    seen.push(message);
    if (seen.length === 1) await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.deepEqual(seen.map((message) => message.messageId), ["m1", "m2"]);
  await node.close();
  const alone = await misbehaving("good");
  await assert.rejects(alone.caughtUp({ timeoutMs: 100 }), is("NOT_JOINED"));
  // The end of the node ends the loop without an error, as every loop.
  const loop = alone.messages({ untilCaughtUp: true }).next();
  await alone.close();
  assert.deepEqual(await loop, { value: undefined, done: true });
});

test("caughtUp with unprocessed mail times out", async () => {
  const node = await misbehaving("joined");
  await assert.rejects(node.caughtUp({ quietMs: 10, timeoutMs: 300 }), is("TIMEOUT"));
  assert.equal((await node.close()).length, 2);
});
