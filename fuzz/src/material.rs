//! Fixed keys, and messages that they sign.

use std::sync::LazyLock;

use bytes::Bytes;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::{
    Ack, Batch, Call, FileOffer, FrameBody, Message, Payload, Rejection, Scope, Sealed, StreamAck,
    WIRE_VERSION, sign_frame,
};
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SignedBinding};
use p2p_node_wire::record::{Kem, Record, topic_hash};
use p2p_node_wire::seal::hpke::{Info, SealedFrame, seal};
use p2p_node_wire::seal::kem::{Keyring, Secret, kem_id};
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::session::SessionKey;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::{Instant, Now};
use prost::Message as _;

use super::source::Source;

pub const NETWORK: &str = "dev";

/// Unix time at the start, in ms, as in `fixtures/envelopes`.
pub const START_MS: u64 = 1_767_225_600_000;

/// Topics of all agents.
pub const TOPICS: [&str; 6] = ["jobs", "agent-messages", "agent-announcements", "node-status", "t", "other"];

/// Seed of the core's KEM keys.
pub const KEM_SEED: [u8; 32] = [7; 32];

/// The node key of `fixtures/keys`, which signed the golden bytes.
pub fn fixture_node() -> NodeKey {
    static KEY: LazyLock<NodeKey> = LazyLock::new(|| {
        let text = include_str!("../../fixtures/keys/node.key");
        let digits = text.lines().find(|line| !line.starts_with('#')).expect("a line with the key");
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal");
        NodeKey::from_seed(std::array::from_fn(byte))
    });
    KEY.clone()
}

/// An agent with its node and binding.
pub struct Party {
    pub agent: AgentKey,
    pub kem: Secret,
    pub node: NodeKey,
    pub binding: SignedBinding,
}

/// Number of parties: the core itself, three other agents, and two other nodes of the core's agent,
/// with the same generation and with a newer one.
pub const PARTIES: usize = 6;
/// Number of other agents; their indexes begin at 1.
pub const OTHERS: usize = 3;

pub fn party(index: usize) -> &'static Party {
    static ALL: LazyLock<[Party; PARTIES]> = LazyLock::new(|| {
        [(1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 4, 7), (1, 5, 0), (1, 6, START_MS / 1000)]
            .map(|(agent, node, generation)| new_party(agent, node, generation))
    });
    &ALL[index]
}

fn new_party(agent: u8, number: u8, generation: u64) -> Party {
    let agent = AgentKey::from_bytes(&[agent; 32]).expect("a key");
    let node = NodeKey::from_seed([number; 32]);
    let binding = Binding {
        account: agent.address(),
        chain_id: 0,
        peer_id: node.peer_id(),
        node_key: node.public(),
        network: NETWORK.to_owned(),
        generation,
        not_before: START_MS / 1000,
        not_after: START_MS / 1000 + BINDING_LIFE_SECS,
    };
    let binding = agent.bind(binding).expect("a valid binding");
    Party { agent, kem: Secret::from([10 + number; 32]), node, binding }
}

fn near(source: &mut Source<'_>, time: u64) -> u64 {
    match source.below(16) {
        0 => time.saturating_sub(source.number()),
        1 => time.saturating_add(source.number()),
        2 => time.saturating_sub(source.number().saturating_mul(1000)),
        3 => source.number(),
        _ => time,
    }
}

/// Returns a KEM key as in a record.
fn kem(public_key: &Bytes) -> Kem {
    let id = Bytes::copy_from_slice(&kem_id(public_key));
    Kem { id, suite: Suite::default().number(), public_key: public_key.clone(), not_after_ms: u64::MAX }
}

/// Returns the first KEM key of the core.
pub fn own_kem() -> &'static Kem {
    static KEM: LazyLock<Kem> = LazyLock::new(|| {
        let now = Now { mono: Instant::ZERO, unix_ms: START_MS };
        Keyring::new(KEM_SEED, Suite::default(), now).current().expect("a new ring has a key")
    });
    &KEM
}

fn printable(source: &mut Source<'_>) -> String {
    source.text().chars().filter(|c| !c.is_control()).take(16).collect()
}

