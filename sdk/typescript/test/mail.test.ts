/** Mail, acks and credit, against the fake child. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Command, Message, P2PError } from "../src/index.js";
import { is, misbehaving, once, recording, until } from "./common.js";

const acksOf = (commands: Command[]): string[][] => commands.flatMap((command) => (command.type === "ack" ? [command.messageIds ?? []] : []));

test("the start passes manual acks and `mailBuffer` to the node", async () => {
  const { binary, commands } = recording("credit");
  for (const mailBuffer of [undefined, 7]) {
    const node = await misbehaving("good", { binary, ...(mailBuffer && { mailBuffer }) });
    await node.close();
  }
  assert.deepEqual(commands().flatMap((command) => (command.type === "connect" ? [command.maxUnacked] : [])), [1024, 7]);
});

test("the acks of a fast program name each message once, in order and in few lines", async () => {
  const { binary, commands } = recording("batches");
  const node = await misbehaving("burst", { binary });
  let count = 0;
  for await (const message of node.messages()) {
    count += 1;
    assert.equal(message.messageId, `m${count}`);
    // Waits one iteration of the event loop per message, so that only unanswered acks cause batches.
    await new Promise(setImmediate);
    if (count === 1000) break;
  }
  await until("999 are acknowledged", () => acksOf(commands()).flat().length >= 999);
  assert.deepEqual((await node.close()).map((mail) => mail.messageId), ["m1000"], "`break` left the loop in the middle of it");
  const acks = acksOf(commands());
  assert.deepEqual(acks.flat(), Array.from({ length: 999 }, (_, number) => `m${number + 1}`));
  assert.ok(acks.length < 100, `${acks.length} lines`);
});

test("mail processed in one iteration of the event loop is acknowledged in one line", async () => {
  const { binary, commands } = recording("turn");
  const node = await misbehaving("burst", { binary });
  const messages = node.messages();
  await until("all mail came", () => node.unprocessed === 1000);
  for (let count = 0; count < 1000; count++) {
    await messages.next();
    // Another command does not split the batch.
    if (count === 500) void node.ping();
  }
  await messages.return();
  await until("it is written", () => acksOf(commands()).length > 0);
  await node.close();
  assert.deepEqual(acksOf(commands()).map((ids) => ids.length), [1000]);
});

test("a flood of broadcasts and peer events drops no mail and stops no call", async () => {
  const node = await misbehaving("flood", { broadcastBuffer: 10, eventBuffer: 10 });
  const [messages, events] = [node.messages(), node.events()];
  await until("all mail came", () => node.unprocessed === 20);
  await node.ping();
  assert.deepEqual([messages.dropped, events.dropped], [3990, 3990]);
  const mail: string[] = [];
  for await (const message of messages) {
    if (message.topic === undefined) mail.push(message.messageId);
    if (mail.length === 20) break;
  }
  assert.deepEqual(mail, Array.from({ length: 20 }, (_, number) => `m${number + 1}`));
  await node.close();
});

test("close returns unread mail and acknowledges processed mail", async () => {
  const { binary, commands } = recording("closing");
  const node = await misbehaving("burst", { binary });
  const messages = node.messages();
  await until("all mail came", () => node.unprocessed === 1000);
  for (let count = 0; count < 4; count++) await messages.next();
  const drainMail = await node.close();
  assert.deepEqual([drainMail.length, drainMail[0]?.messageId, drainMail.at(-1)?.messageId], [996, "m5", "m1000"]);
  assert.deepEqual(acksOf(commands()), [["m1", "m2", "m3"]], "the program still holds the fourth message");
  assert.equal((await messages.next()).done, true);
});

test("a loop gets no mail after close has begun", async () => {
  const node = await misbehaving("burst");
  await until("all mail came", () => node.unprocessed === 1000);
  const seen: string[] = [];
  let closing: Promise<Message[]> | undefined;
  for await (const message of node.messages()) if (seen.push(message.messageId) === 3) closing = node.close();
  assert.deepEqual([seen, (await closing)?.length], [["m1", "m2", "m3"], 997]);
});

test("acks of messages given up by the sender are only counted", async () => {
  const node = await misbehaving("gone");
  const messages = node.messages();
  for (let count = 0; count < 3; count++) {
    await node.send("0xB", count);
    await messages.next();
  }
  await until("two are refused", () => node.acksNotFound === 2);
  const mail = await node.send("0xB", 3);
  const message = (await messages.next()).value;
  assert.ok(message !== undefined && mail.messageId !== "");
  await assert.rejects(node.ack(message), is("MESSAGE_NOT_FOUND"));
  await node.close();
});

test("an ack rejected as BUSY is repeated and one rejected as DISK_FULL is not", async () => {
  for (const [mode, lines] of [["busy", 2], ["full", 1]] as const) {
    const { binary, commands } = recording(mode);
    const node = await misbehaving(mode, { binary });
    const messages = node.messages();
    await node.send("0xB", 1);
    const message = (await messages.next()).value;
    assert.ok(message !== undefined);
    if (mode === "busy") await node.ack(message);
    else await assert.rejects(node.ack(message), is("DISK_FULL"));
    await node.close();
    assert.deepEqual([acksOf(commands()).length, node.acksNotFound], [lines, 0], mode);
  }
});

test("processed mail that arrives again after a crash is acknowledged and not delivered again", async () => {
  const { binary, commands } = recording("again");
  const node = await misbehaving("again", { binary });
  const messages = node.messages();
  assert.equal((await messages.next()).value?.messageId, "x1");
  // The program holds the message when the process ends, and then asks for the next one.
  const restarted = once(node, "restarted");
  process.kill(node.pid ?? 0, "SIGKILL");
  const next = messages.next();
  await restarted;
  await until("the second process has its ack", () => acksOf(commands()).flat().includes("x1"));
  await node.send("0xB", 1);
  assert.notEqual((await next).value?.messageId, "x1");
  await node.close();
});

test("sends stay within the node's credit and other commands overtake them", async () => {
  const { binary, commands } = recording("sends");
  const node = await misbehaving("mute", { binary, env: { MAX_INFLIGHT: "68" } });
  const send = (to: string, timeoutMs: number): Promise<P2PError> => node.send(to, 1, { timeoutMs }).then(() => assert.fail(), (error: P2PError) => error);
  const stuck = Array.from({ length: 10 }, () => send("0xB", 2000));
  await node.ping();
  const other = send("0xC", 2000);
  await node.ping();
  await until("both are written", () => commands().filter((command) => command.type === "send").length === 3);
  const late = send("0xB", 100);
  const [never, ...errors] = await Promise.all([late, ...stuck, other]);
  assert.deepEqual([never.code, never.retryable], ["TIMEOUT", true], "the SDK never wrote it");
  assert.deepEqual(errors.map((error) => error.code), Array.from({ length: 11 }, () => "TIMEOUT"));
  assert.deepEqual(errors.map((error) => error.retryable), [false, false, ...Array.from({ length: 8 }, () => true), false]);
  await node.close();
  const sends = commands().flatMap((command) => (command.type === "send" ? [command.peerId] : []));
  assert.deepEqual(sends, ["0xB", "0xB", "0xC"]);
});

test("sends stay within the node's credit in bytes", async () => {
  const { binary, commands } = recording("bytes");
  const node = await misbehaving("mute", { binary, env: { MAX_INFLIGHT_BYTES: "4096" } });
  for (const to of ["0xB", "0xB", "0xB", "0xC", "0xC", "0xC"]) void node.send(to, "x".repeat(1000)).catch(() => undefined);
  await node.ping();
  await node.close();
  assert.deepEqual(commands().flatMap((command) => (command.type === "send" ? [command.peerId] : [])), ["0xB", "0xC"]);
});

test("a failed call is retryable unless the SDK wrote a send", async () => {
  const node = await misbehaving("crash");
  const written = await node.publish("t", 1).then(() => undefined, (error: P2PError) => error);
  assert.equal(written, undefined, "only a send crashes this child");
  const results = await Promise.allSettled([node.send("0xB", 1), node.subscribe("t")]);
  const errors = results.map((result) => (result.status === "rejected" ? (result.reason as P2PError) : undefined));
  assert.deepEqual([errors[0]?.code, errors[0]?.retryable], ["SIDECAR_RESTARTED", false]);
  assert.ok(errors[1] === undefined || errors[1].retryable, "a repeated subscription has no further effect");
  await node.close();
});

test("a child that writes but does not read is not killed", async () => {
  const node = await misbehaving("pause", { env: { PAUSE_LINES: "30", MAX_PAUSE_MS: "100" } });
  const pid = node.pid;
  assert.equal((await node.publish("t", "x".repeat(900_000))).peers, 3);
  assert.equal(node.pid, pid);
  await node.close();
});

test("the timeout of a stuck child follows from its `maxPauseMs`", async () => {
  const node = await misbehaving("good", { env: { MAX_PAUSE_MS: "20" } });
  const restarted = once(node, "restarted");
  process.kill(node.pid ?? 0, "SIGSTOP");
  const error = await node.publish("t", "x".repeat(1 << 19)).then(() => assert.fail(), (reason: P2PError) => reason);
  assert.deepEqual([error.code, error.retryable], ["WRITE_TIMEOUT", false]);
  assert.ok(error.message.includes("100 ms"), error.message);
  await restarted;
  await node.close();
});
