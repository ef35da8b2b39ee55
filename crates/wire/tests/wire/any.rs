//! Every decoder with random bytes, and random values encoded and decoded.

use alloy_primitives::U256;
use bytes::Bytes;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::frame::FRAME_DOMAIN;
use p2p_node_wire::envelope::limits::MAX_FRAME_BYTES;
use p2p_node_wire::envelope::{
    Accepted, Ack, Admission, Batch, Busy, Challenge, Connect, Encoding, FindAgents, FoundAgents, Frame,
    FrameBody, FrameClaim, KemUnknown, MailResponse, Message, Payload, Priority, Refused, Rejected,
    Rejection, Response, Scope, Sealed, Session, SignedResponse, Step, StreamAck, WIRE_VERSION, sign_frame,
    strict_decode,
};
use p2p_node_wire::identity::{Binding, SignedBinding};
use p2p_node_wire::record::{
    Kem, MAX_RECORD_BYTES, RECORD_DOMAIN, Record, RegistryClaim, SignedRecord, encode_topic_hashes,
};
use p2p_node_wire::strict::{DecodeError, MAX_EXTENSIONS, Shape, Wire};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::calls::any_call_or_file;
use super::extended::{BINDING, Extension, RECORD, extended};
use super::{NOW_MS, admission_steps, agent, binding, frame_body, mail_response, node, signed_examples};

/// Asserts that accepted bytes are the canonical encoding of the decoded message, or longer because
/// of extensions.
fn assert_canonical(known: &[u8], bytes: &[u8]) {
    assert!(known.len() < bytes.len() || known == bytes, "not the canonical encoding");
}

/// Runs every decoder. Accepted bytes must be canonical, except for extensions.
fn decode_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    canonical::<FrameBody>(&bytes);
    canonical::<Batch>(&bytes);
    canonical::<Ack>(&bytes);
    canonical::<MailResponse>(&bytes);
    canonical::<Admission>(&bytes);
    canonical::<FindAgents>(&bytes);
    canonical::<FoundAgents>(&bytes);
    if let Ok(binding) = SignedBinding::decode(&bytes) {
        assert_canonical(&binding.encode(), &bytes);
        let _ = (binding.check("dev", NOW_MS), binding.verify_signature());
    }
    if let Ok(record) = SignedRecord::decode(bytes.clone()) {
        assert_eq!(record.bytes, bytes);
        let _ = record.check("dev", None, NOW_MS);
    }
    if let Ok(frame) = Frame::decode(bytes.clone(), MAX_FRAME_BYTES) {
        assert_canonical(&frame.body.encode_to_vec(), &bytes[64..]);
        let _ = (frame.check_times(NOW_MS, NOW_MS), frame.is_authentic());
        assert_eq!(FrameClaim::read(&bytes), claim_of(&frame));
    }
    if let Some(claim) = FrameClaim::read(&bytes) {
        let account = claim.account.as_slice();
        assert!(
            bytes.windows(account.len()).any(|part| part == account),
            "the frame does not name the account"
        );
    }
    if let Ok(frame) = Frame::decode_direct(&bytes, &node().peer_id()) {
        assert_canonical(&frame.body.encode_to_vec(), &bytes);
        assert_eq!(frame.binding.binding.node_key, node().public());
    }
}

/// Returns the claim of a frame. The encoding omits a time of 0, so such a frame has none.
fn claim_of(frame: &Frame) -> Option<FrameClaim> {
    let Binding { account, peer_id, .. } = frame.binding.binding;
    let created_at_ms = frame.body.created_at_ms;
    (created_at_ms > 0).then_some(FrameClaim { account, peer_id, created_at_ms })
}

fn canonical<M: Wire>(bytes: &Bytes) {
    if let Ok(message) = strict_decode::<M>(bytes) {
        assert_canonical(&message.encode_to_vec(), bytes);
    }
}

