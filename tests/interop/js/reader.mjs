// Decodes and verifies frames and records of p2p-node, and decodes acks. Written from docs/wire-protocol.md alone, so that a gap in
// that document shows here. Every function throws if its argument must be rejected; integers are BigInts.
import { createPublicKey, verify } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { keccak_256 as keccak } from "@noble/hashes/sha3.js";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { decode, must, toInt } from "./wire.mjs";

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

// ---- §3 Signatures and hashes, §4 Identities
const u32be = (length) => Uint8Array.of(length >>> 24, length >>> 16, length >>> 8, length);
export const fields = (...parts) => concatBytes(...parts.flatMap((part) => [u32be(part.length), part]));

export const kadKey = (networkName, address) =>
  keccak(fields(utf8ToBytes("p2p-node/kad/v1"), utf8ToBytes(networkName), hexToBytes(address.slice(2))));

// Node.js checks s and the equation without the cofactor, so that R is canonical too. The other strict checks follow.
export function verifyEd25519(signature, signed, key) {
  const jwk = { kty: "OKP", crv: "Ed25519", x: Buffer.from(key).toString("base64url") };
  must(verify(null, signed, createPublicKey({ key: jwk, format: "jwk" }), signature), "signature: forged");
  for (const point of [key, signature.subarray(0, 32)])
    must(!ed25519.Point.fromBytes(point).isSmallOrder(), "signature: of small order");
}

function verifySigned(domain, whole, key) {
  verifyEd25519(whole.subarray(0, 64), fields(utf8ToBytes(domain), sha256(whole.subarray(64))), key);
}

export function peerIdOf(nodeKey) {
  const raw = concatBytes(Uint8Array.of(0, 0x24, 8, 1, 0x12, 0x20), nodeKey);
  let out = "";
  for (let rest = toInt(raw); rest > 0n; rest /= 58n)
    out = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[rest % 58n] + out;
  return "1" + out; // "1" stands for the leading zero byte.
}

export function addressText(account) {
  const hash = bytesToHex(keccak(utf8ToBytes(bytesToHex(account))));
  return "0x" + [...bytesToHex(account)].map((digit, i) => (hash[i] > "7" ? digit.toUpperCase() : digit)).join("");
}

// ---- §5 Bindings
const hashText = (value) => keccak(utf8ToBytes(value));
const word = (value) =>
  hexToBytes((typeof value === "bigint" ? value.toString(16) : bytesToHex(value)).padStart(64, "0"));
const DOMAIN = keccak(
  concatBytes(hashText("EIP712Domain(string name,string version)"), hashText("p2p-node"), hashText("1")),
);
const STATEMENT =
  "I let this peer-to-peer node send and receive messages as my account on the named network until the binding ends.";
const BINDING =
  "PeerBinding(string statement,address account,uint256 chainId,string peerId,bytes32 nodeKey,string network,uint64 generation,uint64 notBefore,uint64 notAfter)";

export function bindingHash(b) {
  const struct = [
    hashText(BINDING),
    hashText(STATEMENT),
    word(b.account),
    word(b.chain_id),
    hashText(peerIdOf(b.node_key)),
    word(b.node_key),
    hashText(b.network),
    word(b.generation),
    word(b.not_before),
    word(b.not_after),
  ];
  return keccak(concatBytes(Uint8Array.of(0x19, 1), DOMAIN, keccak(concatBytes(...struct))));
}

function checkBinding(b, networkName, now) {
  must(b.network === networkName, "binding: another network");
  ed25519.Point.fromBytes(b.node_key);
  must(b.not_before <= b.not_after && b.not_after - b.not_before <= 7_776_000n, "binding: life");
  must(b.not_before <= now + 30n && now <= b.not_after + 30n && b.generation <= now + 30n, "binding: not now");
  must(b.signature.length === 65 && [0, 1, 27, 28].includes(b.signature[64]), "binding: signature");
  must(!secp256k1.Signature.fromBytes(b.signature.subarray(0, 64)).hasHighS(), "binding: high s");
}

function recover(b) {
  const signature = secp256k1.Signature.fromBytes(b.signature.subarray(0, 64)).addRecoveryBit(b.signature[64] % 27);
  const key = signature.recoverPublicKey(bindingHash(b)).toBytes(false);
  must(same(keccak(key.subarray(1)).subarray(12), b.account), "binding: of another account");
}

