/** Requests between real nodes: answers, errors, cancellation, streams, groups, and many at once. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { HandlerError, HandlerFailed, P2PNode, QuorumNotReached, type HandledRequest } from "../src/index.js";
import { DesiredState } from "../src/desired_state.js";
import { is, real, until } from "./common.js";

/** Opens an asker and an answering node, which know each other. */
async function pair(use: (asker: P2PNode, other: P2PNode) => Promise<void>): Promise<void> {
  const asker = await real();
  const other = await real({ bootstrapPeers: asker.ready.addrs.slice(0, 1) });
  try {
    await other.allow(asker.address);
    await other.handle("hello", ({ data }) => data);
    // From now on the asker knows the other agent, also for short deadlines.
    await asker.ask(other.address, 1, { kind: "hello" });
    await use(asker, other);
  } finally {
    await Promise.all([asker.close(), other.close()]);
  }
}

test("the answer of the handler reaches the asker", async () => {
  await pair(async (asker, other) => {
    const seen: HandledRequest[] = [];
    await other.handle("sum", (request) => {
      seen.push(request);
      return { sum: (request.data as number[]).reduce((one, more) => one + more) };
    });
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert.deepEqual(await asker.ask(other.address, [1, 2, 3], { kind: "sum", deadlineMs: 20_000, traceparent }), { sum: 6 });
    assert.deepEqual([seen[0]?.from, seen[0]?.kind, seen[0]?.traceparent], [asker.address, "sum", traceparent]);
    await other.handle("echo", async (request) => request.data);
    assert.deepEqual(await asker.ask(other.address, Uint8Array.of(0, 255), { kind: "echo" }), Buffer.from([0, 255]));
    assert.equal(await asker.ask(other.address, null, { kind: "echo" }), null);
  });
});

test("errors arrive with their codes", async () => {
  await pair(async (asker, other) => {
    const failures: unknown[] = [];
    other.on("handlerFailed", ({ error }) => failures.push(error));
    await other.handle("typed", (request) => {
      throw new HandlerError("TOO_LARGE", `${String(request.data)} is too large`);
    });
    await other.handle("defect", () => {
      throw new TypeError("a secret");
    });
    const failure = async (kind: string): Promise<HandlerFailed> => {
      const error: unknown = await asker.ask(other.address, 9, { kind }).catch((error: unknown) => error);
      assert.ok(error instanceof HandlerFailed, String(error));
      return error;
    };
    const typed = await failure("typed");
    assert.deepEqual([typed.handlerCode, typed.from, typed.code], ["TOO_LARGE", other.address, "HANDLER_FAILED"]);
    assert.equal(typed.message, "HANDLER_FAILED: 9 is too large");
    const defect = await failure("defect");
    assert.deepEqual([defect.handlerCode, defect.message], ["TYPE_ERROR", "HANDLER_FAILED: the handler failed"]);
    assert.equal(failures.length, 1);
    await other.unhandle("typed");
    for (const kind of ["typed", "unknown"]) await assert.rejects(asker.ask(other.address, 9, { kind }), is("NO_HANDLER"));
  });
});

test("deadline and abort reach the handler", async () => {
  await pair(async (asker, other) => {
    const events: string[] = [];
    await other.handle("*", async (request) => {
      events.push("started");
      await new Promise((resolve) => request.signal.addEventListener("abort", resolve, { once: true }));
      events.push("aborted");
    });
    await assert.rejects(asker.ask(other.address, 1, { deadlineMs: 300 }), is("DEADLINE_EXCEEDED"));
    await until("the deadline at the handler", () => events.length === 2);
    const abort = new AbortController();
    const call = asker.ask(other.address, 1, { deadlineMs: 60_000, signal: abort.signal });
    await until("the second request", () => events.length === 3);
    abort.abort(new Error("enough"));
    await assert.rejects(call, /enough/);
    await until("the cancel at the handler", () => events.length === 4);
  });
});

