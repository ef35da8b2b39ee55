/** Tests with the real binary: a message is reported delivered only if the program processed it. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import type { SentMessage, Options, P2PError, P2PNode } from "../src/index.js";
import { binary, drain, HOME, PATIENCE_MS, real, until } from "./common.js";

/** Opens two connected nodes. */
async function pair(options: Options = {}, other: Options = {}): Promise<[P2PNode, P2PNode]> {
  const alice = await real({ name: "alice", ...options });
  const bob = await real({ name: "bob", bootstrapPeers: alice.ready.addrs.slice(0, 1), ...other });
  for (const [one, another] of [[alice, bob], [bob, alice]] as const) {
    assert.equal((await one.discover({ address: another.address, lookForMs: 20_000 })).length, 1);
  }
  return [alice, bob];
}

/** Sends a message; repeats it while the node answers `BUSY`. */
async function sendSooner(node: P2PNode, to: string, data: unknown): Promise<SentMessage> {
  for (;;) {
    try {
      return await node.send(to, data, { timeoutMs: 300_000, ttlMs: 600_000 });
    } catch (error) {
      if ((error as P2PError).code !== "BUSY") throw error;
    }
  }
}

test("a slow program reads each of 5,000 messages that are reported delivered", async () => {
  const [alice, bob] = await pair();
  const taken = new Set<string>();
  const reading = (async () => {
    for await (const message of alice.messages()) {
      assert.ok(!taken.has(message.messageId));
      taken.add(message.messageId);
      // Slows the program down by one call for each message.
      await alice.ping();
      if (taken.size === 5000) {
        await alice.ack(message);
        break;
      }
    }
  })();
  const delivered = async (number: number): Promise<void> => {
    const mail = await sendSooner(bob, alice.address, number);
    await mail.delivered();
    assert.ok(taken.has(mail.messageId), `${number} was told delivered and not taken`);
  };
  await Promise.all(Array.from({ length: 5000 }, (_, number) => delivered(number)));
  await reading;
  assert.equal(alice.acksNotFound, 0);
  await bob.close();
  assert.deepEqual(await alice.close(), []);
});

test("a message unprocessed at the kill of the program is not reported delivered", async (t) => {
  const bob = await real({ name: "bob" });
  const script = `
    import { P2PNode } from ${JSON.stringify(fileURLToPath(new URL("../src/index.js", import.meta.url)))};
    const alice = await P2PNode.open({ binary: ${JSON.stringify(binary())}, bootstrapPeers: [${JSON.stringify(bob.ready.addrs[0])}], port: 0 });
    const messages = alice.messages();
    console.log(alice.address);
    for await (const message of messages) if (message.data === 3) process.kill(process.pid, "SIGKILL");`;
  const env = { ...process.env, NETWORK: "dev", XDG_RUNTIME_DIR: HOME };
  const program = execFile(process.execPath, ["--input-type=module", "-e", script], { env, cwd: HOME, timeout: PATIENCE_MS });
  t.after(() => program.kill("SIGKILL"));
  const dead = new Promise((resolve) => program.once("exit", resolve));
  const address = await new Promise<string>((resolve) => program.stdout?.once("data", (line) => resolve(String(line).trim())));
  const mails = [];
  for (let number = 0; number < 10; number++) mails.push(await bob.send(address, number, { ttlMs: 3000 }));
  await dead;
  const ends = await Promise.all(mails.map((mail) => mail.delivered().then(() => "delivered", (error: P2PError) => error.code)));
  const processed = ends.filter((end) => end === "delivered").length;
  assert.ok(processed <= 3, ends.join());
  assert.ok(ends.slice(processed).every((end) => end !== "delivered"), ends.join());
  await bob.close();
});

test("unprocessed mail goes to the next program with the same data directory", async () => {
  const options = { name: "alice", dataDir: mkdtempSync(join(HOME, "alice-")), privateKey: `0x${"c3".repeat(32)}` };
  const [alice, bob] = await pair(options);
  const messages = alice.messages();
  const mails = await Promise.all(Array.from({ length: 5 }, (_, number) => bob.send(alice.address, number, { ttlMs: 60_000 })));
  await until("all came", () => alice.unprocessed === 5);
  for (let count = 0; count < 3; count++) await messages.next();
  const drainMail = await alice.close();
  assert.deepEqual(drainMail.map((message) => message.data), [3, 4]);
  for (const mail of mails.slice(0, 2)) await mail.delivered();
  const port = Number(/\/tcp\/(\d+)/.exec(alice.ready.addrs[0] ?? "")?.[1]);
  const again = await real({ ...options, port });
  const seen = drain(again);
  for (const mail of mails.slice(2)) await mail.delivered();
  assert.deepEqual(seen.map((message) => message.data), [2, 3, 4]);
  await Promise.all([again.close(), bob.close()]);
});

test("two agents that send 4,000 messages before they read both finish without a killed node", async (t) => {
  const nodes = await pair({ ack: "manual" }, { ack: "manual" });
  t.after(() => Promise.all(nodes.map((node) => node.close())));
  const pids = nodes.map((node) => node.pid);
  const restarts: unknown[] = [];
  for (const node of nodes) node.on("restarting", (what) => restarts.push(what));
  const data = "x".repeat(1000);
  const sending = nodes.map((node, index) => {
    const to = nodes[1 - index]?.address ?? "";
    return Promise.all(Array.from({ length: 4000 }, () => sendSooner(node, to, data)));
  });
  // Each agent reads once the first message has arrived at the other.
  await until("both have mail", () => nodes.every((node) => node.unprocessed > 500));
  const reading = nodes.map(async (node) => {
    let count = 0;
    for await (const message of node.messages()) {
      await node.ack(message);
      if (++count === 4000) break;
    }
  });
  await Promise.all(reading);
  for (const mails of await Promise.all(sending)) await Promise.all(mails.map((mail) => mail.delivered()));
  assert.deepEqual([nodes.map((node) => node.pid), restarts], [pids, []]);
  for (const node of nodes) assert.deepEqual(await node.close(), []);
});

test("a recipient that stops reading delays neither the sender's node nor other recipients", async (t) => {
  const [alice, bob] = await pair({ restart: false });
  const carol = await real({ name: "carol", bootstrapPeers: bob.ready.addrs.slice(0, 1) });
  t.after(() => Promise.all([alice, bob, carol].map((node) => node.close())));
  drain(carol);
  await (await bob.send(carol.address, "hello", { ttlMs: 60_000 })).delivered();
  const { pid } = bob;
  process.kill(alice.pid ?? 0, "SIGSTOP");
  const stuck = Promise.allSettled(Array.from({ length: 3000 }, () => bob.send(alice.address, "x".repeat(4000), { ttlMs: 60_000 })));
  const slowest: number[] = [];
  for (let number = 0; number < 50; number++) {
    const start = performance.now();
    await (await bob.send(carol.address, number)).delivered({ timeoutMs: PATIENCE_MS });
    await bob.ping();
    slowest.push(performance.now() - start);
  }
  assert.ok(Math.max(...slowest) < bob.ready.limits.maxPauseMs, `${Math.max(...slowest)} ms`);
  assert.equal(bob.pid, pid);
  process.kill(alice.pid ?? 0, "SIGKILL");
  await bob.close();
  await stuck;
});
