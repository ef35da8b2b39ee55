/** The example programs. */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { serve } from "../../../examples/typescript/request-reply.js";
import type { Message, P2PNode } from "../src/index.js";
import { binary, DEV, HOME, PATIENCE_MS, real, ROOT } from "./common.js";

const env = (): NodeJS.ProcessEnv => ({ ...process.env, P2P_NODE_BIN: binary(), P2P_NODE_LOCK_SCOPE: HOME, P2P_NODE_RENDEZVOUS: "off" });

interface Ended {
  stdout: string;
  stderr: string;
  code: number;
}

async function example(name: string, ...args: string[]): Promise<Ended> {
  const script = fileURLToPath(new URL(`../../../examples/typescript/${name}.js`, import.meta.url));
  const options = { cwd: HOME, env: env(), timeout: PATIENCE_MS };
  return promisify(execFile)(process.execPath, [script, ...args], options).then(
    (result) => ({ ...result, code: 0 }),
    (error: Ended) => error,
  );
}

test("the chat example prints all lines", async () => {
  const { stdout, stderr } = await example("chat");
  assert.equal(stderr, "");
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, 6);
  assert.ok(lines.includes("alice hears: Not a packet lost.") && lines.includes("bob hears: Goodbye!"), lines.join("\n"));
});

test("the hello example of the README needs no option", async () => {
  const program = readFileSync(join(ROOT, "examples/typescript/hello.ts"), "utf8").split(" */\n\n")[1] ?? "";
  assert.ok(readFileSync(join(ROOT, "sdk/typescript/README.md"), "utf8").includes(`\`\`\`ts\n${program}\`\`\``));
  // A runtime directory of its own stands for a user without other nodes.
  const without = Object.fromEntries(Object.entries(env()).filter(([name]) => !name.startsWith("P2P_NODE_")));
  const script = fileURLToPath(new URL("../../../examples/typescript/hello.js", import.meta.url));
  const options = { cwd: HOME, env: { ...without, P2P_NODE_BIN: binary(), XDG_RUNTIME_DIR: HOME }, timeout: PATIENCE_MS };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script], options);
  assert.equal(stderr, "");
  assert.match(stdout, /^0x\w{40} says hello bob\nalice knows that it is delivered\n$/);
});

test("the request_reply example prints all answers", async () => {
  const { stdout, stderr } = await example("request-reply");
  assert.equal(stderr, "");
  const lines = stdout.trimEnd().split("\n");
  assert.deepEqual(lines.slice(0, 2), ['7 squared: {"result":49}', '12 squared: {"result":144}']);
  assert.ok(lines[2]?.includes("error"));
});

