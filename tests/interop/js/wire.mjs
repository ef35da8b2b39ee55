// The messages of docs/wire-protocol.md, and a decoder that accepts only their canonical form (§2). Integers are BigInts.
import { bytesToHex } from "@noble/hashes/utils.js";

export const must = (holds, what) => {
  if (!holds) throw new Error(what);
};
export const toInt = (bytes) => BigInt("0x" + (bytesToHex(bytes) || "0"));

// The first field number of extensions, which are skipped, and their largest number in a message.
const [FIRST_EXTENSION, MAX_EXTENSIONS] = [16, 16];

// Field n of a message is the nth of its list: name, type, and the least and the largest length (of bytes and texts) or
// value (of integers). `many` is the largest number of repetitions. Exactly one field of a `oneof` is present.
const U64 = 2n ** 64n - 1n;
const int = (name, min = 0n, max = U64) => ({ name, kind: "int", min, max });
const bytes = (name, min, max, more) => ({ name, kind: "bytes", min, max, ...more });
const text = (name, min, max, more) => ({ name, kind: "text", min, max, ...more });
const one = (oneof, field) => ({ ...field, oneof });
const message = (name, type, more) => ({ name, kind: "message", type, ...more });
const network = text("network", 1, 32, { like: /^[a-z0-9-]+$/ });
const version = int("version", 1n, 1n);
const plain = { like: /^\P{Cc}*$/u };
const code = text("code", 1, 48, { like: /^[A-Z0-9_]+$/ });

const TYPES = {
  SignedBinding: [
    bytes("account", 20, 20),
    int("chain_id"),
    bytes("node_key", 32, 32),
    network,
    int("generation"),
    int("not_before"),
    int("not_after"),
    bytes("signature", 1, 512),
  ],
  Record: [
    version,
    network,
    bytes("binding", 1, 672),
    int("seq"),
    int("issued_at_ms"),
    int("expires_at_ms"),
    bytes("addrs", 1, 600, { many: 8 }),
    message("kem", "Kem"),
    int("role", 0n, 2n),
    text("name", 0, 64, plain),
    text("capabilities", 1, 512, { many: 512, ...plain }),
    text("topics", 1, 512, { many: 512, ...plain }),
    bytes("topic_hashes", 0, 2048),
  ],
  Kem: [bytes("id", 1, 32), int("suite", 0n, 2n ** 32n - 1n), bytes("public_key", 1, 5632), int("not_after_ms")],
  FrameBody: [
    version,
    network,
    one("scope", text("topic", 1, 128)),
    one("scope", bytes("node_key", 32, 32)),
    bytes("binding", 1, 672),
    { name: "boot", kind: "fixed", min: 0n, max: U64 },
    int("counter"),
    int("created_at_ms"),
    one("payload", message("plain", "Batch")),
    one("payload", message("sealed", "Sealed")),
    one("payload", message("session", "Session")),
  ],
  Batch: [message("messages", "Message", { many: 8192 }), bytes("acks", 1, 61_440, { many: 64 })],
  Message: [
    bytes("stream", 16, 16),
    int("seq"),
    int("base_seq"),
    text("kind", 0, 64),
    int("priority", 0n, 2n),
    int("sent_at_ms"),
    int("ttl_left_ms"),
    text("reply_to", 0, 128),
    text("conversation", 0, 128),
    text("parents", 1, 128, { many: 16 }),
    int("encoding", 0n, 1n),
    bytes("data", 0, 2 ** 20),
    bytes("accepted_stream", 0, 16),
    int("accepted_seq"),
    int("hops", 0n, 2n ** 32n - 1n),
    bytes("trace", 0, 25),
    message("call", "Call"),
    message("file", "FileOffer"),
  ],
  FileOffer: [
    bytes("hash", 32, 32),
    int("size", 0n, 2n ** 40n),
    text("name", 0, 255, plain),
  ],
  Call: [
    int("step", 0n, 6n),
    bytes("id", 16, 16),
    int("parts", 0n, 2n ** 24n),
    int("more", 0n, 1n),
    text("code", 0, 48),
    text("reason", 0, 1024, plain),
  ],
  Sealed: [
    bytes("kem_id", 1, 32),
    int("suite", 0n, 2n ** 32n - 1n),
    bytes("enc", 1, 2048),
    bytes("ciphertext", 1, 2 ** 21),
  ],
  Session: [bytes("id", 1, 32), int("counter"), bytes("ciphertext", 1, 2 ** 21)],
  Ack: [
    version,
    network,
    bytes("account", 20, 20),
    message("streams", "StreamAck", { many: 64 }),
    int("created_at_ms"),
    { name: "boot", kind: "fixed", min: 0n, max: U64 },
    { name: "counters", kind: "growing", many: 32 },
  ],
  StreamAck: [
    bytes("stream", 16, 16),
    int("cumulative"),
    { name: "selective", kind: "growing", many: 1024 },
    message("rejections", "Rejection", { many: 1024 }),
    int("received"),
    int("window"),
  ],
  Rejection: [int("seq"), code],
  MailResponse: [
    one("response", bytes("ack", 1, 61_440)),
    one("response", message("busy", "Busy")),
    one("response", message("kem_unknown", "KemUnknown")),
    one("response", message("refused", "Refused")),
  ],
  Busy: [int("retry_after_ms")],
  KemUnknown: [bytes("record", 1, 5632)],
  Refused: [code, text("reason", 0, 256, plain), int("time_ms")],
  Admission: [
    version,
    one("step", message("connect", "Connect")),
    one("step", message("challenge", "Challenge")),
    one("step", message("signed_response", "SignedResponse")),
    one("step", message("accepted", "Accepted")),
    one("step", message("rejected", "Rejected")),
  ],
  Connect: [
    network,
    bytes("record", 1, 5632),
    bytes("nonce", 32, 32),
    int("role", 0n, 2n),
    int("time_ms"),
    text("agent_version", 0, 256, plain),
  ],
  Challenge: [message("responder", "Connect"), bytes("signature", 64, 64)],
  SignedResponse: [bytes("signature", 64, 64)],
  Accepted: [],
  Rejected: [code, text("reason", 0, 256, plain), int("retry_after_ms"), int("time_ms")],
};

