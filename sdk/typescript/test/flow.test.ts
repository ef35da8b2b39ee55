/** The order and the amount of what the SDK writes. */

import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { describe, test } from "node:test";

import { ackOf, AckQueue } from "../src/acks.js";
import { CommandRefused, NodeClosed } from "../src/errors.js";
import { MAX_WAITING_BYTES, SendQueue } from "../src/sends.js";
import { FIELD_LIMITS, SDK_LIMITS } from "../src/types.js";
import { LineWriter } from "../src/writer.js";
import { until } from "./common.js";

const { maxAckMessages } = FIELD_LIMITS;

describe("sends", () => {
  function filled(sends: number, bytes: number, waiting: Record<string, number>): SendQueue<string> {
    const queue = new SendQueue<string>({ sends, bytes });
    for (const [recipient, count] of Object.entries(waiting)) {
      for (let number = 0; number < count; number++) queue.push(recipient, 10, `${recipient}${number}`);
    }
    return queue;
  }

  function drain(queue: SendQueue<string>): string[] {
    const taken: string[] = [];
    for (let item = queue.next(); item !== undefined; item = queue.next()) taken.push(item);
    return taken;
  }

  test("sends to several recipients are written in turn and in order for each", () => {
    assert.deepEqual(drain(filled(100, 1000, { a: 4, b: 2, c: 1 })), ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]);
  });

  test("one recipient gets at most half of the credit in sends and in bytes", () => {
    assert.deepEqual(drain(filled(4, 1000, { a: 9, b: 1 })), ["a0", "b0", "a1"]);
    const queue = filled(100, 60, { a: 9, b: 9 });
    assert.deepEqual(drain(queue), ["a0", "b0", "a1", "b1", "a2", "b2"]);
    assert.deepEqual([queue.inFlight, queue.inFlightBytes, queue.size, queue.bytes], [6, 60, 12, 120]);
    queue.ended("a", 10);
    assert.deepEqual(drain(queue), ["a3"], "a recipient without answers does not delay the other");
  });

  test("a large send that waits for credit keeps its turn", () => {
    const queue = new SendQueue<string>({ sends: 100, bytes: 100 });
    for (const to of ["a", "b", "c"]) queue.push(to, 40, to);
    queue.push("d", 5, "d");
    assert.deepEqual(drain(queue), ["a", "b"]);
    queue.ended("a", 40);
    assert.deepEqual(drain(queue), ["c", "d"]);
  });

  test("a send larger than the credit goes alone", () => {
    const queue = new SendQueue<string>({ sends: 4, bytes: 10 });
    for (const item of ["first", "second"]) queue.push("a", 50, item);
    assert.deepEqual(drain(queue), ["first"]);
    queue.ended("a", 50);
    assert.deepEqual(drain(queue), ["second"]);
  });

  test("removed sends are not written, and an empty queue holds no state", () => {
    const queue = filled(4, 1000, { a: 2, b: 2 });
    queue.remove("a", "a0");
    queue.remove("a", "nobody's");
    assert.deepEqual([queue.next(), queue.clear(), queue.next()], ["a1", ["b0", "b1"], undefined]);
    queue.ended("a", 10);
    assert.deepEqual([queue.inFlight, queue.inFlightBytes, queue.size, queue.bytes], [0, 0, 0, 0]);
  });

  test("waiting sends above the limits of number or bytes are rejected", () => {
    const [many, large] = [filled(1, 1, { a: SDK_LIMITS.maxWaitingSends }), new SendQueue<string>({ sends: 1, bytes: 1 })];
    assert.equal(many.push("b", 1, "one more"), false);
    assert.equal(large.push("a", MAX_WAITING_BYTES + 1, "by itself"), true);
    assert.equal(large.push("a", 1, "one more"), false);
  });
});