export function readBinding(bytes, { network, nowMs }) {
  must(bytes.length <= 672, "binding: size");
  const binding = decode("SignedBinding", bytes);
  checkBinding(binding, network, BigInt(nowMs) / 1000n);
  recover(binding);
  return binding;
}

// ---- §6 Records, §7 Frames, §10 Acks
const sum = (list) => list.reduce((total, item) => total + item.length, 0);

const chunks = (bytes, size) =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));

export function readRecord(bytes, { network, address, nowMs }) {
  must(bytes.length >= 64 && bytes.length <= 5632, "record: size");
  const [record, now] = [decode("Record", bytes.subarray(64)), BigInt(nowMs)];
  must(
    sum(record.addrs) <= 600 && sum([...record.capabilities, ...record.topics].map(utf8ToBytes)) <= 512,
    "record: limits",
  );
  const hashes = chunks(record.topic_hashes, 4);
  must(
    record.topic_hashes.length % 4 === 0 && hashes.every((hash, i) => i === 0 || toInt(hashes[i - 1]) < toInt(hash)),
    "record: topic_hashes",
  );
  const binding = decode("SignedBinding", record.binding);
  const from = addressText(binding.account);
  must(record.network === network && (!address || address === from), "record: of another");
  checkBinding(binding, network, now / 1000n);
  must(
    record.issued_at_ms <= record.expires_at_ms && record.expires_at_ms - record.issued_at_ms <= 86_400_000n,
    "record: life",
  );
  must(
    record.issued_at_ms <= now + 30_000n && now <= record.expires_at_ms + 30_000n && record.seq <= now + 30_000n,
    "record: not now",
  );
  verifySigned("p2p-node/record/v1", bytes, binding.node_key);
  recover(binding);
  return { from, peerId: peerIdOf(binding.node_key), record };
}

// `topic` is the topic on which the frame arrived. The caller checks replays: (node key, boot, counter).
export function readFrame(bytes, { network, topic, nowMs }) {
  must(bytes.length >= 64 && bytes.length <= 65_536, "frame: size");
  const [frame, now] = [decode("FrameBody", bytes.subarray(64)), BigInt(nowMs)];
  must(
    (frame.plain?.messages ?? []).every((message) => message.base_seq <= message.seq),
    "frame: base_seq",
  );
  const binding = decode("SignedBinding", frame.binding);
  must(frame.network === network && binding.network === network, "frame: another network");
  must(frame.topic === topic || (frame.node_key && topic === "agent-messages"), "frame: out of scope");
  must(frame.created_at_ms <= now + 30_000n && now <= frame.created_at_ms + 120_000n, "frame: untimely");
  verifySigned("p2p-node/frame/v1", bytes, binding.node_key);
  checkBinding(binding, network, now / 1000n);
  recover(binding);
  return { from: addressText(binding.account), peerId: peerIdOf(binding.node_key), frame, ...frame.plain };
}

export function idOf(from, { stream, seq }) {
  const name = sha256(fields(utf8ToBytes("p2p-node/message/v1"), hexToBytes(from.slice(2)), stream)).subarray(0, 16);
  return `${bytesToHex(name)}-${seq}`;
}

// What carries an ack proves who made it: the frame, or the connection.
export function readAck(bytes) {
  must(bytes.length >= 1 && bytes.length <= 61_440, "ack: size");
  const ack = decode("Ack", bytes);
  const names = ack.streams.map((stream) => bytesToHex(stream.stream));
  must(names.every((name, i) => i === 0 || names[i - 1] < name), "ack: streams");
  for (const many of ["rejections", "selective"])
    must(ack.streams.reduce((total, stream) => total + stream[many].length, 0) <= 1024, `ack: ${many}`);
  return ack;
}

// ---- §14 On libp2p
const u64be = (length) => hexToBytes(length.toString(16).padStart(16, "0"));

export function messageId({ topic, data }) {
  const fields = [utf8ToBytes("p2p-node/gossip-id/v1"), utf8ToBytes(topic), data];
  return sha256(concatBytes(...fields.flatMap((field) => [u64be(field.length), field]))).subarray(0, 20);
}