function reader(input) {
  let at = 0;
  const take = (length) => {
    must(length <= input.length - at, "cut short");
    at += length;
    return input.subarray(at - length, at);
  };
  const varint = () => {
    for (let value = 0n, shift = 0n; shift < 70n; shift += 7n) {
      const [byte] = take(1);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) {
        must((byte > 0 || shift === 0n) && value <= U64, "varint");
        return value;
      }
    }
    throw new Error("varint");
  };
  return { take, varint, isDone: () => at === input.length };
}

export function decode(type, input) {
  const { take, varint, isDone } = reader(input);
  const [out, chosen, fields] = [{}, {}, TYPES[type]];
  fields.forEach((field) => {
    out[field.name] = field.many ? [] : undefined;
  });
  for (let last = 0, extensions = 0; !isDone();) {
    const tag = Number(varint());
    const [number, wire] = [Math.floor(tag / 8), tag % 8];
    if (number >= FIRST_EXTENSION && number > fields.length) {
      must(number >= last && number < 2 ** 29 && ++extensions <= MAX_EXTENSIONS, `${type}: extensions`);
      last = number;
      must([0, 1, 2, 5].includes(wire), "wire type");
      if (wire === 0) varint();
      else take({ 1: 8, 5: 4 }[wire] ?? Number(varint()));
      continue;
    }
    const field = fields[number - 1];
    must(field && (number > last || (number === last && field.many && field.kind !== "growing")), `${type}: field ${number}`);
    must(wire === ({ int: 0, fixed: 1 }[field.kind] ?? 2), "wire type");
    last = number;
    let value =
      field.kind === "int"
        ? varint()
        : field.kind === "fixed"
          ? toInt(Uint8Array.from(take(8)).reverse())
          : take(Number(varint()));
    must(
      field.many || field.oneof || field.kind === "message" || (value.length ?? value) > 0,
      `${field.name}: an explicit default`,
    );
    if (field.kind === "growing") value = growing(value, field);
    else if (field.kind === "message") value = decode(field.type, value);
    else check(field, value);
    if (field.kind === "text") value = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
    must(!field.like || field.like.test(value), field.name);
    if (field.kind === "growing") out[field.name] = value;
    else if (field.many) must(out[field.name].push(value) <= field.many, `${field.name}: too many`);
    else out[field.name] = value;
    if (field.oneof) {
      must(!chosen[field.oneof], `two of ${field.oneof}`);
      chosen[field.oneof] = true;
    }
  }
  for (const field of fields) {
    must(!field.oneof || chosen[field.oneof], `none of ${field.oneof}`);
    if (out[field.name] !== undefined || field.oneof || field.kind === "message") continue;
    out[field.name] = { int: 0n, fixed: 0n, text: "", bytes: new Uint8Array() }[field.kind];
    check(field, out[field.name]);
  }
  return out;
}

// Encodes a message in its canonical form (§2.1): fields in order, without default values.
export function encode(type, value) {
  const out = [];
  const varint = (number) => {
    let rest = BigInt(number);
    for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
    out.push(Number(rest));
  };
  TYPES[type].forEach((field, at) => {
    for (const item of [value[field.name] ?? []].flat()) {
      if (field.kind === "int") {
        if (BigInt(item) === 0n) continue;
        varint((at + 1) * 8);
        varint(item);
        continue;
      }
      const content =
        field.kind === "message" ? encode(field.type, item) : field.kind === "text" ? new TextEncoder().encode(item) : item;
      if (content.length === 0 && field.kind !== "message") continue;
      varint((at + 1) * 8 + 2);
      varint(content.length);
      out.push(...content);
    }
  });
  return Uint8Array.from(out);
}

// Packed integers in strictly increasing order, the first greater than 0.
function growing(input, field) {
  const [{ varint, isDone }, values] = [reader(input), []];
  for (let last = 0n; !isDone(); last = values.at(-1)) {
    must(values.push(varint()) <= field.many && values.at(-1) > last, field.name);
  }
  must(values.length > 0, `${field.name}: an explicit default`);
  return values;
}

const check = ({ name, min, max }, value) =>
  must((value.length ?? value) >= min && (value.length ?? value) <= max, `${name} is out of range`);