fn any_example() -> impl Strategy<Value = Bytes> {
    let unsigned = [mail_response().encode_to_vec(), frame_body().encode_to_vec()];
    let signed = signed_examples().map(|(_, bytes, _)| bytes);
    let steps = admission_steps().map(|(_, step)| Admission::encode(step));
    prop::sample::select(unsigned.into_iter().map(Bytes::from).chain(signed).chain(steps).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn decoders_with_any_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..512)) {
        decode_all(&bytes);
    }

    #[test]
    fn decoders_with_changed_valid_bytes_do_not_panic_or_accept(
        bytes in any_example(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        inserted in vec(any::<u8>(), 0..16),
    ) {
        let (a, b) = (cut.0.index(bytes.len()), cut.1.index(bytes.len()));
        let mut changed = bytes.to_vec();
        changed.splice(a.min(b)..a.max(b).min(a.min(b) + 16), inserted);
        decode_all(&changed);
        for (name, good, accepts) in signed_examples() {
            prop_assert!(changed == good || !accepts(changed.clone().into()), "accepted as {}", name);
        }
    }
}

fn bytes(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn network() -> impl Strategy<Value = String> {
    "[a-z0-9-]{1,32}"
}

prop_compose! {
    fn any_message()(
        stream in bytes(16),
        (base_seq, seq) in (0..u64::MAX, 0..u64::MAX).prop_map(|(a, b)| (a.min(b), a.max(b))),
        (kind, reply_to, conversation) in ("\\PC{0,16}", "\\PC{0,32}", "\\PC{0,32}"),
        (sent_at_ms, ttl_left_ms) in any::<(u64, u64)>(),
        priority in prop::sample::select(vec![Priority::Medium, Priority::Low, Priority::High]),
        encoding in prop::sample::select(vec![Encoding::Json, Encoding::Bytes]),
        parents in vec("\\PC{1,32}", 0..=16),
        data in bytes(0..300),
        (accepted_stream, accepted_seq) in prop_oneof![
            Just((Bytes::new(), 0)), (bytes(16), any::<u64>()),
        ],
        hops in any::<u32>(),
        trace in prop_oneof![Just(Vec::new()), vec(1..=u8::MAX, 25)],
        (call, file) in any_call_or_file(),
    ) -> Message {
        let hops = if reply_to.is_empty() { 0 } else { hops };
        let (priority, encoding) = (priority.into(), encoding.into());
        Message {
            stream, seq, base_seq, kind, priority, sent_at_ms, ttl_left_ms, reply_to, conversation, parents,
            encoding, data, accepted_stream, accepted_seq, hops, trace, call, file,
        }
    }
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let sealed = (bytes(1..=32), any::<u32>(), bytes(1..200), bytes(1..300))
        .prop_map(|(kem_id, suite, enc, ciphertext)| Sealed { kem_id, suite, enc, ciphertext });
    let session = (bytes(1..=32), any::<u64>(), bytes(1..300))
        .prop_map(|(id, counter, ciphertext)| Session { id, counter, ciphertext });
    prop_oneof![
        (vec(any_message(), 0..4), vec(bytes(1..200), 0..4))
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
        selective in prop::collection::btree_set(1..=u64::MAX, 0..20),
        received in any::<u64>(),
        window in any::<u64>(),
        rejections in vec((any::<u64>(), "[A-Z0-9_]{1,48}"), 0..4),
    ) -> StreamAck {
        let rejections = rejections.into_iter().map(|(seq, code)| Rejection { seq, code }).collect();
        StreamAck { stream, cumulative, selective: selective.into_iter().collect(), rejections, received, window }
    }
}

prop_compose! {
    fn any_ack()(
        network in network(),
        account in bytes(20),
        mut streams in vec(any_stream_ack(), 1..4),
        (created_at_ms, boot) in any::<(u64, u64)>(),
        counters in prop::collection::btree_set(1..=u64::MAX, 0..=32),
    ) -> Ack {
        let counters = counters.into_iter().collect();
        streams.sort_by(|one, other| one.stream.cmp(&other.stream));
        streams.dedup_by(|one, other| one.stream == other.stream);
        Ack { version: WIRE_VERSION, network, account, streams, created_at_ms, boot, counters }
    }
}

fn any_response() -> impl Strategy<Value = MailResponse> {
    prop_oneof![
        bytes(1..300).prop_map(Response::Ack),
        any::<u64>().prop_map(|retry_after_ms| Response::Busy(Busy { retry_after_ms })),
        bytes(1..=MAX_RECORD_BYTES).prop_map(|record| Response::KemUnknown(KemUnknown { record })),
        ("[A-Z0-9_]{1,48}", "\\PC{0,60}", any::<u64>())
            .prop_map(|(code, reason, time_ms)| Response::Refused(Refused { code, reason, time_ms })),
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
        role in prop::sample::select(vec![Role::Full, Role::Bootstrap, Role::Light]),
        name in "\\PC{0,16}",
        (capabilities, topics) in (vec("\\PC{1,8}", 0..6), vec("\\PC{1,8}", 0..6)),
        hashes in prop::collection::btree_set(any::<u32>(), 0..6),
        claim in prop::option::of(any::<(u64, [u8; 20], [u8; 32])>()),
    ) -> Record {
        let addrs = ports.iter().map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).collect();
        let kem = kem.map(|(id, suite, public_key, not_after_ms)| Kem { id, suite, public_key, not_after_ms });
        Record {
            network, binding, seq, issued_at_ms, expires_at_ms, addrs, kem, role, name, capabilities, topics,
            topic_hashes: hashes.into_iter().collect(),
            claim: claim.map(|(chain_id, registry, agent_id)| RegistryClaim {
                chain_id,
                registry: registry.into(),
                agent_id: U256::from_be_bytes(agent_id),
            }),
        }
    }
}

