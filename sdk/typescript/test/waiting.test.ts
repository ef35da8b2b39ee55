/** Calls that wait for credit, for the pipe or for a process, and the state of the next process. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Command, Event, Options } from "../src/index.js";
import { LIMITS } from "../src/types.js";
import { CHILD, is, misbehaving, once, QUICK, recording, until } from "./common.js";

test("abandoned calls leave no request outstanding", async () => {
  const node = await misbehaving("good");
  for (let count = 0; count < 60; count++) {
    const signal = AbortSignal.timeout(count % 3);
    await node.ping({ signal }).catch((error: Error) => assert.equal(error.name, "TimeoutError"));
  }
  const controllers = Array.from({ length: 50 }, () => new AbortController());
  const calls = controllers.map(({ signal }, number) => node.send("0xB", number, { signal }));
  for (const [index, controller] of controllers.entries()) if (index % 2 === 0) controller.abort();
  await Promise.allSettled(calls);
  await assert.rejects(node.discover({ capability: "never", timeoutMs: 50 }), is("TIMEOUT"));
  await assert.rejects(node.ping({ signal: AbortSignal.abort() }), { name: "AbortError" });
  await node.ping({ timeoutMs: Infinity });
  await until("every call is answered", () => node.outstanding === 0);
  await Promise.all(Array.from({ length: 3000 }, () => node.ping()));
  await node.close();
});

test("the delivery of an abandoned send arrives as an event", async () => {
  const node = await misbehaving("good");
  const events = node.events();
  const controller = new AbortController();
  const call = node.send("0xB", 1, { signal: controller.signal });
  controller.abort();
  await assert.rejects(call, { name: "AbortError" });
  for await (const event of events) if (event.type === "delivery") break;
  await node.close();
});

test("a child that stops reading is killed and replaced by a new one", async () => {
  const node = await misbehaving("good", { env: { MAX_PAUSE_MS: "20" } });
  const restarted = once(node, "restarted");
  process.kill(node.pid ?? 0, "SIGSTOP");
  await assert.rejects(node.publish("t", "x".repeat(1 << 19)), is("WRITE_TIMEOUT"));
  await restarted;
  await node.ping();
  await node.close();
});

test("a child that reads slowly is not killed", async () => {
  // Uses the pauses of a real node; `flow.test.ts` tests the timeout of a slow child with a mock
  // clock.
  const node = await misbehaving("good");
  const pid = node.pid ?? 0;
  let [answered, running] = [false, true];
  const call = node.publish("t", "x".repeat(900_000)).finally(() => (answered = true));
  await until("it is answered", () => {
    process.kill(pid, running ? "SIGSTOP" : "SIGCONT");
    running = !running;
    return answered;
  });
  process.kill(pid, "SIGCONT");
  assert.equal((await call).peers, 3);
  assert.equal(node.pid, pid);
  await node.close();
});

test("sends unwritten at a crash go to the next process", async () => {
  const node = await misbehaving("crash");
  let crashes = 0;
  node.on("restarting", () => (crashes += 1));
  const calls = Array.from({ length: 2 * LIMITS.maxInflight }, (_, number) => node.send("0xB", number));
  for (const result of await Promise.allSettled(calls)) assert.ok(result.status === "rejected" && is("SIDECAR_RESTARTED")(result.reason));
  // Each crash loses the content of the pipe and its buffer.
  assert.ok(crashes > 1 && crashes < 10, `${crashes} crashes`);
  await node.ping();
  await node.close();
});

test("a restarted process gets the desired state first", async () => {
  const { binary, commands } = recording("desired");
  const node = await misbehaving("crash", { binary });
  const controller = new AbortController();
  const gaveUp = node.subscribe("a", { signal: controller.signal });
  controller.abort();
  await assert.rejects(gaveUp);
  await node.subscribe("b");
  await node.request({ type: "subscribe", topic: "c" });
  await node.unsubscribe("b");
  await node.block("0xC");
  await node.allow("0xD");
  await node.block("0xd");
  await node.block("0xE");
  await node.unblock("0xe");
  const restarting = once(node, "restarting");
  await Promise.all([restarting, assert.rejects(node.send("0xB", 1), is("SIDECAR_RESTARTED"))]);
  await node.ping();
  await node.close();
  const lines = commands();
  const second = lines.findLastIndex((line) => line.type === "connect");
  const told = lines.slice(second + 1).map((line) => [line.type, ("topic" in line && line.topic) || ("peerId" in line && line.peerId)]);
  assert.deepEqual(told, [["block", "0xC"], ["block", "0xd"], ["subscribe", "a"], ["subscribe", "c"], ["ping", false], ["shutdown", false]]);
  assert.equal((lines[second] as Command & { port: number }).port, 4001, "the port of the first `ready`");
});

test("a failed start counts as a crash", async () => {
  const options: Options = { readyTimeoutMs: 200, binary: CHILD, args: ["crash"], restart: QUICK };
  const node = await misbehaving("crash", options);
  options.args?.splice(0, 1, "silent");
  const first = once(node, "restarting") as Promise<{ reason: string; exit?: object; attempt: number }>;
  await assert.rejects(node.send("0xB", 1), is("SIDECAR_RESTARTED"));
  const { reason, exit, attempt } = await first;
  assert.deepEqual([reason, exit, attempt], ["the node ended with exit code 70", { code: 70, signal: null }, 1]);
  const second = (await once(node, "restarting")) as { reason: string; exit?: object; attempt: number };
  assert.ok(second.reason.includes("not ready within 200 ms"));
  assert.deepEqual([second.exit, second.attempt], [undefined, 2]);
  options.args?.splice(0, 1, "good");
  await node.ping();
  await node.close();
});

test("another version or a final exit after a restart closes the node with that error", async () => {
  for (const [mode, code, words] of [["version", "VERSION_MISMATCH", "protocol 2"], ["early", "SIDECAR_EXITED", "--nonsense"]] as const) {
    const options: Options = { args: ["crash"] };
    const node = await misbehaving("crash", options);
    const events = node.events();
    const closed = once(node, "closed") as Promise<Error>;
    options.args?.splice(0, 1, mode);
    await assert.rejects(node.send("0xB", 1), is("SIDECAR_RESTARTED"));
    await assert.rejects(node.ping(), is(code));
    const error = await closed;
    assert.ok(is(code)(error) && error.message.includes(words), error.message);
    const seen: Event[] = [];
    for await (const event of events) seen.push(event);
    assert.ok(seen.length > 0);
    assert.deepEqual(await node.close(), []);
  }
});
