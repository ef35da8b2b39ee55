/** Invalid arguments and the advice of their errors. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { checkData, MAX_DATA_DEPTH } from "../src/arguments.js";
import { InvalidArgument, P2PNode, type Message, type Options } from "../src/index.js";
import { misbehaving } from "./common.js";

const names = (argument: string, ...words: string[]) => (error: unknown): boolean => {
  assert.ok(error instanceof InvalidArgument, String(error));
  assert.deepEqual([error.code, error.argument, error.retryable], ["INVALID_ARGUMENT", argument, false], error.message);
  for (const word of [argument, ...words]) assert.ok(error.message.includes(word), error.message);
  return true;
};

function nested(depth: number): unknown {
  return Array.from({ length: depth }).reduce<unknown>((inner) => [inner], 1);
}

test("data that JSON cannot represent is rejected with its path", () => {
  const loop: { again?: unknown } = {};
  loop.again = [loop];
  const hostile: [unknown, string, string][] = [
    [undefined, "data", "leave it out"],
    [{ count: 10n }, "data.count", "string"],
    [{ items: [1, { mean: NaN }] }, "data.items[1].mean", "null"],
    [[1, Infinity], "data[1]", "null"],
    [[1, undefined], "data[1]", "null"],
    [{ act: () => 1 }, "data.act", "function"],
    [Symbol("a"), "data", "symbol"],
    [loop, "data.again[0]", "contains itself"],
    [new Map([[1, 2]]), "data", "Map"],
    [{ all: new Set() }, "data.all", "Set"],
    [{ late: Promise.resolve() }, "data.late", "Promise"],
    [{ why: new Error("a") }, "data.why", "Error"],
    [{ bytes: Buffer.from("a") }, "data.bytes", "Uint8Array"],
    [new ArrayBuffer(1), "data", "Uint8Array"],
    [{ at: new Date(NaN) }, "data.at", "no time"],
    [{ half: "\ud800" }, "data.half", "surrogate"],
    [{ toJSON: () => NaN }, "data", "null"],
    [nested(MAX_DATA_DEPTH + 1), `data${"[0]".repeat(MAX_DATA_DEPTH)}`, "nested"],
    [nested(100_000), `data${"[0]".repeat(MAX_DATA_DEPTH)}`, "nested"],
  ];
  for (const [data, argument, word] of hostile) assert.throws(() => checkData(data), names(argument, word));
  const shared = { a: 1 };
  for (const data of [null, 0, -0.5, "😀", true, [], [shared, shared], { left: undefined }, new Date(0), Object.create(null), new (class Point { x = 1; })(), nested(MAX_DATA_DEPTH)]) {
    checkData(data);
  }
});

test("a call with an invalid argument is rejected with the argument's name", async () => {
  const node = await misbehaving("good");
  const any = node as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
  const misuses: [string, unknown[], string, string][] = [
    ["send", [["0xA", "0xB"], 1], "to", "once for each"],
    ["send", ["", 1], "to", "PeerId"],
    ["send", [undefined, 1], "to", "undefined"],
    ["send", ["0xB", 1n], "data", "string"],
    ["send", ["0xB", 1, { ttl: 1 }], "ttl", "ttlMs"],
    ["send", ["0xB", 1, { ttlMs: "1" }], "ttlMs", "whole number"],
    ["send", ["0xB", 1, { priority: "urgent" }], "priority", '"high"'],
    ["send", ["0xB", 1, 5], "options", "object"],
    ["publish", [["t"], 1], "topic", "string"],
    ["publish", ["t", 1, { ttlMs: 5 }], "ttlMs", "no option"],
    ["reply", ["m1", 1], "message", "the message itself"],
    ["reply", [undefined, 1], "message", "the message itself"],
    ["ack", ["m1"], "message", "the message itself"],
    ["subscribe", [7], "topic", "string"],
    ["block", [[]], "peer", "once for each"],
    ["discover", ["topic"], "options", "object"],
    ["discover", [{ lookForMs: -1 }], "lookForMs", "60000"],
    ["request", ["ping"], "command", "object"],
    ["request", [{}], "command", "type"],
    ["request", [{ type: "send", topic: "t", data: NaN }], "data", "NaN"],
    ["ping", [{ timeoutMs: NaN }], "timeoutMs", "milliseconds"],
    ["ping", [{ signal: {} }], "signal", "AbortSignal"],
    ["joined", [{ timeout: 5 }], "timeout", "timeoutMs"],
    ["caughtUp", [{ quietMs: "1" }], "quietMs", "milliseconds"],
  ];
  for (const [method, args, argument, word] of misuses) {
    await assert.rejects(async () => any[method]?.call(node, ...args), names(argument, word), `${method}(${argument})`);
  }
  assert.throws(() => node.messages({ buffer: 0 }), names("buffer"));
  assert.throws(() => node.messages({ untilCaughtUp: "yes" as unknown as boolean }), names("untilCaughtUp"));
  const mail = await node.send("0xB", 1);
  await assert.rejects(mail.delivered(5 as unknown as object), names("options"));
  await node.reply({ messageId: "m", from: "0xB" } as Message, 1);
  await node.close();
});

test("open with an invalid option is rejected with the option's name and never quotes the key", async () => {
  const misuses: [object, string, string][] = [
    [{ bootstrapPeers: "/ip4/1.2.3.4" }, "bootstrapPeers", '["/ip4/1.2.3.4"]'],
    [{ bootstrapPeers: [1] }, "bootstrapPeers", "list of strings"],
    [{ bootstrap: [] }, "bootstrap", "bootstrapPeers"],
    [{ port: "0" }, "port", "whole number"],
    [{ port: 70_000 }, "port", "65535"],
    [{ ack: "by hand" }, "ack", '"manual"'],
    [{ mailBuffer: 0 }, "mailBuffer", "16384"],
    [{ args: "--a" }, "args", '["--a"]'],
    [{ env: { A: 1 } }, "env", "strings"],
    [{ restart: true }, "restart", "false"],
    [{ restart: { first: 1 } }, "restart.first", "firstMs"],
    [{ closeTimeoutsMs: 5 }, "closeTimeoutsMs", "two"],
    [{ onStderr: 1 }, "onStderr", "function"],
    [{ readyTimeoutMs: NaN }, "readyTimeoutMs", "milliseconds"],
  ];
  for (const [options, argument, word] of misuses) await assert.rejects(P2PNode.open(options as Options), names(argument, word));
  await assert.rejects(P2PNode.open("alice" as Options), names("options"));
  await assert.rejects(P2PNode.open({ privateKey: 42n as unknown as string }), (error: Error) => names("privateKey")(error) && !error.message.includes("42"));
  await (await misbehaving("good", { dataDir: undefined } as unknown as Options)).close();
});
