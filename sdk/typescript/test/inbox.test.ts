/** The acknowledgement of mail, and the buffers for a slow program. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Inbox } from "../src/inbox.js";
import { MAX_PROCESSED } from "../src/mailbox.js";
import type { Stream } from "../src/stream.js";
import type { Event, Message } from "../src/types.js";

const mail = (messageId: string): Event & Message => ({ type: "message", from: "0xB", data: 1, peerId: "p", messageId, priority: "medium", sentAtMs: 1, receivedAtMs: 1, route: "direct", trust: "unverified" });
const broadcast = (messageId: string): Event & Message => ({ ...mail(messageId), topic: "t" });
const peer = (peerId: string): Event => ({ type: "peer_connected", peerId });
const READY = { type: "ready" } as Event;

class Scene {
  readonly acked: string[] = [];
  waits = 0;
  readonly inbox: Inbox;

  constructor(manual = false) {
    const waits = (more: boolean): void => void (this.waits += more ? 1 : -1);
    this.inbox = new Inbox({ manual, mailBuffer: 100, broadcastBuffer: 3, eventBuffer: 3, ack: (id) => this.acked.push(id), waits });
    this.inbox.put(READY);
  }

  put(...ids: string[]): void {
    for (const id of ids) this.inbox.put(mail(id));
  }

  messages(): Stream<Event & Message> {
    return this.inbox.messages();
  }

  get size(): number {
    return this.inbox.mailbox.size;
  }

  drainMail(): string[] {
    return this.inbox.mailbox.drainMail().map((message) => message.messageId);
  }
}

async function take(stream: AsyncIterator<Event & Message, undefined>): Promise<string | undefined> {
  return (await stream.next()).value?.messageId;
}

describe("acknowledging", () => {
  test("a message is acknowledged when the program asks for the next event", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a", "b");
    assert.deepEqual([await take(stream), scene.acked], ["a", []]);
    assert.deepEqual([await take(stream), scene.acked], ["b", ["a"]]);
    const third = take(stream);
    assert.deepEqual([scene.acked, scene.waits], [["a", "b"], 1]);
    scene.put("c");
    assert.deepEqual([await third, scene.acked, scene.waits], ["c", ["a", "b"], 0]);
    assert.equal(scene.size, 1);
  });

  test("two concurrent calls of `next` acknowledge nothing", async () => {
    for (const early of [true, false]) {
      const scene = new Scene();
      const stream = scene.messages();
      if (early) scene.put("a", "b");
      const both = Promise.all([take(stream), take(stream)]);
      if (!early) scene.put("a", "b");
      assert.deepEqual([await both, scene.acked], [["a", "b"], []]);
      void take(stream);
      assert.deepEqual(scene.acked, ["a", "b"]);
    }
  });

  test("a message whose processing throws is not acknowledged and starts the next stream", async () => {
    const scene = new Scene();
    scene.put("a", "b", "c");
    const first = scene.messages();
    await assert.rejects(async () => {
      for await (const message of first) if (message.messageId === "b") throw new Error("a defect");
    }, /a defect/);
    assert.deepEqual([scene.acked, scene.drainMail()], [["a"], ["b", "c"]]);
    assert.equal((await first.next()).done, true);
    const second = scene.messages();
    assert.deepEqual([await take(second), await take(second), scene.acked], ["b", "c", ["a", "b"]]);
  });

  test("several loops get each message once and acknowledge their own", async () => {
    for (const streams of [1, 2]) {
      const scene = new Scene();
      const stream = scene.messages();
      const [first, second] = [stream, streams === 1 ? stream : scene.messages()].map((one) => one[Symbol.asyncIterator]());
      assert.ok(first !== undefined && second !== undefined);
      scene.put("a", "b", "c", "d");
      assert.deepEqual([await take(first), await take(second), await take(second), scene.acked], ["a", "b", "c", ["b"]]);
      const waiting = take(second);
      assert.deepEqual([await waiting, scene.acked], ["d", ["b", "c"]]);
      const more = take(second);
      await first.return?.();
      assert.deepEqual([await more, scene.drainMail()], ["a", []], "a waiting loop gets the message that another left");
      await second.return?.();
      assert.deepEqual([scene.drainMail(), (await stream.next()).done, scene.acked], [["a"], true, ["b", "c", "d"]]);
    }
  });

  test("a loop after `next` takes over its message", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a", "b");
    assert.equal(await take(stream), "a");
    for await (const message of stream) {
      assert.deepEqual([message.messageId, scene.acked], ["b", ["a"]]);
      break;
    }
    assert.deepEqual([scene.drainMail(), scene.acked], [["b"], ["a"]]);
  });

  test("a stream ended by the program acknowledges the message of `next`", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a", "b");
    await take(stream);
    await stream.return();
    assert.deepEqual([scene.acked, scene.drainMail()], [["a"], ["b"]]);
  });

  test("a message acknowledged early is not acknowledged twice", async () => {
    const scene = new Scene();
    scene.put("a", "b", "c");
    for await (const message of scene.messages()) {
      scene.inbox.mailbox.acked(message.messageId);
      if (message.messageId === "b") break;
    }
    assert.deepEqual([scene.acked, scene.drainMail(), scene.size], [[], ["c"], 1]);
    scene.put("a");
    assert.deepEqual([scene.acked, scene.size], [["a"], 1], "the sender sent it again, so it needs another ack");
  });

  test("with manual acks only the program acknowledges", async () => {
    const scene = new Scene(true);
    const stream = scene.messages();
    scene.put("a", "b");
    assert.deepEqual([await take(stream), await take(stream)], ["a", "b"]);
    await stream.return();
    assert.deepEqual([scene.acked, scene.drainMail(), scene.size], [[], [], 0]);
    scene.put("c");
    scene.inbox.mailbox.close();
    assert.deepEqual(scene.drainMail(), ["c"]);
  });
});

describe("a new process", () => {
  test("processed mail that arrives again is acknowledged and not delivered again", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a", "b", "c");
    for (let count = 0; count < 2; count++) await take(stream);
    scene.inbox.put(READY);
    scene.put("a", "b", "c", "d");
    assert.deepEqual([await take(stream), await take(stream)], ["c", "d"]);
    assert.deepEqual(scene.acked, ["a", "a", "b", "c"]);
  });

  test("unread mail that arrives again is delivered once", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a", "b");
    scene.inbox.put(READY);
    assert.equal(scene.size, 0);
    scene.inbox.put(Object.assign(mail("a"), { redelivered: true }));
    scene.put("a");
    const first = (await stream.next()).value;
    scene.put("a");
    assert.deepEqual([first?.messageId, first?.redelivered, scene.size], ["a", true, 1]);
  });

  test("mail that a loop left or holds is delivered once", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a");
    await take(stream[Symbol.asyncIterator]());
    scene.inbox.put(READY);
    await stream.return();
    scene.put("a", "b");
    const next = scene.messages();
    assert.deepEqual([scene.size, await take(next), await take(next), scene.acked], [2, "a", "b", ["a"]]);
  });

  test("mail above the buffer is dropped and counted without loss of other mail", () => {
    const scene = new Scene();
    for (let number = 0; number < 102; number++) scene.put(`m${number}`);
    assert.deepEqual([scene.size, scene.inbox.mailbox.dropped, scene.acked, scene.drainMail().at(-1)], [100, 2, [], "m99"]);
  });

  test("the remembered ids of processed mail are limited", () => {
    const scene = new Scene();
    for (let number = 0; number <= MAX_PROCESSED; number++) scene.inbox.mailbox.acked(`m${number}`);
    scene.put("m0", "m1");
    assert.deepEqual([scene.acked, scene.drainMail()], [["m1"], ["m0"]]);
  });
});

describe("other events", () => {
  test("a flood of broadcasts or peer events drops no mail and no other events", async () => {
    for (const looks of ["before", "after"]) {
      const scene = new Scene();
      const early = looks === "before" ? [scene.messages(), scene.inbox.events()] as const : undefined;
      for (let number = 0; number < 100; number++) {
        scene.put(`m${number}`);
        scene.inbox.put(broadcast(`b${number}`));
        scene.inbox.put(peer(`p${number}`));
      }
      const [messages, events] = early ?? [scene.messages(), scene.inbox.events()];
      assert.deepEqual([messages.dropped, events.dropped], [97, 97]);
      const seen: (string | undefined)[] = [];
      for (let count = 0; count < 103; count++) seen.push(await take(messages));
      assert.deepEqual(seen.filter((id) => id?.startsWith("m")), Array.from({ length: 100 }, (_, number) => `m${number}`));
      assert.deepEqual(seen.slice(-6), ["m97", "b97", "m98", "b98", "m99", "b99"], "in order of arrival");
      assert.equal(scene.acked.length, 100, "the read of a broadcast acknowledges the last message");
      const told: Event[] = [];
      for (let count = 0; count < 4; count++) told.push((await events.next()).value as Event);
      assert.deepEqual(told, [READY, peer("p97"), peer("p98"), peer("p99")]);
    }
  });

  test("several streams get each broadcast", async () => {
    const scene = new Scene();
    const streams = [scene.messages(), scene.messages()];
    scene.inbox.put(broadcast("b"));
    assert.deepEqual(await Promise.all(streams.map(take)), ["b", "b"]);
  });

  test("an ended stream buffers and yields nothing", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.inbox.put(broadcast("b"));
    scene.put("a");
    await stream.return();
    scene.inbox.put(broadcast("c"));
    assert.equal((await stream.next()).done, true);
    assert.deepEqual(scene.drainMail(), ["a"]);
  });

  test("streams after the end yield buffered events and no mail", async () => {
    const scene = new Scene();
    const stream = scene.messages();
    scene.put("a");
    scene.inbox.put(broadcast("b"));
    scene.inbox.end();
    assert.deepEqual([await take(stream), (await stream.next()).done, scene.drainMail()], ["b", true, ["a"]]);
    assert.equal((await scene.messages().next()).done, true);
  });
});
