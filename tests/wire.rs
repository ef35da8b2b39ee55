//! The bytes that cross the network: golden copies, round trips, and what becomes of bytes that somebody
//! has changed or made up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must panic")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use p2p_node::core::directory::record::{
    Kem, MAX_RECORD_BYTES, RECORD_DOMAIN, Record, SignedRecord, kad_key,
};
use p2p_node::core::envelope::ack::ACK_DOMAIN;
use p2p_node::core::envelope::frame::FRAME_DOMAIN;
use p2p_node::core::envelope::limits::MAX_FRAME_BYTES;
use p2p_node::core::envelope::{
    Ack, Batch, Busy, Encoding, Frame, FrameBody, Hello, KemUnknown, MailResponse, Message, Outcome, Payload,
    Priority, Refused, Response, Scope, Sealed, Session, SignedAck, Stage, StreamAck, WIRE_VERSION, sign_ack,
    sign_frame, strict_decode,
};
use p2p_node::core::identity::{AgentKey, Binding, NodeKey, SignedBinding, verify_signed};
use p2p_node::core::wire::Wire;
use p2p_node_protocol::Role;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

/// When all of this takes place: 2026-01-01, in seconds since 1970.
const NOW_SECS: u64 = 1_767_225_600;
const NOW_MS: u64 = NOW_SECS * 1000;

// ---- The example values -------------------------------------------------------------------------------

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
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
            bitmap: vec![0b0000_0110].into(),
            outcomes: vec![Outcome { seq: 9, code: "PEER_REJECTED".to_owned() }],
        }],
        stage: Stage::Taken.into(),
        created_at_ms: NOW_MS,
    }
}

fn frame_body() -> FrameBody {
    let message = Message {
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
            acks: vec![sign_ack(&ack(), &node())],
        })),
    }
}

fn hello() -> Hello {
    Hello {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        record: record().sign(&node()).unwrap(),
        agent_version: "p2p-node/0.1.0".to_owned(),
    }
}

fn mail_response() -> MailResponse {
    MailResponse { response: Some(Response::Ack(sign_ack(&ack(), &node()))) }
}

// ---- Golden bytes -------------------------------------------------------------------------------------

/// Compares with the file, or writes it when `UPDATE_FIXTURES=1`.
fn golden_text(name: &str, actual: &str) {
    let path = fixture(name);
    if std::env::var_os("UPDATE_FIXTURES").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(actual, expected, "{name} has changed: that breaks every other implementation");
}

fn golden_bytes(name: &str, bytes: &[u8]) {
    let lines: Vec<String> = bytes.chunks(32).map(hex::encode).collect();
    golden_text(&format!("envelopes/{name}.hex"), &(lines.join("\n") + "\n"));
}

#[test]
fn the_bytes_on_the_wire_are_those_of_the_fixtures() {
    golden_bytes("binding", &binding().encode());
    golden_bytes("record", &record().sign(&node()).unwrap());
    golden_bytes("frame", &sign_frame(&frame_body(), &node()));
    golden_bytes("ack", &sign_ack(&ack(), &node()));
    golden_bytes("hello", &hello().encode_to_vec());
    golden_bytes("mail_response", &mail_response().encode_to_vec());
}

#[test]
fn the_values_that_others_must_arrive_at_are_those_of_the_fixtures() {
    let address = agent().address();
    let values = [
        ("address", address.to_string()),
        ("peer_id", node().peer_id().to_string()),
        ("node_key", hex::encode(node().public())),
        ("derived_node_key", hex::encode(NodeKey::derive(&agent().secret(), "dev", "", 0).public())),
        ("binding_signing_hash", hex::encode(binding().binding.signing_hash())),
        ("kad_key", hex::encode(kad_key("dev", &address))),
    ];
    let lines: String = values.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    golden_text("envelopes/values.txt", &lines);
}

#[test]
fn the_examples_are_accepted() {
    assert_eq!(binding().check("dev", NOW_MS), Ok(()));
    assert!(binding().verify_signature());
    let record = SignedRecord::decode(record().sign(&node()).unwrap()).unwrap();
    assert_eq!(record.check("dev", Some(agent().address()), NOW_MS), Ok(()));
    let frame = Frame::decode(sign_frame(&frame_body(), &node()), MAX_FRAME_BYTES).unwrap();
    assert_eq!(frame.check_scope("dev", &Scope::Topic("builds".to_owned())), Ok(()));
    assert_eq!(frame.check_times(NOW_MS, 0), Ok(()));
    assert!(frame.verify_signature());
    assert!(SignedAck::decode(sign_ack(&ack(), &node())).unwrap().verify(&node().public()));
    assert_eq!(strict_decode(&hello().encode_to_vec().into()), Ok(hello()));
    assert_eq!(strict_decode(&mail_response().encode_to_vec().into()), Ok(mail_response()));
}