proptest! {
    #[test]
    fn frame_round_trip(body in any_body()) {
        let frame = Frame::decode(sign_frame(&body, &node()), MAX_FRAME_BYTES).unwrap();
        prop_assert!(frame.is_authentic());
        prop_assert_eq!(FrameClaim::read(&sign_frame(&body, &node())), claim_of(&frame));
        prop_assert_eq!(frame.body, body);
    }

    #[test]
    fn ack_round_trip(ack in any_ack()) {
        prop_assert_eq!(strict_decode(&ack.encode_to_vec().into()), Ok(ack));
    }

    #[test]
    fn mail_response_round_trip(response in any_response()) {
        prop_assert_eq!(strict_decode(&response.encode_to_vec().into()), Ok(response));
    }

    #[test]
    fn admission_round_trip(
        network in network(), record in bytes(1..=MAX_RECORD_BYTES), agent_version in "\\PC{0,60}",
        nonce in bytes(32..=32), role in 0..=2, time_ms in any::<u64>(), signature in bytes(64..=64),
        code in "[A-Z_]{1,48}", retry_after_ms in any::<u64>(),
    ) {
        let connect = Connect { network, record, nonce, role, time_ms, agent_version: agent_version.clone() };
        let rejected = Rejected { code, reason: agent_version, retry_after_ms, time_ms };
        for step in [
            Step::Connect(connect.clone()),
            Step::Challenge(Challenge { responder: Some(connect), signature: signature.clone() }),
            Step::SignedResponse(SignedResponse { signature }),
            Step::Accepted(Accepted {}),
            Step::Rejected(rejected),
        ] {
            prop_assert_eq!(strict_decode(&Admission::encode(step.clone())), Ok(Admission::of(step)));
        }
    }

    #[test]
    fn question_for_agents_round_trip(
        network in network(), hashes in prop::collection::btree_set(any::<u32>(), 0..=64),
        after in prop::option::of(bytes(20..=20)), limit in 1..=64_u32,
    ) {
        let hashes: Vec<u32> = hashes.into_iter().collect();
        let capability = if hashes.is_empty() { "review".to_owned() } else { String::new() };
        let topic_hashes = encode_topic_hashes(&hashes);
        let after = after.unwrap_or_default();
        let question = FindAgents {
            version: WIRE_VERSION, network, topic_hashes, capability, after, limit,
            address: Bytes::new(), forward: false,
        };
        prop_assert_eq!(strict_decode(&question.encode_to_vec().into()), Ok(question));
    }

    #[test]
    fn answer_with_agents_round_trip(
        records in vec(bytes(1..=200), 0..=64), more in any::<bool>(), partial in any::<bool>(),
        (agents, servers) in any::<(u32, u32)>(),
    ) {
        let answer = FoundAgents { version: WIRE_VERSION, records, more, agents, servers, partial };
        prop_assert_eq!(strict_decode(&answer.encode_to_vec().into()), Ok(answer));
    }

    #[test]
    fn binding_round_trip(binding in any_binding()) {
        prop_assert_eq!(SignedBinding::decode(&binding.encode()), Ok(binding));
    }

    #[test]
    fn record_round_trip(record in any_record()) {
        let signed = SignedRecord::decode(record.sign(&node()).unwrap()).unwrap();
        prop_assert_eq!(signed.record, record);
    }
}

