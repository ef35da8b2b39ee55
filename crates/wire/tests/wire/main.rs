//! Messages between nodes: golden bytes, changed bytes, and in `any` random bytes and values.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests fail by panicking")]

mod any;
mod calls;
mod extended;
mod seal;

use p2p_node_wire::message_id::StreamId;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::frame::FRAME_DOMAIN;
use p2p_node_wire::envelope::limits::MAX_FRAME_BYTES;
use p2p_node_wire::envelope::{
    Accepted, Ack, Admission, Batch, Call, CallStep, Challenge, Connect, Encoding, Frame, FrameBody,
    Handshake, MailResponse, Message, Payload, Priority, Rejected, Rejection, Response, Scope, Side,
    SignedResponse, Step, StreamAck, WIRE_VERSION, sign_frame, strict_decode,
};
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SignedBinding, verify_signed};
use p2p_node_wire::message_id::{message_id, message_name};
use p2p_node_wire::record::{Kem, RECORD_DOMAIN, Record, SignedRecord, kad_key};
use prost::Message as _;

/// The time of all examples: 2026-01-01, in seconds since 1970.
const NOW_SECS: u64 = 1_767_225_600;
const NOW_MS: u64 = NOW_SECS * 1000;

// ---- The example values -------------------------------------------------------------------------------

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn key_text(name: &str) -> String {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    text.lines().find(|line| !line.starts_with('#')).unwrap().to_owned()
}

fn agent() -> AgentKey {
    AgentKey::from_hex(&key_text("keys/agent.key")).unwrap()
}

fn node() -> NodeKey {
    let mut seed = [0; 32];
    hex::decode_to_slice(key_text("keys/node.key"), &mut seed).unwrap();
    NodeKey::from_seed(seed)
}

fn binding() -> SignedBinding {
    let binding = Binding {
        account: agent().address(),
        chain_id: 0,
        peer_id: node().peer_id(),
        node_key: node().public(),
        network: "dev".to_owned(),
        generation: NOW_SECS - 60,
        not_before: NOW_SECS - 60,
        not_after: NOW_SECS - 60 + 7 * 24 * 60 * 60,
    };
    agent().bind(binding).unwrap()
}

fn record() -> Record {
    Record {
        network: "dev".to_owned(),
        binding: binding(),
        seq: NOW_MS,
        issued_at_ms: NOW_MS,
        expires_at_ms: NOW_MS + 60 * 60 * 1000,
        addrs: vec![
            "/ip4/127.0.0.1/udp/4001/quic-v1".parse().unwrap(),
            "/ip4/127.0.0.1/tcp/4001".parse().unwrap(),
        ],
        kem: Some(Kem {
            id: vec![0x4b; 16].into(),
            suite: 1,
            public_key: vec![0x50; 48].into(),
            not_after_ms: NOW_MS + 24 * 60 * 60 * 1000,
        }),
        role: Role::Bootstrap,
        name: "Ada".to_owned(),
        capabilities: vec!["review".to_owned(), "translate".to_owned()],
        topics: vec!["builds".to_owned()],
        topic_hashes: Vec::new(),
        claim: None,
    }
}

fn ack() -> Ack {
    Ack {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        account: Bytes::copy_from_slice(agent().address().as_slice()),
        streams: vec![StreamAck {
            stream: vec![0x53; 16].into(),
            cumulative: 7,
            selective: vec![2, 3],
            rejections: vec![Rejection { seq: 9, code: "PEER_REJECTED".to_owned() }],
            received: 12,
            window: 0,
        }],
        created_at_ms: NOW_MS,
        boot: 5,
        counters: vec![1, 300],
    }
}

/// Returns the fourth part of an answer.
fn call() -> Call {
    Call { step: CallStep::Part.into(), id: vec![0x56; 16].into(), parts: 3, more: true, ..Call::default() }
}

