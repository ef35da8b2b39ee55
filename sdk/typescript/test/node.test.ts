/** Tests with the real binary. */

import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { content, SidecarRestarted } from "../src/index.js";
import { drain, HOME, isAlive, once, openFiles, PATIENCE_MS, real, until } from "./common.js";

test("two nodes exchange mail, broadcasts and access rules", async () => {
  const alice = await real({ name: "alice" });
  const bob = await real({ name: "bob", bootstrapPeers: alice.ready.addrs.slice(0, 1) });
  const found = await bob.discover({ address: alice.address, lookForMs: 20_000 });
  assert.deepEqual([found[0]?.name, found.complete], ["alice", true]);
  const [toAlice, toBob] = [alice.messages(), bob.messages()];
  const mail = await bob.send(alice.address, { n: [1, 2.5, null] }, { kind: "greeting", conversationId: "c", ttlMs: 60_000 });
  const message = (await toAlice.next()).value;
  assert.ok(message !== undefined);
  assert.deepEqual([message.from, message.data, message.kind], [bob.address, { n: [1, 2.5, null] }, "greeting"]);
  await alice.ack(message);
  assert.equal((await mail.delivered()).messageId, message.messageId);
  await alice.reply(message, Uint8Array.of(0, 255));
  const answer = (await toBob.next()).value;
  assert.ok(answer !== undefined);
  assert.deepEqual([content(answer), answer.replyTo, answer.conversationId], [Buffer.from([0, 255]), mail.messageId, "c"]);
  await bob.subscribe("news");
  await alice.publish("news", [1]);
  assert.equal((await toBob.next()).value?.topic, "news");
  assert.deepEqual((await alice.peers()).map((peer) => peer.address), [bob.address]);
  await alice.block(bob.address);
  await assert.rejects((await bob.send(alice.address, 1)).delivered(), { code: "PEER_REJECTED", retryable: false });
  await alice.unblock(bob.address);
  await alice.allow(bob.address);
  const allowed = await bob.send(alice.address, 2);
  assert.equal((await toAlice.next()).value?.trust, "allowed");
  const more = toAlice.next();
  await allowed.delivered();
  assert.equal((await alice.status()).peers, 1);
  await assert.rejects(bob.send("nobody", 1), { code: "INVALID_ARGUMENT", retryable: false });
  await assert.rejects(bob.registry(alice.address), { code: "NO_REGISTRY", retryable: false });
  assert.ok(((await bob.request({ type: "ping" })).timeMs ?? 0) > 0);
  await bob.close();
  assert.deepEqual(bob.exit, { code: 0, signal: null });
  assert.deepEqual(await alice.close(), []);
  assert.equal((await more).done, true);
});

test("mail without an ack is redelivered and delivered after its ack", async () => {
  const alice = await real({ ack: "manual", dataDir: mkdtempSync(join(HOME, "alice-")) });
  const bob = await real({ bootstrapPeers: alice.ready.addrs.slice(0, 1) });
  const toAlice = alice.messages();
  const mail = await bob.send(alice.address, "work", { ttlMs: 60_000 });
  const first = (await toAlice.next()).value;
  assert.ok(first !== undefined && first.redelivered === undefined);
  process.kill(alice.pid ?? 0, "SIGKILL");
  const again = (await toAlice.next()).value;
  assert.ok(again !== undefined);
  assert.deepEqual([again.messageId, again.redelivered], [first.messageId, true]);
  await alice.ack(again);
  await mail.delivered({ timeoutMs: PATIENCE_MS });
  await assert.rejects(alice.ack(again), { code: "MESSAGE_NOT_FOUND", retryable: false });
  await bob.close();
  await alice.close();
});

test("a second node with the same identity is rejected", async () => {
  const privateKey = `0x${"c1".repeat(32)}`;
  const node = await real({ privateKey });
  await assert.rejects(real({ privateKey }), (error: { exit?: { code: number } }) => error.exit?.code === 73);
  await node.close();
});

test("a node killed twenty times is restored", async () => {
  const bob = await real({ name: "bob" });
  const before = openFiles();
  const alice = await real({ name: "alice", bootstrapPeers: bob.ready.addrs.slice(0, 1) });
  const { address, ready } = alice;
  const pids = new Set<number>();
  await alice.subscribe("news");
  const heard = drain(alice);
  drain(bob);
  for (let round = 0; round < 20; round++) {
    const pid = alice.pid ?? 0;
    pids.add(pid);
    // The SDK reports a send in progress at the kill and never repeats it.
    const mail = await alice.send("0x000000000000000000000000000000000000dEaD", round);
    const restarted = once(alice, "restarted") as Promise<{ ready: typeof ready }>;
    process.kill(pid, "SIGKILL");
    await assert.rejects(mail.delivered({ timeoutMs: PATIENCE_MS }), SidecarRestarted);
    const back = await restarted;
    assert.deepEqual([back.ready.address, back.ready.addrs], [address, ready.addrs]);
    assert.ok(!isAlive(pid));
    // Mail works in both directions, and the subscription is restored.
    await (await bob.send(address, round)).delivered({ timeoutMs: PATIENCE_MS });
    await (await alice.send(bob.address, round)).delivered({ timeoutMs: PATIENCE_MS });
    await bob.publish("news", round);
    const has = (isMail: boolean): boolean => heard.some((message) => (message.topic === undefined) === isMail && message.data === round);
    await until(`mail and news ${round}`, () => has(true) && has(false));
  }
  assert.equal(pids.size, 20);
  await alice.close();
  await until("nothing is left open", () => openFiles() <= before);
  await bob.close();
});