/// At least one extension of a message.
fn any_extensions() -> impl Strategy<Value = Vec<Extension>> {
    vec((0..1000_u32, vec(any::<u8>(), 0..20)), 1..=MAX_EXTENSIONS)
}

/// Returns a non-canonical encoding: the value of the first field (a version or a length) as a
/// longer varint.
fn non_canonical(bytes: &[u8]) -> Vec<u8> {
    [&bytes[..1], &[bytes[1] | 0x80, 0], &bytes[2..]].concat()
}

proptest! {
    #[test]
    fn extensions_leave_known_fields_unchanged(
        body in any_body(), ack in any_ack(), response in any_response(), batch in vec(any_message(), 0..4),
        record in any_record(), extensions in any_extensions(),
    ) {
        let batch = Batch { messages: batch, acks: Vec::new() };
        let extend = |bytes: Vec<u8>, shape: &Shape| extended(&bytes, shape, &extensions);
        let later: Bytes = extend(body.encode_to_vec(), &FrameBody::SHAPE).into();
        prop_assert_eq!(strict_decode(&later), Ok(body.clone()));
        let later = extend(ack.encode_to_vec(), &Ack::SHAPE).into();
        prop_assert_eq!(strict_decode(&later), Ok(ack));
        let later = extend(response.encode_to_vec(), &MailResponse::SHAPE).into();
        prop_assert_eq!(strict_decode(&later), Ok(response));
        let later = extend(batch.encode_to_vec(), &Batch::SHAPE).into();
        prop_assert_eq!(strict_decode(&later), Ok(batch));
        for (_, step) in admission_steps() {
            let step = Admission::of(step);
            let later = extend(step.encode_to_vec(), &Admission::SHAPE).into();
            prop_assert_eq!(strict_decode(&later), Ok(step));
        }
        let later = extend(record.binding.encode().to_vec(), &BINDING);
        prop_assert_eq!(SignedBinding::decode(&later), Ok(record.binding.clone()));
        let signed = record.sign(&node()).unwrap();
        let later = node().sign_whole(RECORD_DOMAIN, &extend(signed[64..].to_vec(), &RECORD));
        if later.len() <= MAX_RECORD_BYTES {
            let read = SignedRecord::decode(later.clone()).unwrap();
            prop_assert_eq!((&read.record, &read.bytes), (&record, &later), "forwarded unchanged");
        }
        // The frame as a whole, with a signature over all of it.
        let later = node().sign_whole(FRAME_DOMAIN, &extend(body.encode_to_vec(), &FrameBody::SHAPE));
        let frame = Frame::decode(later.clone(), MAX_FRAME_BYTES).unwrap();
        prop_assert!(frame.is_authentic());
        prop_assert_eq!(FrameClaim::read(&later), claim_of(&frame));
        prop_assert_eq!(frame.body, body);
    }

    #[test]
    fn non_canonical_known_fields_with_extensions_are_refused(
        body in any_body(), ack in any_ack(), extensions in any_extensions(), at in any::<prop::sample::Index>(),
    ) {
        for (bytes, shape) in [(body.encode_to_vec(), FrameBody::SHAPE), (ack.encode_to_vec(), Ack::SHAPE)] {
            let other = non_canonical(&extended(&bytes, &shape, &extensions)).into();
            prop_assert!(strict_decode::<FrameBody>(&other).is_err());
            prop_assert!(strict_decode::<Ack>(&other).is_err());
        }
        let mut changed = extended(&body.encode_to_vec(), &FrameBody::SHAPE, &extensions);
        let at = at.index(changed.len());
        changed[at] ^= 1 + (at % 255) as u8;
        decode_all(&changed);
    }

    #[test]
    fn message_of_another_version_is_refused_without_blame(version in 2..u64::MAX, rest in vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![8];
        prost::encoding::encode_varint(version, &mut bytes);
        let bytes = Bytes::from([bytes, rest].concat());
        prop_assert_eq!(strict_decode::<FrameBody>(&bytes), Err(DecodeError::Version));
        prop_assert_eq!(strict_decode::<Ack>(&bytes), Err(DecodeError::Version));
        prop_assert_eq!(strict_decode::<Admission>(&bytes), Err(DecodeError::Version));
        let record = node().sign_whole(RECORD_DOMAIN, &bytes);
        prop_assert!(SignedRecord::decode(record).is_err_and(|error| !error.is_provable()));
    }
}
