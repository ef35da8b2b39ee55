// A node of another implementation, js-libp2p: a Kademlia client, and a gossipsub peer that validates what it forwards.
// Commands on stdin and events on stdout are JSON lines. It ends with its stdin.
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { kadDHT, passthroughMapper } from "@libp2p/kad-dht";
import { noise } from "@libp2p/noise";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";
import { createLibp2p } from "libp2p";
import { initiate, newIdentity, responder } from "./admission.mjs";
import { kadKey, messageId, readFrame, readRecord } from "./reader.mjs";

// js-libp2p calls this function of ES2024, which Node.js 20 lacks.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new this((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
};

const NETWORK = "dev";
const PREFIX = `/p2p-node/${NETWORK}/topic/1/`;

const emit = (event) => {
  const plain = (_, value) =>
    typeof value === "bigint" ? Number(value) : value instanceof Uint8Array ? bytesToHex(value) : value;
  process.stdout.write(JSON.stringify(event, plain) + "\n");
};

const seed = Uint8Array.from(randomBytes(32));
const identity = newIdentity(seed, NETWORK);
const node = await createLibp2p({
  privateKey: await generateKeyPairFromSeed("Ed25519", seed),
  addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // The test gives all addresses that it dials.
  connectionGater: { denyDialMultiaddr: (addr) => !addr.toString().startsWith("/ip4/127.0.0.1/tcp/") },
  services: {
    identify: identify(),
    ping: ping(),
    pubsub: gossipsub({
      globalSignaturePolicy: "StrictNoSign",
      msgIdFn: messageId,
      asyncValidation: true,
      fallbackToFloodsub: false,
    }),
    dht: kadDHT({ protocol: `/p2p-node/${NETWORK}/kad/1`, clientMode: true, peerInfoMapper: passthroughMapper }),
  },
});
const { pubsub, dht } = node.services;

// Admission: requests and answers, each after its length as u32be.
const framed = (bytes) => {
  const out = new Uint8Array(4 + bytes.length);
  new DataView(out.buffer).setUint32(0, bytes.length);
  out.set(bytes, 4);
  return out;
};
async function readStep(stream) {
  let bytes = new Uint8Array();
  for await (const chunk of stream) {
    bytes = Uint8Array.from([...bytes, ...chunk.subarray()]);
    const length = bytes.length >= 4 ? new DataView(bytes.buffer).getUint32(0) : Infinity;
    if (bytes.length >= 4 + length) return bytes.subarray(4, 4 + length);
  }
  throw new Error("the stream ended");
}
const ADMISSION = `/p2p-node/${NETWORK}/admission/1`;
const answerStep = responder(identity);
await node.handle(ADMISSION, async (stream, connection) => {
  try {
    const { answer, admitted } = answerStep(connection.remotePeer, await readStep(stream));
    stream.send(framed(answer));
    await stream.close();
    if (admitted) emit({ type: "admitted", peer: connection.remotePeer.toString(), by: "responder" });
  } catch (error) {
    emit({ type: "admission_failed", reason: error.message });
    stream.abort(error);
  }
});
node.addEventListener("connection:open", async ({ detail: connection }) => {
  if (connection.direction !== "outbound") return;
  const request = async (step) => {
    const stream = await connection.newStream(ADMISSION);
    stream.send(framed(step));
    const answer = await readStep(stream);
    await stream.close();
    return answer;
  };
  try {
    await initiate(identity, connection.remotePeer, request);
    emit({ type: "admitted", peer: connection.remotePeer.toString(), by: "initiator" });
  } catch (error) {
    emit({ type: "admission_failed", reason: error.message });
  }
});

// Received messages without a verdict, by topic; and topics whose messages wait for `release`.
const waiting = new Map();
const paused = new Set();

const judge = (topic, { msgId, propagationSource }, verdict) => {
  pubsub.reportMessageValidationResult(msgId, propagationSource.toString(), verdict);
  emit({ type: "judged", topic, verdict });
};

pubsub.addEventListener("gossipsub:message", ({ detail }) => {
  const topic = detail.msg.topic.slice(PREFIX.length);
  const data = Uint8Array.from(detail.msg.data); // A Buffer would have another JSON form.
  const here = { network: NETWORK, topic, nowMs: Date.now() };
  try {
    const read = topic === "agent-announcements" ? readRecord(data, here) : readFrame(data, here);
    const texts = read.messages?.map((message) => new TextDecoder().decode(message.data));
    emit({ type: "received", topic, via: detail.propagationSource.toString(), bytes: data, texts, ...read });
  } catch (error) {
    emit({ type: "rejected", topic, reason: error.message });
    return judge(topic, detail, "reject");
  }
  if (paused.has(topic)) waiting.set(topic, [...(waiting.get(topic) ?? []), detail]);
  else judge(topic, detail, "accept");
});

// The lookup of the library requires keys with a namespace, so this queries the servers one by one.
async function lookup(address) {
  const key = kadKey(NETWORK, address);
  const options = { signal: AbortSignal.timeout(5000) };
  for await (const found of dht.getClosestPeers(key, options)) {
    if (found.name !== "FINAL_PEER") continue;
    const request = { type: "GET_VALUE", key };
    for await (const { record, from } of dht.network.sendRequest(found.peer.id, request, options)) {
      if (!record) continue;
      const read = readRecord(record.value, { network: NETWORK, address, nowMs: Date.now() });
      const addrs = read.record.addrs.map((addr) => `${multiaddr(addr)}/p2p/${read.peerId}`);
      return { server: from.toString(), ...read, addrs };
    }
  }
  throw new Error("no record");
}

const commands = {
  dial: async ({ addr }) => ({ peer: (await node.dial(multiaddr(addr))).remotePeer.toString() }),
  subscribe: ({ topic }) => pubsub.subscribe(PREFIX + topic),
  mesh: ({ topic }) => ({ mesh: pubsub.getMeshPeers(PREFIX + topic) }),
  servers: async () => ({ servers: dht.routingTable.size }),
  lookup: ({ address }) => lookup(address),
  publish: async ({ topic, bytes }) => {
    await pubsub.publish(PREFIX + topic, hexToBytes(bytes));
  },
  pause: ({ topic }) => void paused.add(topic),
  release: ({ topic }) => {
    paused.delete(topic);
    for (const detail of waiting.get(topic) ?? []) judge(topic, detail, "accept");
    waiting.delete(topic);
  },
};

emit({ type: "ready", peerId: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) });
for await (const line of createInterface({ input: process.stdin })) {
  const { type, id, ...command } = JSON.parse(line);
  try {
    emit({ type: "done", id, ...(await commands[type](command)) });
  } catch (error) {
    emit({ type: "failed", id, reason: String(error) });
  }
}
await node.stop();
process.exit(0);