pub fn record(source: &mut Source<'_>, from: usize, now_ms: u64) -> Bytes {
    let party = party(from);
    let issued_at_ms = near(source, now_ms);
    let addrs = ["/ip4/127.0.0.1/tcp/1000", "/ip4/127.0.0.1/udp/1000/quic-v1", "/ip4/8.8.8.8/tcp/1"];
    let record = Record {
        network: if source.byte() == 255 { "other".to_owned() } else { NETWORK.to_owned() },
        binding: party.binding.clone(),
        seq: near(source, now_ms),
        issued_at_ms,
        expires_at_ms: issued_at_ms.saturating_add(3_600_000),
        addrs: source.list(3, |source| source.pick(&addrs).parse().expect("an address")),
        kem: (source.byte() < 240).then(|| kem(&party.kem.public_key())),
        role: source.pick(&[Role::Full, Role::Bootstrap]),
        name: printable(source),
        capabilities: source.list(2, |_| "review".to_owned()),
        topics: source.list(2, |source| source.pick(&TOPICS).to_owned()),
        topic_hashes: source.list(2, |source| topic_hash(source.pick(&TOPICS))),
        claim: None,
    };
    record.sign(&party.node).unwrap_or_default()
}

/// Returns valid or invalid `data`.
fn data(source: &mut Source<'_>) -> Bytes {
    match source.below(6) {
        0 => Bytes::copy_from_slice(source.chunk()),
        1 => source.json().to_string().into(),
        2 => vec![b'['; source.byte().into()].into(),
        3 => format!("\"{}\"", "\u{85}".repeat(usize::from(source.u16()) / 8)).into(),
        _ => source.byte().to_string().into(),
    }
}

fn message(source: &mut Source<'_>) -> Message {
    let seq = source.number();
    let base_seq = match source.below(4) {
        0 => 0,
        1 => source.number(),
        _ => seq,
    };
    let reply_to = printable(source);
    let hops = if reply_to.is_empty() { 0 } else { source.below(400) as u32 };
    let call = source.optional(call).map(Box::new);
    let file = if call.is_none() { source.optional(file).map(Box::new) } else { None };
    Message {
        stream: vec![source.below(3) as u8; 16].into(),
        seq,
        base_seq: base_seq.min(seq),
        kind: printable(source),
        priority: source.below(3) as i32,
        sent_at_ms: source.number(),
        ttl_left_ms: source.number(),
        reply_to,
        conversation: String::new(),
        parents: Vec::new(),
        encoding: source.below(2) as i32,
        data: data(source),
        accepted_stream: if source.below(4) == 0 {
            vec![source.below(3) as u8; 16].into()
        } else {
            Bytes::new()
        },
        accepted_seq: 0,
        hops,
        trace: if source.below(4) == 0 { vec![source.below(3) as u8; 25] } else { Vec::new() },
        call,
        file,
    }
}

/// Returns the offer of a file, small, large or too large.
fn file(source: &mut Source<'_>) -> FileOffer {
    let size = [0, 1 << 20, 1 << 30, 1 << 40][source.below(4)];
    FileOffer { hash: vec![source.below(3) as u8; 32].into(), size, name: "a".to_owned() }
}

/// Returns a step of a request, of one that the core made or another.
fn call(source: &mut Source<'_>) -> Call {
    let step = source.below(7) as i32;
    let is_error = matches!(step, 2 | 3);
    Call {
        step,
        // The boot number of the core is 1.
        id: [1, u64::from(source.byte())].map(u64::to_be_bytes).concat().into(),
        parts: if step == 5 { 0 } else { 1 + source.below(3) as u32 },
        more: step < 2 && source.flag(),
        code: if is_error { "CODE".to_owned() } else { String::new() },
        reason: String::new(),
    }
}

/// Returns consecutive messages of one stream.
fn run(source: &mut Source<'_>) -> Vec<Message> {
    let (first, stream) = (u64::from(source.byte()), source.below(3) as u8);
    let ordered = |seq: u64, source: &mut Source<'_>| Message {
        stream: vec![stream; 16].into(),
        seq,
        base_seq: seq,
        data: data(source),
        ..Message::default()
    };
    (0..source.below(8) as u64).map(|index| ordered(first + index, source)).collect()
}

pub fn batch(source: &mut Source<'_>, from: usize, streams: &[(Bytes, u64)]) -> Batch {
    let messages = if source.flag() { run(source) } else { source.list(3, message) };
    let acks = source.list(2, |source| ack(source, from, streams));
    Batch { messages, acks }
}