// ---- Changed bytes ------------------------------------------------------------------------------------

/// Whether somebody would act upon these bytes, if they were the only thing to go by.
type Accepts = fn(Bytes) -> bool;

fn accepts_binding(bytes: Bytes) -> bool {
    SignedBinding::decode(&bytes)
        .is_ok_and(|binding| binding.check("dev", NOW_MS).is_ok() && binding.verify_signature())
}

fn accepts_record(bytes: Bytes) -> bool {
    SignedRecord::decode(bytes).is_ok_and(|record| record.check("dev", None, NOW_MS).is_ok())
}

fn accepts_frame(bytes: Bytes) -> bool {
    Frame::decode(bytes, MAX_FRAME_BYTES).is_ok_and(|frame| frame.verify_signature())
}

fn accepts_ack(bytes: Bytes) -> bool {
    SignedAck::decode(bytes).is_ok_and(|ack| ack.verify(&node().public()))
}

fn signed_examples() -> [(&'static str, Bytes, Accepts); 4] {
    [
        ("binding", binding().encode(), accepts_binding),
        ("record", record().sign(&node()).unwrap(), accepts_record),
        ("frame", sign_frame(&frame_body(), &node()), accepts_frame),
        ("ack", sign_ack(&ack(), &node()), accepts_ack),
    ]
}

#[test]
fn no_bit_of_a_signed_thing_can_be_changed() {
    for (name, bytes, accepts) in signed_examples() {
        assert!(accepts(bytes.clone()), "{name}");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepts(changed.into()), "{name} with bit {bit} turned over");
        }
    }
}

#[test]
fn nothing_can_be_added_to_a_signed_thing_or_taken_from_it() {
    for (name, bytes, accepts) in signed_examples() {
        for length in 0..bytes.len() {
            assert!(!accepts(bytes.slice(..length)), "{name} cut to {length} bytes");
        }
        // An unknown field, a known one again, a zero byte.
        for tail in [&b"\xf8\x07\x01"[..], b"\x12\x03dev", b"\0"] {
            assert!(!accepts([&bytes, tail].concat().into()), "{name} with {tail:?}");
        }
    }
}

#[test]
fn a_signature_counts_in_its_own_domain_only() {
    let domains = [FRAME_DOMAIN, ACK_DOMAIN, RECORD_DOMAIN];
    for signed in domains {
        // The body is one that all three decoders could be given.
        let whole = node().sign_whole(signed, b"body");
        for verified in domains {
            let same = signed == verified;
            assert_eq!(verify_signed(&node().public(), verified, &whole), same, "{signed} as {verified}");
        }
    }
    // The same with the real things: a body that is right, under the signature of another kind.
    for (name, bytes, accepts) in signed_examples().into_iter().skip(1) {
        let body = &bytes[64..];
        let accepted: Vec<_> =
            domains.into_iter().filter(|domain| accepts(node().sign_whole(domain, body))).collect();
        assert_eq!(accepted.len(), 1, "{name} is accepted as {accepted:?}");
        assert!(accepted[0].contains(name), "{name} is accepted as {accepted:?}");
    }
}

#[test]
fn no_signed_thing_is_taken_for_another() {
    for (name, bytes, _) in signed_examples() {
        for (other, _, accepts) in signed_examples() {
            assert_eq!(accepts(bytes.clone()), name == other, "{name} taken for {other}");
        }
    }
}

// ---- Made-up bytes ------------------------------------------------------------------------------------

