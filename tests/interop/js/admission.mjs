// Admission (§12 of docs/wire-protocol.md), written from that text: an identity of an agent and its node, and the exchanges
// in both directions.
import { randomBytes } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { keccak_256 as keccak } from "@noble/hashes/sha3.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { bindingHash, fields, readRecord, verifyEd25519 } from "./reader.mjs";
import { decode, encode, must } from "./wire.mjs";

export const NONCE_BYTES = 32;

// The bytes of the PeerId of a node key (§4).
export const peerIdBytes = (nodeKey) => concatBytes(Uint8Array.of(0, 0x24, 8, 1, 0x12, 0x20), nodeKey);
const nodeKeyOf = (peerId) => {
  must(peerId.length === 38 && [0, 0x24, 8, 1, 0x12, 0x20].every((byte, i) => peerId[i] === byte), "PeerId");
  return peerId.subarray(6);
};

export const signedBytes = (domain, body) => fields(utf8ToBytes(domain), sha256(body));

// What both nodes sign. `exchange` has the network, the PeerIds as bytes and the nonces.
export const signed = ({ network, initiator, responder, nonces }, side, role) =>
  signedBytes(
    "p2p-node/admission/v1",
    fields(utf8ToBytes(network), utf8ToBytes(side), initiator, responder, ...nonces, Uint8Array.of(Number(role))),
  );

// An agent with a random key, and its node with the Ed25519 secret of 32 bytes.
export function newIdentity(seed, network) {
  const secret = secp256k1.utils.randomSecretKey();
  const account = keccak(secp256k1.getPublicKey(secret, false).subarray(1)).subarray(12);
  const [nodeKey, now] = [ed25519.getPublicKey(seed), BigInt(Date.now())];
  const binding = {
    account,
    chain_id: 0n,
    node_key: nodeKey,
    network,
    generation: 0n,
    not_before: now / 1000n - 1n,
    not_after: now / 1000n + 86_400n,
  };
  const signature = secp256k1.sign(bindingHash(binding), secret, { prehash: false, format: "recovered" });
  binding.signature = concatBytes(signature.subarray(1), signature.subarray(0, 1));
  const body = encode("Record", {
    version: 1n,
    network,
    binding: encode("SignedBinding", binding),
    seq: now,
    issued_at_ms: now,
    expires_at_ms: now + 3_600_000n,
    role: 0n,
    name: "js",
  });
  const record = concatBytes(ed25519.sign(signedBytes("p2p-node/record/v1", body), seed), body);
  return { seed, network, record, role: 0n, peerId: peerIdBytes(nodeKey) };
}

const introduce = ({ network, record, role }, nonce) => ({ network, record, nonce, role, time_ms: BigInt(Date.now()) });
const step = (name, content) => encode("Admission", { version: 1n, [name]: content });

// Checks what a peer says of itself, and its signature.
function check(connect, side, exchange, signature, peerId) {
  must(connect.network === exchange.network, "WRONG_NETWORK");
  const { record, peerId: named } = readRecord(connect.record, { network: exchange.network, nowMs: Date.now() });
  must(named === peerId.toString() && record.role === connect.role, "INVALID_RECORD");
  verifyEd25519(signature, signed(exchange, side, connect.role), nodeKeyOf(peerId.toMultihash().bytes));
}

// The exchange of an initiator. `request` sends a step and returns the answer.
export async function initiate(own, peerId, request) {
  const nonce = Uint8Array.from(randomBytes(NONCE_BYTES));
  const { challenge, rejected } = decode("Admission", await request(step("connect", introduce(own, nonce))));
  must(challenge, `rejected: ${rejected?.code}`);
  const { responder, signature } = challenge;
  const nonces = [nonce, responder.nonce];
  const exchange = { network: own.network, initiator: own.peerId, responder: peerId.toMultihash().bytes, nonces };
  check(responder, "responder", exchange, signature, peerId);
  const response = ed25519.sign(signed(exchange, "initiator", own.role), own.seed);
  const answer = decode("Admission", await request(step("signed_response", { signature: response })));
  must(answer.accepted, `rejected: ${answer.rejected?.code}`);
}

// The exchanges that peers begin. Returns the answer to a step of a peer, and `admitted` if it ends an exchange.
export function responder(own) {
  const open = new Map();
  return (peerId, bytes) => {
    const { connect, signed_response: response } = decode("Admission", bytes);
    const name = peerId.toString();
    if (connect) {
      const nonce = Uint8Array.from(randomBytes(NONCE_BYTES));
      const nonces = [connect.nonce, nonce];
      const exchange = { network: own.network, initiator: peerId.toMultihash().bytes, responder: own.peerId, nonces };
      open.set(name, { connect, exchange });
      const signature = ed25519.sign(signed(exchange, "responder", own.role), own.seed);
      return { answer: step("challenge", { responder: introduce(own, nonce), signature }) };
    }
    const begun = open.get(name);
    open.delete(name);
    must(response && begun, "OUT_OF_TURN");
    check(begun.connect, "initiator", begun.exchange, response.signature, peerId);
    return { answer: step("accepted", {}), admitted: true };
  };
}
