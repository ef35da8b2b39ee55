// A gRPC client in Node.js, from the .proto. client.mjs SCENARIO TARGET TOKEN [PEER]: writes JSON lines for
// the test that started it.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [scenario, target, token, peer] = process.argv.slice(2);
const proto = new URL("../../crates/grpc/proto/p2pnode/v1/node.proto", import.meta.url).pathname;
const types = loader.loadSync(proto, { keepCase: false, longs: Number, enums: String, oneofs: true });
const { Node } = grpc.loadPackageDefinition(types).p2pnode.v1;
const say = (type, fields = {}) => console.log(JSON.stringify({ type, ...fields }));
const data = (value) => ({ json: JSON.stringify(value) });
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** A client; its calls return promises, its streams are async iterators. */
class Client {
  constructor(given = token) {
    // Without the option, all channels of a process to one target share a connection.
    this.stub = new Node(target, grpc.credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
    this.metadata = new grpc.Metadata();
    if (given) this.metadata.set("authorization", `Bearer ${given}`);
  }

  call(name, request = {}) {
    const options = { deadline: Date.now() + 20_000 };
    return new Promise((resolve, reject) => {
      this.stub[name](request, this.metadata, options, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  stream(name, ...request) {
    return this.stub[name](...request, this.metadata);
  }
}

/** Returns the status of a call that fails, and its code of the pipe protocol. */
async function failure(promise) {
  const error = await promise.then(() => assert.fail("the call did not fail"), (error) => error);
  if (error instanceof assert.AssertionError) throw error;
  return [grpc.status[error.code], error.metadata.get("p2p-code")[0]];
}

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

async function tour() {
  const client = new Client();
  const stream = client.stream("connect", { topics: ["news"] });
  const events = stream[Symbol.asyncIterator]();
  const { ready } = (await events.next()).value;
  assert.equal(ready.network, "dev");
  say("connected", { address: ready.address });
  const sent = await client.call("sendMessage", { agent: peer, payload: data({ hello: 1 }), kind: "task", wait: true });
  assert.ok(sent.delivered && sent.messageId);
  await client.call("sendMessage", { agent: peer, payload: { binary: Buffer.from([0, 255]) } });
  const message = async () => {
    for (;;) {
      const { value } = await events.next();
      if (value.event === "message") return value.message;
    }
  };
  say("listening");
  const mail = await message();
  assert.deepEqual([JSON.parse(mail.payload.json), mail.from, mail.conversationId], ["back", peer, "c"]);
  const news = await message();
  assert.deepEqual([news.topic, [...news.payload.binary]], ["news", [1]]);
  const found = await client.call("listAgents", { address: peer });
  assert.deepEqual([found.agents.map((agent) => agent.address), found.complete], [[peer], true]);
  const status = await client.call("getStatus");
  assert.equal(status.address, ready.address);
  const published = await client.call("sendMessage", { topic: "news-of-peer", payload: data("published") });
  assert.ok(published.messageId);
  await ask(client);
  await errors(client);
  await session(client);
  stream.on("error", () => {});
  stream.cancel();
  say("done");
}

async function ask(client) {
  const [answer, end] = await all(client.stream("request", { agent: peer, kind: "sum", payload: data([1, 2]) }));
  assert.deepEqual([answer.answer.payload.json, answer.answer.from, end.summary.answers], ["3", peer, 1]);
  const parts = await all(client.stream("request", { agent: peer, kind: "parts", payload: data(100), stream: true }));
  assert.deepEqual(parts.slice(0, -1).map((part) => Number(part.answer.payload.json)), [...Array(100).keys()]);
  const agents = { agents: [peer, `0x${"11".repeat(20)}`] };
  const many = await all(client.stream("request", { agents, kind: "sum", payload: data([1, 2]), deadlineMs: 1500 }));
  assert.deepEqual([many.at(-1).summary.answers, many.at(-1).summary.missing.length], [1, 1]);
  const call = client.stream("request", { agent: peer, kind: "never", payload: data(null) });
  const ended = failure(all(call));
  say("asked");
  assert.equal((await input.next()).value, "cancel");
  call.cancel();
  assert.deepEqual(await ended, ["CANCELLED", undefined]);
}

async function errors(client) {
  assert.equal((await failure(new Client("x".repeat(16)).call("getStatus")))[0], "UNAUTHENTICATED");
  assert.equal((await failure(new Client(null).call("getStatus")))[0], "UNAUTHENTICATED");
  const invalid = ["INVALID_ARGUMENT", "INVALID_ARGUMENT"];
  for (const fields of [{ agent: "0x12", payload: data(1) }, { agent: peer }, { payload: data(1) }]) {
    assert.deepEqual(await failure(client.call("sendMessage", fields)), invalid);
  }
  const unknown = all(client.stream("request", { agent: peer, kind: "unknown", payload: data(1) }));
  assert.deepEqual(await failure(unknown), ["UNIMPLEMENTED", "NO_HANDLER"]);
}

async function session(client) {
  const stream = client.stream("session");
  const lines = stream[Symbol.asyncIterator]();
  const write = (command) => stream.write({ json: JSON.stringify(command) });
  const until = async (type) => {
    for (;;) {
      const line = JSON.parse((await lines.next()).value.json);
      if (line.type === type) return line;
    }
  };
  write({ type: "connect", protocol: 1, id: "c", inbox: false });
  write({ type: "handle", kinds: ["echo"], id: "h" });
  await until("result");
  await until("result");
  say("handles");
  const request = await until("request");
  write({ type: "respond", ticket: request.ticket, data: request.data, id: "r" });
  assert.equal((await until("result")).id, "r");
  stream.end();
  assert.equal((await until("closing")).reason, "eof");
}

/** A client of a group that gets messages until it is killed. */
async function worker() {
  for await (const event of new Client().stream("connect", { group: "work" })) {
    if (event.event === "ready") say("connected");
    if (event.event === "message") say("message", { data: JSON.parse(event.message.payload.json) });
  }
}

try {
  await { tour, worker }[scenario]();
} catch (error) {
  say("failed", { error: error.stack });
}
process.exit();