fn frame_body() -> FrameBody {
    let message = Message {
        accepted_stream: vec![0x54; 16].into(),
        accepted_seq: 3,
        hops: 2,
        trace: vec![0x55; 25],
        call: Some(Box::new(call())),
        file: None,
        stream: vec![0x53; 16].into(),
        seq: 9,
        base_seq: 7,
        kind: "vote".to_owned(),
        priority: Priority::High.into(),
        sent_at_ms: NOW_MS - 5,
        ttl_left_ms: 119_995,
        reply_to: "a-message".to_owned(),
        conversation: "a-conversation".to_owned(),
        parents: vec!["one".to_owned(), "two".to_owned()],
        encoding: Encoding::Json.into(),
        data: Bytes::from_static(br#"{"choice":"yes"}"#),
    };
    FrameBody {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        scope: Some(Scope::Topic("builds".to_owned())),
        binding: binding().encode(),
        boot: 0x0123_4567_89ab_cdef,
        counter: 300,
        created_at_ms: NOW_MS,
        payload: Some(Payload::Plain(Batch {
            messages: vec![message],
            acks: vec![ack().encode_to_vec().into()],
        })),
    }
}

/// The other node of the examples of admission.
fn other_peer() -> PeerId {
    NodeKey::from_seed([7; 32]).peer_id()
}

fn connect() -> Connect {
    Connect {
        network: "dev".to_owned(),
        record: record().sign(&node()).unwrap(),
        nonce: vec![0x49; 32].into(),
        role: 1,
        time_ms: NOW_MS,
        agent_version: "p2p-node/0.1.0".to_owned(),
    }
}

/// Returns the signature of the example node at one end of an exchange with the other node.
fn admission_signature(side: Side) -> Bytes {
    let (own, other) = (node().peer_id(), other_peer());
    let (initiator, responder) = match side {
        Side::Initiator => (&own, &other),
        Side::Responder => (&other, &own),
    };
    let exchange = Handshake {
        network: "dev",
        initiator,
        responder,
        initiator_nonce: &[0x49; 32],
        responder_nonce: &[0x52; 32],
    };
    let signature = exchange.sign(side, Role::Bootstrap, &node());
    assert!(exchange.is_signed(side, Role::Bootstrap, &signature));
    signature
}

/// The steps of admission, and a refusal with the time of the node that refuses.
fn admission_steps() -> [(&'static str, Step); 5] {
    let responder = Some(Connect { nonce: vec![0x52; 32].into(), ..connect() });
    let challenge = Challenge { responder, signature: admission_signature(Side::Responder) };
    let response = SignedResponse { signature: admission_signature(Side::Initiator) };
    let rejected = Rejected {
        code: "CLOCK_OUT_OF_RANGE".to_owned(),
        reason: "compare the clocks".to_owned(),
        retry_after_ms: 5_000,
        time_ms: NOW_MS,
    };
    [
        ("admission_connect", Step::Connect(connect())),
        ("admission_challenge", Step::Challenge(challenge)),
        ("admission_response", Step::SignedResponse(response)),
        ("admission_accepted", Step::Accepted(Accepted {})),
        ("admission_rejected", Step::Rejected(rejected)),
    ]
}

fn mail_response() -> MailResponse {
    MailResponse { response: Some(Response::Ack(ack().encode_to_vec().into())) }
}

// ---- Golden bytes -------------------------------------------------------------------------------------

/// Compares with the file, or writes it when `UPDATE_FIXTURES=1`.
fn golden_text(name: &str, actual: &str) {
    let path = fixture(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        actual, expected,
        "{name} has changed, which breaks other implementations; UPDATE_FIXTURES=1 writes the new bytes"
    );
}

fn golden_bytes(name: &str, bytes: &[u8]) {
    let lines: Vec<String> = bytes.chunks(32).map(hex::encode).collect();
    golden_text(&format!("envelopes/{name}.hex"), &(lines.join("\n") + "\n"));
}

#[test]
fn encoded_messages_match_the_fixtures() {
    golden_bytes("binding", &binding().encode());
    golden_bytes("record", &record().sign(&node()).unwrap());
    golden_bytes("frame", &sign_frame(&frame_body(), &node()));
    golden_bytes("ack", &ack().encode_to_vec());
    for (name, step) in admission_steps() {
        golden_bytes(name, &Admission::encode(step));
    }
    golden_bytes("mail_response", &mail_response().encode_to_vec());
}

#[test]
fn derived_values_match_the_fixture() {
    let address = agent().address();
    let values = [
        ("address", address.to_string()),
        ("peer_id", node().peer_id().to_string()),
        ("node_key", hex::encode(node().public())),
        ("derived_node_key", hex::encode(NodeKey::derive(&agent().secret(), "dev", "", 0).public())),
        ("binding_signing_hash", hex::encode(binding().binding.signing_hash())),
        ("kad_key", hex::encode(kad_key("dev", &address))),
        ("other_peer_id", other_peer().to_string()),
        ("message_id", message_id(&message_name(&address, &StreamId([0x53; 16])), 9)),
    ];
    let lines: String = values.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    golden_text("envelopes/values.txt", &lines);
}

#[test]
fn example_messages_are_accepted() {
    assert_eq!(binding().check("dev", NOW_MS), Ok(()));
    assert!(binding().verify_signature());
    let record = SignedRecord::decode(record().sign(&node()).unwrap()).unwrap();
    assert_eq!(record.check("dev", Some(agent().address()), NOW_MS), Ok(()));
    let frame = Frame::decode(sign_frame(&frame_body(), &node()), MAX_FRAME_BYTES).unwrap();
    assert_eq!(frame.check_scope("dev", &Scope::Topic("builds".to_owned())), Ok(()));
    assert_eq!(frame.check_times(NOW_MS, 0), Ok(()));
    assert!(frame.is_authentic());
    assert_eq!(strict_decode(&ack().encode_to_vec().into()), Ok(ack()));
    for (_, step) in admission_steps() {
        assert_eq!(strict_decode(&Admission::encode(step.clone())), Ok(Admission::of(step)));
    }
    assert_eq!(strict_decode(&mail_response().encode_to_vec().into()), Ok(mail_response()));
}

// ---- Changed bytes ------------------------------------------------------------------------------------

/// Returns `true` if a node would accept these bytes.
type Accepts = fn(Bytes) -> bool;

/// Refuses extensions too: only the node signs those of a binding, in its frame or record.
fn accepts_binding(bytes: Bytes) -> bool {
    SignedBinding::decode(&bytes).is_ok_and(|binding| {
        binding.encode() == bytes && binding.check("dev", NOW_MS).is_ok() && binding.verify_signature()
    })
}

fn accepts_record(bytes: Bytes) -> bool {
    SignedRecord::decode(bytes).is_ok_and(|record| record.check("dev", None, NOW_MS).is_ok())
}

fn accepts_frame(bytes: Bytes) -> bool {
    Frame::decode(bytes, MAX_FRAME_BYTES).is_ok_and(|frame| frame.is_authentic())
}

fn signed_examples() -> [(&'static str, Bytes, Accepts); 3] {
    [
        ("binding", binding().encode(), accepts_binding),
        ("record", record().sign(&node()).unwrap(), accepts_record),
        ("frame", sign_frame(&frame_body(), &node()), accepts_frame),
    ]
}

#[test]
fn signed_message_with_a_flipped_bit_is_refused() {
    for (name, bytes, accepts) in signed_examples() {
        assert!(accepts(bytes.clone()), "{name}");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepts(changed.into()), "{name} with bit {bit} flipped");
        }
    }
}

#[test]
fn signed_message_with_changed_length_is_refused() {
    for (name, bytes, accepts) in signed_examples() {
        for length in 0..bytes.len() {
            assert!(!accepts(bytes.slice(..length)), "{name} cut to {length} bytes");
        }
        // An unknown field, a repeated field, a zero byte.
        for tail in [&b"\xf8\x07\x01"[..], b"\x12\x03dev", b"\0"] {
            assert!(!accepts([&bytes, tail].concat().into()), "{name} with {tail:?}");
        }
    }
}

#[test]
fn signature_in_another_domain_is_refused() {
    let domains = [FRAME_DOMAIN, RECORD_DOMAIN];
    for signed in domains {
        // The same body in every domain.
        let whole = node().sign_whole(signed, b"body");
        for verified in domains {
            let same = signed == verified;
            assert_eq!(verify_signed(&node().public(), verified, &whole), same, "{signed} as {verified}");
        }
    }
    // Valid bodies, signed in the domain of another kind.
    for (name, bytes, accepts) in signed_examples().into_iter().skip(1) {
        let body = &bytes[64..];
        let accepted: Vec<_> =
            domains.into_iter().filter(|domain| accepts(node().sign_whole(domain, body))).collect();
        assert_eq!(accepted.len(), 1, "{name} is accepted as {accepted:?}");
        assert!(accepted[0].contains(name), "{name} is accepted as {accepted:?}");
    }
}

#[test]
fn signed_message_is_refused_as_another_kind() {
    for (name, bytes, _) in signed_examples() {
        for (other, _, accepts) in signed_examples() {
            assert_eq!(accepts(bytes.clone()), name == other, "{name} decoded as {other}");
        }
    }
}
