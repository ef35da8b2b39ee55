// Checks the reader with the golden bytes: it accepts them and derives the values of the fixtures, and it refuses signed
// bytes with a flipped bit.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { bytesToHex, hexToBytes } from "@noble/hashes/utils.js";
import { peerIdBytes, signed } from "./admission.mjs";
import {
  bindingHash,
  idOf,
  kadKey,
  messageId,
  readAck,
  readBinding,
  readFrame,
  readRecord,
  verifyEd25519,
} from "./reader.mjs";
import { decode, encode } from "./wire.mjs";

const fixtures = new URL("../../../fixtures/envelopes/", import.meta.url);
const load = (name) => readFileSync(new URL(name, fixtures), "utf8");
const golden = (name) => hexToBytes(load(`${name}.hex`).replaceAll("\n", ""));
const values = Object.fromEntries(
  load("values.txt")
    .trim()
    .split("\n")
    .map((line) => line.split(" = ")),
);

const there = { network: "dev", nowMs: 1_767_225_600_000, topic: "builds" };
const readers = {
  binding: (bytes) => readBinding(bytes, there),
  record: (bytes) => readRecord(bytes, { ...there, address: values.address }),
  frame: (bytes) => readFrame(bytes, there),
};

const binding = readers.binding(golden("binding"));
assert.equal(bytesToHex(bindingHash(binding)), values.binding_signing_hash);
assert.equal(bytesToHex(binding.node_key), values.node_key);
assert.equal(bytesToHex(kadKey("dev", values.address)), values.kad_key);

const { record, ...owner } = readers.record(golden("record"));
assert.deepEqual(owner, { from: values.address, peerId: values.peer_id });
assert.deepEqual([record.name, record.role, record.topics], ["Ada", 1n, ["builds"]]);

const frame = readers.frame(golden("frame"));
assert.deepEqual([frame.from, frame.peerId], [values.address, values.peer_id]);
assert.equal(new TextDecoder().decode(frame.messages[0].data), '{"choice":"yes"}');
assert.equal(idOf(frame.from, frame.messages[0]), values.message_id);
assert.deepEqual(frame.acks.map(bytesToHex), [bytesToHex(golden("ack"))]);

assert.deepEqual(messageId({ topic: "/p2p-node/dev/topic/1/builds", data: golden("frame") }), golden("gossip_id"));

const ack = readAck(golden("ack"));
assert.deepEqual([ack.streams[0].cumulative, ack.streams[0].rejections[0].code], [7n, "PEER_REJECTED"]);
assert.deepEqual(ack.streams[0].selective, [2n, 3n]);
assert.deepEqual(decode("MailResponse", golden("mail_response")).ack, golden("ack"));

// Admission: the node of the fixtures is the initiator of the response and the responder of the challenge.
const connect = golden("admission_connect");
assert.deepEqual(decode("Admission", connect).connect.record, golden("record"));
const { challenge } = decode("Admission", golden("admission_challenge"));
assert.deepEqual(challenge.responder.record, golden("record"));
assert.deepEqual(encode("Admission", { version: 1n, connect: decode("Admission", connect).connect }), connect);
const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const number = [...values.other_peer_id].reduce((sum, digit) => sum * 58n + BigInt(base58.indexOf(digit)), 0n);
const other = hexToBytes(number.toString(16).padStart(76, "0"));
const own = peerIdBytes(binding.node_key);
const nonces = [new Uint8Array(32).fill(0x49), new Uint8Array(32).fill(0x52)];
const isSigned = (signature, side, initiator, responder, role) => {
  try {
    verifyEd25519(signature, signed({ network: "dev", initiator, responder, nonces }, side, role), binding.node_key);
    return true;
  } catch {
    return false;
  }
};
const { signature } = decode("Admission", golden("admission_response")).signed_response;
assert(isSigned(challenge.signature, "responder", other, own, 1n));
assert(isSigned(signature, "initiator", own, other, 1n));
assert(!isSigned(signature, "initiator", own, other, 0n) && !isSigned(signature, "responder", own, other, 1n));
assert(!isSigned(challenge.signature, "responder", own, other, 1n));
assert.notEqual(decode("Admission", golden("admission_accepted")).accepted, undefined);
const { rejected } = decode("Admission", golden("admission_rejected"));
assert.deepEqual([rejected.code, rejected.retry_after_ms, rejected.time_ms], ["CLOCK_OUT_OF_RANGE", 5_000n, BigInt(there.nowMs)]);
assert.deepEqual(encode("Admission", { version: 1n, rejected }), golden("admission_rejected"));

// Extensions (number 16, twice, and 17) are skipped at their place; other unknown fields are refused.
const extensions = Uint8Array.of(0x80, 1, 7, 0x80, 1, 8, 0x8a, 1, 2, 1, 2);
assert.deepEqual(decode("Admission", Uint8Array.of(...connect, ...extensions)), decode("Admission", connect));
const refused = [
  [...extensions, ...connect],
  [...connect, 0x78, 1],
  [...connect, ...extensions, ...extensions],
  [...connect, 0x80, 1, 0x80, 0],
  [...connect, ...Array(17).fill([0x80, 1, 7]).flat()],
];
for (const bytes of refused) assert.throws(() => decode("Admission", Uint8Array.from(bytes)), `extensions: ${bytes.slice(-12)}`);
// Packed numbers: one entry with all of them in increasing order, or none.
const stream = [0x0a, 16, ...Array(16).fill(7)];
assert.deepEqual(decode("StreamAck", Uint8Array.of(...stream, 0x1a, 3, 1, 0xac, 2)).selective, [1n, 300n]);
for (const selective of [[0x18, 1], [0x1a, 0], [0x1a, 2, 2, 2], [0x1a, 1, 0], [0x1a, 1, 1, 0x1a, 1, 2]])
  assert.throws(() => decode("StreamAck", Uint8Array.of(...stream, ...selective)), `selective: ${selective}`);

let flips = 0;
for (const [name, read] of Object.entries(readers)) {
  const bytes = golden(name);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    bytes[bit >> 3] ^= 1 << (bit & 7);
    assert.throws(() => read(bytes), `${name} with bit ${bit} flipped`);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    flips++;
  }
  for (let length = 0; length < bytes.length; length++)
    assert.throws(() => read(bytes.subarray(0, length)), `${name} cut to ${length}`);
}
console.log(JSON.stringify({ type: "golden", flips }));