test("a stream arrives in order, and a reader that leaves ends its generator", async () => {
  await pair(async (asker, other) => {
    let [made, closed] = [0, false];
    await other.handle("count", async function* (request) {
      try {
        for (let number = 0; number < (request.data as number); number += 1) {
          made += 1;
          yield number;
        }
      } finally {
        closed = true;
      }
    });
    const parts: unknown[] = [];
    for await (const part of asker.askStream(other.address, 300, { kind: "count", credit: 8 })) parts.push(part);
    assert.deepEqual(parts, [...Array(300).keys()]);
    // An asker that accepts one answer gets the list.
    assert.deepEqual(await asker.ask(other.address, 3, { kind: "count" }), [0, 1, 2]);
    [made, closed] = [0, false];
    for await (const part of asker.askStream(other.address, 1000, { kind: "count", credit: 8 })) {
      assert.equal(part, 0);
      break;
    }
    await until("the end of the generator", () => closed);
    assert.ok(made <= 20, `${made} parts, and the asker read one`);
  });
});

test("an error in a stream comes behind its parts", async () => {
  await pair(async (asker, other) => {
    await other.handle("broken", async function* () {
      yield 1;
      throw new HandlerError("BROKEN", "no more");
    });
    const parts: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const part of asker.askStream(other.address, null, { kind: "broken" })) parts.push(part);
    };
    await assert.rejects(read(), (error: HandlerFailed) => error.handlerCode === "BROKEN");
    assert.deepEqual(parts, [1]);
  });
});

test("a question to many ends with its quorum or at its deadline", async () => {
  await pair(async (asker, one) => {
    const two = await real({ bootstrapPeers: asker.ready.addrs.slice(0, 1) });
    try {
      await one.handle("name", () => "one");
      await two.handle("name", () => "two");
      const dead = `0x${"77".repeat(20)}`;
      const all = [one.address, two.address, dead];
      const late = await asker.askAll(all, null, { kind: "name", deadlineMs: 3000 });
      assert.deepEqual(late.answers.map(({ data }) => data).sort(), ["one", "two"]);
      assert.deepEqual([late.missing.map((address) => address.toLowerCase()), late.failed.length], [[dead], 1]);
      assert.equal((await asker.askAll(all, null, { kind: "name", quorum: 2 })).answers.length, 2);
      const below = asker.askAll([one.address, dead], null, { kind: "name", quorum: 2, deadlineMs: 1000 });
      await assert.rejects(below, (error) => error instanceof QuorumNotReached && error.answers.answers[0]?.data === "one");
      await one.subscribe("jobs");
      await two.subscribe("jobs");
      const topic = await asker.askAll("jobs", null, { kind: "name", quorum: 2, deadlineMs: 20_000 });
      assert.deepEqual(topic.answers.map(({ data }) => data).sort(), ["one", "two"]);
    } finally {
      await two.close();
    }
  });
});

test("many requests wait at once, and a slow handler harms no other", async () => {
  await pair(async (asker, other) => {
    let [running, most, release] = [0, 0, (): void => undefined];
    const released = new Promise<void>((resolve) => (release = resolve));
    const slow = async (request: HandledRequest): Promise<unknown> => {
      most = Math.max(most, (running += 1));
      await released;
      running -= 1;
      return request.data;
    };
    await other.handle("slow", slow, { concurrency: 100 });
    await other.handle("fast", (request) => request.data);
    const numbers = [...Array(2000).keys()];
    const waiting = numbers.map((number) => asker.ask(other.address, number, { kind: "slow", deadlineMs: 120_000 }));
    await until("as many as the handler works on", () => running === 100);
    assert.equal(await asker.ask(other.address, "f", { kind: "fast" }), "f");
    release();
    assert.deepEqual(await Promise.all(waiting), numbers);
    assert.equal(most, 100);
  });
});

test("handled kinds are restored in a new process", () => {
  const state = new DesiredState();
  state.record({ type: "handle", kinds: ["a"] });
  state.record({ type: "handle", kinds: ["a", "b"] });
  assert.deepEqual(state.replay(), [{ type: "handle", kinds: ["a", "b"] }]);
});