/** Runs an example, kills one of its nodes after the first line, and returns all lines. */
async function loseANode(name: string): Promise<string[]> {
  const script = fileURLToPath(new URL(`../../../examples/typescript/${name}.js`, import.meta.url));
  const program = spawn(process.execPath, [script], { cwd: HOME, env: env(), stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(program, "exit");
  const lines: string[] = [];
  for await (const line of createInterface({ input: program.stdout })) {
    if (lines.push(line) > 1) continue;
    const pids = readFileSync(`/proc/${program.pid}/task/${program.pid}/children`, "utf8").trim().split(" ");
    assert.equal(pids.length, 2);
    process.kill(Number(pids[0]), "SIGKILL");
  }
  assert.deepEqual(await ended, [0, null], lines.join("\n"));
  return lines;
}

test("the chat example with a killed node runs to its end", async () => {
  const lines = await loseANode("chat");
  for (const [name, other] of [["alice", "bob"], ["bob", "alice"]]) {
    // The other agent hears each line, or the example reports it as not heard, or both: the
    // acknowledgement may be lost with the node.
    const told = lines.filter((line) => line.startsWith(`${name} is not heard`) || line.startsWith(`${other} hears`));
    assert.ok(told.length >= 3, lines.join("\n"));
  }
});

test("the request_reply example with a killed server runs to its end", async () => {
  const lines = await loseANode("request-reply");
  assert.deepEqual(lines.map((line) => line.split(":")[0]), ["7 squared", "12 squared", "a dozen squared"]);
});

test("two servers that request each other reply once each, and a killed client delays no other", async () => {
  const alice = await real();
  const bootstrapPeers = alice.ready.addrs.slice(0, 1);
  const bob = await real({ bootstrapPeers });
  const answers = (node: P2PNode): (() => number) => {
    const reply = node.reply.bind(node);
    let count = 0;
    node.reply = (...args) => ((count += 1), reply(...args));
    return () => count;
  };
  const counts = [answers(alice), answers(bob)];
  const serving = [serve(alice), serve(bob)];
  const mails = [
    await alice.send(bob.address, { number: 2 }, { kind: "square" }),
    await bob.send(alice.address, { number: 3 }, { kind: "square" }),
    // A reply with the same kind as a request.
    await bob.send(alice.address, { number: 4 }, { kind: "square", replyTo: "0".repeat(32) + "-1" }),
  ];
  for (const mail of mails) await mail.delivered();
  for (const node of [alice, bob]) await node.caughtUp({ quietMs: 500 });
  assert.deepEqual(counts.map((count) => count()), [1, 1]);

  const dying = await real({ bootstrapPeers, restart: false });
  await (await dying.send(alice.address, { number: 5 }, { kind: "square" })).delivered();
  process.kill(dying.pid ?? 0, "SIGKILL");
  const client = await real({ bootstrapPeers });
  const request = await client.send(alice.address, { number: 6 }, { kind: "square" });
  const answer = (await client.messages().next()).value as Message;
  assert.deepEqual([answer.replyTo, answer.data], [request.messageId, { result: 36 }]);
  await Promise.all([alice.close(), bob.close(), dying.close().catch(() => undefined), client.close(), ...serving]);
});

test("the collect example reads pending mail once, and send-once reports the delivery by its exit code", async () => {
  const entry = await real();
  const at = entry.ready.addrs[0] ?? "";
  const none = await example("collect", "collected", at);
  const [, address = ""] = /^I am (0x\w+)\nmessages: 0\n$/.exec(none.stdout) ?? [];
  assert.notEqual(address, "", none.stdout + none.stderr);
  const mail = await entry.send(address, "while you were out");
  const some = await example("collect", "collected", at);
  await mail.delivered();
  assert.equal(some.stdout, `I am ${address}\n${entry.address}: "while you were out"\nmessages: 1\n`);
  const [sent, lost] = await Promise.all([
    example("send-once", at, entry.address, "hello"),
    example("send-once", at, `0x${"1".repeat(40)}`, "hello"),
    // Reads the message of the first program.
    entry.messages().next().then(({ value }) => entry.ack(value as Message)),
  ]);
  assert.deepEqual([sent.code, lost.code], [0, 1], sent.stderr + lost.stderr);
  await entry.close();
});

test("the second example of the README with an unreachable peer continues and never answers replies", async () => {
  const readme = readFileSync(join(ROOT, "sdk/typescript/README.md"), "utf8");
  const source = [...readme.matchAll(/```ts\n(.*?)```/gs)][1]?.[1] ?? "";
  const entry = await real();
  const index = fileURLToPath(new URL("../src/index.js", import.meta.url));
  const local = source
    .replace('"@p2p-node/sdk"', JSON.stringify(index))
    .replace("P2PNode.open({", `P2PNode.open({ network: "dev", port: 0, bootstrapPeers: ${JSON.stringify(entry.ready.addrs.slice(0, 1))},`);
  const ts = createRequire(join(DEV, "any.js"))("typescript") as { transpile(source: string, options: object): string; ModuleKind: { ESNext: unknown }; ScriptTarget: { ES2022: unknown } };
  const script = join(HOME, "readme.mjs");
  writeFileSync(script, ts.transpile(local, { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }));
  const program = spawn(process.execPath, [script], { cwd: HOME, env: env(), stdio: ["ignore", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
    const address = /0x\w+/.exec((await lines.next()).value ?? "")?.[0] ?? "";
    const dying = await real({ bootstrapPeers: entry.ready.addrs.slice(0, 1), restart: false });
    const sent = await dying.send(address, "I shall not hear the answer");
    await sent.delivered();
    process.kill(dying.pid ?? 0, "SIGKILL");
    const messages = entry.messages();
    const first = await entry.send(address, "hello");
    const answer = (await messages.next()).value as Message;
    assert.equal(answer.replyTo, first.messageId);
    await (await entry.reply(answer, "thanks for your thanks")).delivered();
    const second = await entry.send(address, "hello again");
    assert.equal(((await messages.next()).value as Message).replyTo, second.messageId, "the example answered a reply");
    assert.equal(program.exitCode, null);
  } finally {
    program.kill("SIGKILL");
    await entry.close();
  }
});