/// Returns a batch sealed to the core's first key, in a suite by the seed, and the session that begins with it.
pub fn sealed(from: usize, batch: &Batch, seed: u64) -> (Payload, SessionKey) {
    let kem = own_kem();
    let info = Info {
        network: NETWORK.to_owned(),
        sender: party(from).node.public(),
        recipient: party(0).agent.address(),
        kem_id: kem_id(&kem.public_key),
        suite: Suite::ALL[(seed % 2) as usize],
    };
    let content = padding::pad(batch.encode_to_vec());
    let frame =
        seal(&kem.public_key, &info, &content, &mut DeterministicRng::new(seed)).expect("a valid key");
    let SealedFrame { enc, ciphertext, session } = frame;
    (Payload::Sealed(Sealed { kem_id: kem.id.clone(), suite: info.suite.number(), enc, ciphertext }), session)
}

pub fn frame(source: &mut Source<'_>, from: usize, scope: Scope, now_ms: u64, payload: Payload) -> Bytes {
    let party = party(from);
    let body = FrameBody {
        version: WIRE_VERSION,
        network: if source.byte() == 255 { "other".to_owned() } else { NETWORK.to_owned() },
        scope: Some(scope),
        binding: party.binding.encode(),
        boot: source.below(3) as u64,
        counter: source.number(),
        created_at_ms: near(source, now_ms),
        payload: Some(payload),
    };
    sign_frame(&body, &party.node)
}

/// Returns an ack of the core's mail. `streams` are the core's streams, each with its last number.
pub fn ack(source: &mut Source<'_>, from: usize, streams: &[(Bytes, u64)]) -> Bytes {
    let of_stream = |source: &mut Source<'_>| {
        let index = source.below(streams.len().max(1));
        let (stream, last) = streams.get(index).cloned().unwrap_or((vec![0; 16].into(), 0));
        let cumulative = match source.below(4) {
            0 => source.number(),
            1 => last,
            _ => last.saturating_add(1),
        };
        let rejection = |source: &mut Source<'_>| Rejection {
            seq: source.number(),
            code: source.pick(&["PEER_REJECTED", "MESSAGE_TOO_LARGE", "X"]).to_owned(),
        };
        // Most acks have no selective part, and `received` equals `cumulative`.
        let selective = if source.below(4) == 0 { vec![1, 3 + u64::from(source.byte())] } else { Vec::new() };
        let window = if source.below(2) == 0 { source.number() } else { 0 };
        let received = if source.below(4) == 0 { source.number() } else { cumulative };
        StreamAck { stream, cumulative, selective, rejections: source.list(2, rejection), received, window }
    };
    let mut all = vec![of_stream(source)];
    all.extend(source.list(2, of_stream));
    all.sort_by(|one, other| one.stream.cmp(&other.stream));
    all.dedup_by(|one, other| one.stream == other.stream);
    let to = if source.byte() == 255 { from } else { 0 };
    let ack = Ack {
        version: WIRE_VERSION,
        network: NETWORK.to_owned(),
        account: Bytes::copy_from_slice(party(to).agent.address().as_slice()),
        streams: all,
        created_at_ms: source.number(),
        boot: source.below(3) as u64,
        counters: if source.flag() { (1..=u64::from(source.byte()).min(33)).collect() } else { Vec::new() },
    };
    ack.encode_to_vec().into()
}

/// Corrupts signed bytes, but seldom. Some are changed before a malicious signer signs them.
pub fn corrupted(source: &mut Source<'_>, bytes: Bytes, from: usize, domain: &str) -> Bytes {
    corrupted_then(source, bytes, |changed| party(from).node.sign_whole(domain, &changed[64..]))
}

/// Corrupts bytes without a signature, but seldom.
pub fn corrupted_unsigned(source: &mut Source<'_>, bytes: Bytes) -> Bytes {
    corrupted_then(source, bytes, Bytes::from)
}

fn corrupted_then(source: &mut Source<'_>, bytes: Bytes, sign: impl Fn(Vec<u8>) -> Bytes) -> Bytes {
    let mut changed = bytes.to_vec();
    let at = usize::from(source.u16()) % changed.len().max(1);
    match source.below(32) {
        0 => changed.truncate(at),
        1 => changed.extend_from_slice(source.chunk()),
        2 | 3 if !changed.is_empty() => changed[at] ^= 1 << source.below(8),
        4 if !changed.is_empty() => changed[at] = source.byte(),
        5 => changed = source.chunk().to_vec(),
        6 | 7 if at >= 64 => {
            changed[at] ^= 1 << source.below(8);
            return sign(changed);
        }
        _ => return bytes,
    }
    changed.into()
}