/// Runs every decoder; what one of them accepts must be the encoding of what it made of it.
fn decode_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    canonical::<FrameBody>(&bytes);
    canonical::<Batch>(&bytes);
    canonical::<Ack>(&bytes);
    canonical::<MailResponse>(&bytes);
    canonical::<Hello>(&bytes);
    if let Ok(binding) = SignedBinding::decode(&bytes) {
        assert_eq!(binding.encode(), bytes);
        let _ = (binding.check("dev", NOW_MS), binding.verify_signature());
    }
    if let Ok(record) = SignedRecord::decode(bytes.clone()) {
        assert_eq!(record.bytes, bytes);
        let _ = record.check("dev", None, NOW_MS);
    }
    if let Ok(frame) = Frame::decode(bytes.clone(), MAX_FRAME_BYTES) {
        assert_eq!(frame.body.encode_to_vec(), bytes[64..]);
        let _ = (frame.check_times(NOW_MS, NOW_MS), frame.verify_signature());
    }
    if let Ok(ack) = SignedAck::decode(bytes.clone()) {
        assert_eq!(ack.ack.encode_to_vec(), bytes[64..]);
    }
}

fn canonical<M: Wire>(bytes: &Bytes) {
    if let Ok(message) = strict_decode::<M>(bytes) {
        assert_eq!(message.encode_to_vec(), *bytes);
    }
}

fn any_example() -> impl Strategy<Value = Bytes> {
    let unsigned = [hello().encode_to_vec(), mail_response().encode_to_vec(), frame_body().encode_to_vec()];
    let signed = signed_examples().map(|(_, bytes, _)| bytes);
    prop::sample::select(unsigned.into_iter().map(Bytes::from).chain(signed).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..512)) {
        decode_all(&bytes);
    }

    #[test]
    fn no_change_of_good_bytes_makes_a_decoder_panic(
        bytes in any_example(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        put in vec(any::<u8>(), 0..16),
    ) {
        let (a, b) = (cut.0.index(bytes.len()), cut.1.index(bytes.len()));
        let mut changed = bytes.to_vec();
        changed.splice(a.min(b)..a.max(b).min(a.min(b) + 16), put);
        decode_all(&changed);
        for (name, good, accepts) in signed_examples() {
            prop_assert!(changed == good || !accepts(changed.clone().into()), "accepted as {}", name);
        }
    }
}

// ---- Round trips --------------------------------------------------------------------------------------