describe("acks", () => {
  function told(): { answers: string[]; waiter: (name: string) => { resolve: () => void; reject: (error: Error) => void } } {
    const answers: string[] = [];
    const waiter = (name: string) => ({ resolve: () => void answers.push(`${name} ok`), reject: (error: Error) => void answers.push(`${name} ${(error as NodeClosed).code}`) });
    return { answers, waiter };
  }

  const refusal = (code: string, messageIds?: string[]): CommandRefused => new CommandRefused(code, "no", false, messageIds && { messageIds });

  test("acks added while one is unanswered go into the next one", () => {
    const acks = new AckQueue();
    for (let number = 0; number < maxAckMessages + 2; number++) acks.add(`m${number}`);
    const first = acks.next();
    assert.deepEqual([first.size, acks.isDue, acks.size], [maxAckMessages, false, maxAckMessages + 2]);
    acks.accepted(first);
    assert.ok(acks.isDue);
    assert.deepEqual(ackOf(acks.next()), { type: "ack", messageIds: [`m${maxAckMessages}`, `m${maxAckMessages + 1}`] });
  });

  test("a rejected ack fails only the messages that the node did not know", () => {
    const [acks, { answers, waiter }] = [new AckQueue(), told()];
    for (const id of ["a", "b", "c"]) acks.add(id, waiter(id));
    assert.equal(acks.refused(acks.next(), refusal("MESSAGE_NOT_FOUND", ["b"])), false);
    assert.deepEqual([answers, acks.notFound, acks.size], [["a ok", "b MESSAGE_NOT_FOUND", "c ok"], 1, 0]);
    acks.add("d");
    acks.refused(acks.next(), refusal("MESSAGE_NOT_FOUND"));
    assert.equal(acks.notFound, 2);
  });

  test("an ack rejected as BUSY is repeated, and one rejected as DISK_FULL is not", () => {
    const [acks, { answers, waiter }] = [new AckQueue(), told()];
    acks.add("a", waiter("a"));
    const first = acks.next();
    acks.add("b");
    assert.equal(acks.refused(first, refusal("BUSY")), true);
    const again = acks.next();
    assert.deepEqual([[...again.keys()], answers], [["a", "b"], []]);
    assert.equal(acks.refused(again, refusal("DISK_FULL")), false);
    assert.deepEqual([answers, acks.notFound, acks.size], [["a DISK_FULL"], 0, 0]);
  });

  test("unwritten acks with a waiting call survive the end of the process", () => {
    const [acks, { answers, waiter }] = [new AckQueue(), told()];
    acks.add("written", waiter("written"));
    acks.next();
    acks.add("waiting", waiter("waiting"));
    acks.add("silent");
    acks.lost(new NodeClosed());
    assert.deepEqual([answers, acks.size], [["written CLOSED"], 1]);
    acks.failAll(new NodeClosed());
    assert.deepEqual([answers, acks.size], [["written CLOSED", "waiting CLOSED"], 0]);
  });

  test("an abandoned call gets no answer", () => {
    const [acks, { answers, waiter }] = [new AckQueue(), told()];
    const [first, second] = [waiter("first"), waiter("second")];
    acks.add("a", first);
    acks.add("a", second);
    acks.remove("a", first);
    acks.accepted(acks.next());
    assert.deepEqual(answers, ["second ok"]);
  });
});

describe("writing", () => {
  /** Accepts a piece when the test calls for it. */
  class Slow extends Writable {
    readonly pieces: number[] = [];
    done: (() => void) | undefined;

    override _write(chunk: Buffer, _encoding: string, done: () => void): void {
      this.pieces.push(chunk.length);
      this.done = done;
    }
  }

  test("a long line is written in pieces and in order", async () => {
    const stdin = new Slow();
    let idle = 0;
    const writer = new LineWriter(stdin, 60_000, { idle: () => void (idle += 1), stuck: () => assert.fail() });
    writer.add(`${"x".repeat(150_000)}\n`);
    assert.ok(!writer.hasRoom);
    writer.flush();
    for (const pieces of [1, 2, 3]) {
      await until("the next piece", () => stdin.pieces.length === pieces);
      assert.ok(!writer.hasRoom);
      assert.equal(idle, 0);
      stdin.done?.();
    }
    await until("it is idle", () => idle === 1);
    assert.ok(writer.hasRoom);
    assert.deepEqual(stdin.pieces, [65_536, 65_536, 150_001 - 131_072]);
  });

  test("a child that neither reads nor writes for the whole timeout is stuck", async (context) => {
    context.mock.timers.enable({ apis: ["setInterval"] });
    for (const [alive, pauseMs] of [["reads", 80], ["writes", 80], ["reads", 100], ["neither", 20]] as const) {
      const stdin = new Slow();
      let stuck = false;
      const writer = new LineWriter(stdin, 100, { idle: () => undefined, stuck: () => (stuck = true) });
      writer.add(`${"x".repeat(40 * 65_536)}\n`);
      writer.flush();
      let passedMs = 0;
      while (!stuck && passedMs < 2400) {
        context.mock.timers.tick(pauseMs);
        passedMs += pauseMs;
        const pieces = stdin.pieces.length;
        if (alive === "reads" && !stuck) {
          stdin.done?.();
          await until("the next piece", () => stdin.pieces.length > pieces);
        }
        if (alive === "writes") writer.progress();
      }
      assert.deepEqual([stuck, passedMs], pauseMs === 80 ? [false, 2400] : [true, 100], `${alive} every ${pauseMs} ms`);
      stdin.destroy();
    }
  });
});
