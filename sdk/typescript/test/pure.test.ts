/** Tests without a process: framing, decoding, the channel, the restart policy. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Channel, encode, type Reply } from "../src/channel.js";
import { content, decodeEvent, Undecodable } from "../src/decode.js";
import { DesiredState } from "../src/desired_state.js";
import { CommandRefused, LineTooLong, NodeClosed, P2PError, SidecarExited, SidecarRestarted } from "../src/errors.js";
import { Framer } from "../src/framer.js";
import { Supervisor, type RestartDecision } from "../src/supervisor.js";
import { DEFAULT_PRIORITY, ErrorCode } from "../src/index.js";
import { FINAL_CODES, LIMITS, RETRYABLE, SDK_LIMITS, type Command, type Event } from "../src/types.js";
import { binary, ROOT } from "./common.js";

/** Returns a pseudo-random generator with a seed. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe("framing", () => {
  test("a stream split anywhere gives the same lines", () => {
    const text = `\u{feff}{"a":"é😀"}\r\n\n  \n{"b":"\u2028"}\n${"x".repeat(50)}\nlast\npartial`;
    const stream = Buffer.from(text);
    for (let seed = 0; seed < 200; seed++) {
      const [random, framer, lines] = [chance(seed), new Framer(32), [] as string[]];
      for (let at = 0; at < stream.length; ) {
        const length = 1 + Math.floor(random() * 7);
        lines.push(...framer.push(stream.subarray(at, at + length)));
        at += length;
      }
      assert.deepEqual(lines, ['{"a":"é😀"}', '{"b":"\u2028"}', "last"], `seed ${seed}`);
      assert.equal(framer.tooLong, 1);
    }
  });

  test("a line at the limit is accepted, and a skipped line uses no memory", () => {
    const framer = new Framer(4);
    assert.deepEqual(framer.push(Buffer.from("1234\r\n12345\n123")), ["1234"]);
    assert.deepEqual(framer.push(Buffer.from("4\n")), ["1234"]);
    assert.equal(framer.tooLong, 1);
    for (let count = 0; count < 1000; count++) {
      framer.push(Buffer.alloc(1000, "x"));
      assert.ok(framer.waiting <= 1000);
    }
    assert.deepEqual(framer.push(Buffer.from("\nok\n")), ["ok"]);
    assert.equal(framer.tooLong, 2);
  });
});

describe("decoding", () => {
  test("the shared event lines decode as specified", () => {
    const rows = readFileSync(join(ROOT, "fixtures/protocol/events.ndjson"), "utf8").trimEnd().split("\n");
    assert.ok(rows.length > 30);
    for (const row of rows.map((text) => JSON.parse(text))) {
      if (row.bad === true) {
        assert.throws(() => decodeEvent(row.line), Undecodable, row.name);
        continue;
      }
      const event = decodeEvent(row.line) as Record<string, unknown> | undefined;
      if (row.type === null) {
        assert.equal(event, undefined, row.name);
        continue;
      }
      assert.equal(event?.["type"], row.type, row.name);
      for (const [name, value] of Object.entries(row.fields)) assert.deepEqual(event?.[name], value, row.name);
    }
  });

  test("an event with a wrong field is undecodable", () => {
    for (const line of ['{"type":"message","from":7}', '{"type":"closing","reason":true}', '{"type":"overflow","dropped":1,"total":{}}', '{"type":"peer_discovered","peerId":"p","address":"a","topics":{},"addrs":[],"capabilities":[]}', '{"type":"toString"}x']) {
      assert.throws(() => decodeEvent(line), Undecodable);
    }
    assert.equal(decodeEvent('{"type":"toString"}'), undefined);
  });

  test("content of a base64 message returns bytes", () => {
    const message = decodeEvent('{"type":"message","from":"a","data":"AAH/","peerId":"p","messageId":"m","priority":"low","sentAtMs":1,"receivedAtMs":1,"route":"direct","encoding":"base64","trust":"unverified"}');
    assert.ok(message?.type === "message");
    assert.deepEqual(content(message), Buffer.from([0, 1, 255]));
  });

  test("the generated types match the schema of the binary", () => {
    const made = execFileSync(binary(), ["schema", "--ts"], { encoding: "utf8" });
    assert.equal(readFileSync(join(ROOT, "sdk/typescript/src/types.ts"), "utf8"), made, "p2p-node schema --ts > src/types.ts");
  });
});

describe("channel", () => {
  type Told = [string, Reply | undefined, P2PError | undefined];

  function asking(): { channel: Channel; told: Told[]; ask: (name: string, command?: Command) => number; say: (event: object) => Event | undefined } {
    const [channel, told] = [new Channel(), [] as Told[]];
    return {
      channel,
      told,
      ask: (name, command = { type: "ping" }) => {
        const waiter = { resolve: (reply: Reply) => void told.push([name, reply, undefined]), reject: (error: P2PError) => void told.push([name, undefined, error]) };
        const { id, line } = channel.request(encode(command), waiter);
        assert.deepEqual(JSON.parse(line), { ...command, id });
        assert.ok(line.endsWith("\n") && line.indexOf("\n") === line.length - 1);
        return id;
      },
      say: (event) => {
        const decoded = decodeEvent(JSON.stringify(event));
        assert.ok(decoded !== undefined);
        return channel.receive(decoded);
      },
    };
  }

  test("answers in any order reach their requests", () => {
    const { channel, told, ask, say } = asking();
    const [first, second] = [ask("first"), ask("second")];
    say({ type: "result", id: second, command: "ping" });
    say({ type: "error", id: first, code: "BUSY", message: "full", retryable: true, details: { a: 1 } });
    assert.deepEqual(told.map(([name]) => name), ["second", "first"]);
    const error = told[1]?.[2];
    assert.ok(error instanceof CommandRefused && error.retryable && error.code === "BUSY");
    assert.deepEqual(error.details, { a: 1 });
    assert.equal(channel.outstanding, 0);
  });

  test("an event without a waiter is returned", () => {
    const { told, ask, say } = asking();
    const id = ask("ping");
    assert.ok(say({ type: "result", id: 99, command: "ping" }));
    assert.ok(say({ type: "result", id: String(id), command: "ping" }));
    assert.ok(say({ type: "error", requestId: id, code: "EXPIRED", message: "", retryable: true }));
    assert.ok(say({ type: "delivery", messageId: "m", state: "delivered", attempts: 1 }));
    assert.deepEqual(told, []);
    assert.equal(say({ type: "result", id, command: "ping" }), undefined);
    assert.ok(say({ type: "result", id, command: "ping" }), "a second answer has no waiter");
  });

  test("discovered agents are collected up to the limit", () => {
    const { told, ask, say } = asking();
    const id = ask("discover");
    const found = (): Event | undefined => say({ type: "peer_discovered", peerId: "p", topics: [], address: "0xA", trust: "unverified", role: "full", addrs: [], capabilities: [], expiresAtMs: 1, requestId: id });
    for (let count = 0; count < SDK_LIMITS.maxFoundAgents; count++) assert.equal(found(), undefined);
    assert.ok(found());
    say({ type: "result", id, command: "discover", count: 1 });
    assert.equal(told[0]?.[1]?.found.length, SDK_LIMITS.maxFoundAgents);
  });

  test("tracked deliveries are reported once and limited", () => {
    const { channel, say } = asking();
    const told: string[] = [];
    const waiter = { resolve: (delivery: { messageId: string }) => void told.push(delivery.messageId), reject: () => assert.fail() };
    for (let number = 0; number < SDK_LIMITS.maxTrackedMessages; number++) assert.ok(channel.track(`m${number}`, waiter));
    assert.ok(!channel.track("one more", waiter));
    for (let count = 0; count < 2; count++) say({ type: "delivery", messageId: "m7", state: "delivered", attempts: 1 });
    assert.deepEqual(told, ["m7"]);
    assert.equal(channel.tracked, SDK_LIMITS.maxTrackedMessages - 1);
  });

  test("a closed channel fails waiting and later requests", () => {
    const { channel, told, ask } = asking();
    ask("a");
    channel.track("m", { resolve: () => assert.fail(), reject: (error) => void told.push(["mail", undefined, error]) });
    channel.failAll(() => new NodeClosed());
    channel.failAll(() => new P2PError("OTHER", "later"));
    assert.deepEqual(told.map(([name, , error]) => [name, error?.code]), [["a", "CLOSED"], ["mail", "CLOSED"]]);
    assert.throws(() => ask("b"), NodeClosed);
  });

  test("the end of the process makes all calls retryable except written sends", () => {
    const { channel } = asking();
    const told: [string, boolean][] = [];
    const waiter = (name: string) => ({ resolve: () => assert.fail(), reject: (error: P2PError) => void told.push([name, error.retryable]) });
    channel.request(encode({ type: "ping" }), waiter("ping"));
    channel.request(encode({ type: "send", peerId: "0xB", data: 1 }), waiter("send"), true);
    channel.track("m", waiter("mail"));
    channel.failAll((maySend) => new SidecarRestarted(new SidecarExited({ code: 70, signal: null }, ""), !maySend));
    assert.deepEqual(told, [["ping", true], ["send", false], ["mail", false]]);
  });

  test("a command above the line limit is rejected", () => {
    const { channel, ask } = asking();
    const room = LIMITS.maxLineBytes - '{"type":"subscribe","topic":"","id":1}'.length;
    ask("fits", { type: "subscribe", topic: "x".repeat(room) });
    assert.throws(() => ask("too long", { type: "subscribe", topic: "x".repeat(room + 1) }), LineTooLong);
    assert.equal(channel.outstanding, 1);
  });
});

describe("supervision", () => {
  const killed = { code: null, signal: "SIGKILL" } as const;

  function ended(supervisor: Supervisor, now: number, luck = 1): RestartDecision {
    const again = supervisor.ended(killed, now, luck);
    assert.ok(again !== undefined);
    return again;
  }

  test("final exit codes are not restarted", () => {
    for (let code = 0; code < 256; code++) {
      assert.equal(new Supervisor().ended({ code, signal: null }, 0, 0.5) === undefined, FINAL_CODES.has(code));
    }
    assert.deepEqual([...FINAL_CODES], [0, 64, 65, 67, 68, 73, 77, 78]);
    assert.equal(new Supervisor(false).ended(killed, 0, 0.5), undefined);
  });

  test("pauses double up to 60 s with half jitter", () => {
    const [all, half] = [new Supervisor(), new Supervisor()];
    const pauses = Array.from({ length: 2000 }, () => ended(all, 0).delayMs);
    assert.deepEqual(pauses.slice(0, 8), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    assert.equal(pauses.at(-1), 60_000);
    assert.deepEqual([1, 2, 3].map(() => ended(half, 0, 0).delayMs), [500, 1000, 2000]);
  });

  test("a crash loop of ten minutes restarts 15 times and reports once", () => {
    const supervisor = new Supervisor();
    let [now, starts, unhealthy] = [0, 0, 0];
    while (now < 600_000) {
      supervisor.ready(now);
      now += 1000;
      const again = ended(supervisor, now);
      starts += 1;
      unhealthy += Number(again.unhealthy);
      assert.equal(again.attempt, starts);
      now += again.delayMs;
    }
    assert.deepEqual([starts, unhealthy], [15, 1]);
  });

  test("a stable run resets the pause and the report", () => {
    const supervisor = new Supervisor();
    for (const now of [0, 1000, 2000]) {
      supervisor.ready(now);
      ended(supervisor, now);
    }
    supervisor.ready(100_000);
    assert.equal(ended(supervisor, 159_900).delayMs, 8000, "a short run does not reset the pause");
    supervisor.ready(200_000);
    assert.equal(ended(supervisor, 260_000).delayMs, 1000);
    assert.deepEqual([261_000, 262_000].map((now) => ended(supervisor, now).unhealthy), [false, true], "a new crash loop is reported again");
  });

  test("crashes outside the window are not unhealthy", () => {
    const supervisor = new Supervisor();
    assert.ok([0, 31_000, 61_000, 92_000, 122_000].every((now) => !ended(supervisor, now).unhealthy));
    assert.ok(ended(supervisor, 123_000).unhealthy);
  });
});

describe("desired state", () => {
  test("replay orders access rules, then the last capabilities, then topics", () => {
    const desired = new DesiredState();
    desired.record({ type: "subscribe", topic: "t" });
    desired.record({ type: "capabilities", capabilities: ["a"] });
    desired.record({ type: "block", peerId: "0xA" });
    desired.record({ type: "capabilities", capabilities: ["b"] });
    assert.deepEqual(desired.replay(), [
      { type: "block", peerId: "0xA" },
      { type: "capabilities", capabilities: ["b"] },
      { type: "subscribe", topic: "t" },
    ]);
  });
});

test("each code is its own name and equals the code of an error", () => {
  assert.deepEqual(Object.keys(ErrorCode), Object.values(ErrorCode));
  for (const code of Object.keys(RETRYABLE)) assert.ok(code in ErrorCode, code);
  assert.equal(new NodeClosed().code, ErrorCode.CLOSED);
  assert.deepEqual([DEFAULT_PRIORITY["vote"], DEFAULT_PRIORITY["ping"]], ["high", "low"]);
});