fn bytes(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn network() -> impl Strategy<Value = String> {
    "[a-z0-9-]{1,32}"
}

prop_compose! {
    fn any_message()(
        stream in bytes(16),
        (base_seq, seq) in any::<(u64, u64)>().prop_map(|(a, b)| (a.min(b), a.max(b))),
        (kind, reply_to, conversation) in ("\\PC{0,16}", "\\PC{0,32}", "\\PC{0,32}"),
        (sent_at_ms, ttl_left_ms) in any::<(u64, u64)>(),
        priority in prop::sample::select(vec![Priority::Medium, Priority::Low, Priority::High]),
        encoding in prop::sample::select(vec![Encoding::Json, Encoding::Bytes]),
        parents in vec("\\PC{1,32}", 0..=16),
        data in bytes(0..300),
    ) -> Message {
        let (priority, encoding) = (priority.into(), encoding.into());
        Message {
            stream, seq, base_seq, kind, priority, sent_at_ms, ttl_left_ms, reply_to, conversation, parents,
            encoding, data,
        }
    }
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let sealed = (bytes(1..=32), any::<u32>(), bytes(1..200), bytes(1..300))
        .prop_map(|(kem_id, suite, enc, ciphertext)| Sealed { kem_id, suite, enc, ciphertext });
    let session = (bytes(1..=32), any::<u64>(), bytes(1..300))
        .prop_map(|(id, counter, ciphertext)| Session { id, counter, ciphertext });
    prop_oneof![
        (vec(any_message(), 0..4), vec(bytes(64..200), 0..4))
            .prop_map(|(messages, acks)| Payload::Plain(Batch { messages, acks })),
        sealed.prop_map(Payload::Sealed),
        session.prop_map(Payload::Session),
    ]
}

prop_compose! {
    fn any_body()(
        network in network(),
        scope in prop_oneof!["\\PC{1,32}".prop_map(Scope::Topic), bytes(32).prop_map(Scope::NodeKey)],
        (boot, counter, created_at_ms) in any::<(u64, u64, u64)>(),
        payload in any_payload(),
    ) -> FrameBody {
        FrameBody {
            version: WIRE_VERSION, network, scope: Some(scope), binding: binding().encode(), boot, counter,
            created_at_ms, payload: Some(payload),
        }
    }
}

prop_compose! {
    fn any_stream_ack()(
        stream in bytes(16),
        cumulative in any::<u64>(),
        bitmap in bytes(0..=128),
        outcomes in vec((any::<u64>(), "[A-Z0-9_]{1,48}"), 0..4),
    ) -> StreamAck {
        let outcomes = outcomes.into_iter().map(|(seq, code)| Outcome { seq, code }).collect();
        StreamAck { stream, cumulative, bitmap, outcomes }
    }
}

prop_compose! {
    fn any_ack()(
        network in network(),
        account in bytes(20),
        streams in vec(any_stream_ack(), 1..4),
        stage in prop::sample::select(vec![Stage::Stored, Stage::Taken]),
        created_at_ms in any::<u64>(),
    ) -> Ack {
        Ack { version: WIRE_VERSION, network, account, streams, stage: stage.into(), created_at_ms }
    }
}

fn any_response() -> impl Strategy<Value = MailResponse> {
    prop_oneof![
        bytes(64..300).prop_map(Response::Ack),
        any::<u64>().prop_map(|retry_after_ms| Response::Busy(Busy { retry_after_ms })),
        bytes(1..=MAX_RECORD_BYTES).prop_map(|record| Response::KemUnknown(KemUnknown { record })),
        ("[A-Z0-9_]{1,48}", "\\PC{0,60}")
            .prop_map(|(code, reason)| Response::Refused(Refused { code, reason })),
    ]
    .prop_map(|response| MailResponse { response: Some(response) })
}

prop_compose! {
    fn any_binding()(
        network in network(),
        (chain_id, generation) in any::<(u64, u64)>(),
        (not_before, life) in (any::<u64>(), 0..90 * 24 * 60 * 60u64),
    ) -> SignedBinding {
        let not_after = not_before.saturating_add(life);
        let base = binding().binding;
        agent().bind(Binding { chain_id, network, generation, not_before, not_after, ..base }).unwrap()
    }
}

prop_compose! {
    fn any_record()(
        (network, binding) in (network(), any_binding()),
        (seq, issued_at_ms, expires_at_ms) in any::<(u64, u64, u64)>(),
        ports in vec(any::<u16>(), 0..=8),
        kem in prop::option::of((bytes(1..=32), any::<u32>(), bytes(1..=1216), any::<u64>())),
        role in prop::sample::select(vec![Role::Full, Role::Bootstrap]),
        name in "\\PC{0,16}",
        (capabilities, topics) in (vec("\\PC{1,8}", 0..6), vec("\\PC{1,8}", 0..6)),
    ) -> Record {
        let addrs = ports.iter().map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).collect();
        let kem = kem.map(|(id, suite, public_key, not_after_ms)| Kem { id, suite, public_key, not_after_ms });
        Record {
            network, binding, seq, issued_at_ms, expires_at_ms, addrs, kem, role, name, capabilities, topics,
        }
    }
}

proptest! {
    #[test]
    fn frames_survive_the_wire(body in any_body()) {
        let frame = Frame::decode(sign_frame(&body, &node()), MAX_FRAME_BYTES).unwrap();
        prop_assert!(frame.verify_signature());
        prop_assert_eq!(frame.body, body);
    }

    #[test]
    fn acks_survive_the_wire(ack in any_ack()) {
        let signed = SignedAck::decode(sign_ack(&ack, &node())).unwrap();
        prop_assert!(signed.verify(&node().public()));
        prop_assert_eq!(signed.ack, ack);
    }

    #[test]
    fn mail_responses_survive_the_wire(response in any_response()) {
        prop_assert_eq!(strict_decode(&response.encode_to_vec().into()), Ok(response));
    }

    #[test]
    fn hellos_survive_the_wire(
        network in network(), record in bytes(1..=MAX_RECORD_BYTES), agent_version in "\\PC{0,60}",
    ) {
        let hello = Hello { version: WIRE_VERSION, network, record, agent_version };
        prop_assert_eq!(strict_decode(&hello.encode_to_vec().into()), Ok(hello));
    }

    #[test]
    fn bindings_survive_the_wire(binding in any_binding()) {
        prop_assert_eq!(SignedBinding::decode(&binding.encode()), Ok(binding));
    }

    #[test]
    fn records_survive_the_wire(record in any_record()) {
        let signed = SignedRecord::decode(record.sign(&node()).unwrap()).unwrap();
        prop_assert_eq!(signed.record, record);
    }
}
