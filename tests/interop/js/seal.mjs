// Encryption by another HPKE implementation, from docs/wire-protocol.md alone: opens a sealed message of the node in
// each suite, and seals one for the node.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { Aes256Gcm, CipherSuite, HkdfSha256 } from "@hpke/core";
import { XWing } from "@hpke/hybridkem-x-wing";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

const fields = (...list) =>
  concatBytes(...list.flatMap((field) => [new Uint8Array(new Uint32Array([field.length]).buffer).reverse(), field]));

const ciphers = new Map([
  [1, { aeadId: 3, create: () => new Chacha20Poly1305() }],
  [2, { aeadId: 2, create: () => new Aes256Gcm() }],
]);

function pad(content) {
  const length = content.length + 1;
  const exponent = Math.floor(Math.log2(length));
  const step = 2 ** (exponent - Math.floor(Math.log2(exponent)) - 1);
  const padded = new Uint8Array(Math.max(256, Math.ceil(length / step) * step));
  padded.set(content);
  padded[content.length] = 0x80;
  return padded;
}

async function session(context) {
  const exported = new Uint8Array(await context.export(utf8ToBytes("p2p-node/session/v1"), 48));
  return [exported.subarray(0, 16), exported.subarray(16)];
}

function nonce(counter) {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, BigInt(counter));
  return bytes;
}

async function exchange(vector) {
  const of = (name) => hexToBytes(vector[name]);
  const { aeadId, create } = ciphers.get(vector.suite);
  const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: create() });
  assert.deepEqual([suite.kem.id, suite.kdf.id, suite.aead.id], [0x647a, 1, aeadId]);

  const kemId = sha256(fields(utf8ToBytes("p2p-node/kem-id/v1"), of("public_key"))).subarray(0, 16);
  assert.equal(bytesToHex(kemId), vector.kem_id);
  const domain = utf8ToBytes("p2p-node/seal/v1");
  const info = fields(domain, utf8ToBytes(vector.network), of("sender"), of("recipient"), kemId);

  const recipientKey = await suite.kem.deserializePrivateKey(of("secret"));
  const opener = await suite.createRecipientContext({ recipientKey, enc: of("enc"), info });
  assert.deepEqual(new Uint8Array(await opener.open(of("ciphertext"))), pad(of("content")));
  const [id, key] = await session(opener);
  assert.equal(bytesToHex(id), vector.session_id);
  const next = await create().createEncryptionContext(key).open(nonce(vector.counter), of("next_ciphertext"), id);
  assert.deepEqual(new Uint8Array(next), pad(of("next_content")));

  const recipientPublicKey = await suite.kem.deserializePublicKey(of("public_key"));
  const sealer = await suite.createSenderContext({ recipientPublicKey, info });
  const ciphertext = new Uint8Array(await sealer.seal(pad(utf8ToBytes("from elsewhere"))));
  const [ownId, ownKey] = await session(sealer);
  const following = await create().createEncryptionContext(ownKey).seal(nonce(7), pad(utf8ToBytes("and more")), ownId);
  const hex = (bytes) => bytesToHex(new Uint8Array(bytes));
  return { enc: hex(sealer.enc), ciphertext: hex(ciphertext), id: hex(ownId), following: hex(following) };
}

const vectors = JSON.parse(readFileSync(new URL("../../../fixtures/seal/vectors.json", import.meta.url), "utf8"));
console.log(JSON.stringify(await Promise.all(vectors.map(exchange))));
