//! Messages of other nodes: a decoder accepts only the canonical encoding, and no check panics at
//! any time.

use bytes::Bytes;
use p2p_node_wire::envelope::frame::FRAME_DOMAIN;
use p2p_node_wire::envelope::limits::{MAX_FRAME_BYTES, MAX_GOSSIP_FRAME_BYTES};
use p2p_node_wire::envelope::{
    Ack, Admission, Batch, Frame, FrameBody, FrameClaim, MailResponse, Response, Scope, Step, strict_decode,
};
use p2p_node_wire::identity::SignedBinding;
use p2p_node_wire::record::{RECORD_DOMAIN, SignedRecord};
use p2p_node_wire::strict::Wire;

use super::material::{NETWORK, START_MS, fixture_node};

/// Returns times: correct, at the limit of the tolerance, extreme, and near those in the message.
fn clocks(named: &[u64]) -> impl Iterator<Item = u64> {
    let skew = 30_000;
    let fixed = [0, 1, START_MS - skew, START_MS, START_MS + skew, u64::MAX - skew, u64::MAX];
    let near = named.iter().flat_map(move |&time| {
        [time.saturating_sub(skew + 1), time.saturating_sub(skew), time, time.saturating_add(skew + 1)]
    });
    fixed.into_iter().chain(near.collect::<Vec<_>>())
}

pub fn binding(bytes: &[u8]) {
    let Ok(binding) = SignedBinding::decode(bytes) else { return };
    one_encoding(&binding.encode(), bytes);
    let times = [binding.binding.not_before, binding.binding.not_after, binding.binding.generation];
    let mut checked = None;
    for now in clocks(&times.map(|secs| secs.saturating_mul(1000))) {
        checked = checked.or(binding.check(NETWORK, now).ok());
    }
    assert!(binding.check("another", START_MS).is_err());
    let hash = binding.hash();
    if binding.verify_signature() {
        assert_eq!(binding.signature.len(), 65);
    }
    assert_eq!(binding.hash(), hash);
}

/// Runs `on` with the bytes, and with their body signed by the fixture's key, because most of the
/// code lies behind a valid signature.
fn also_signed(bytes: &[u8], domain: &str, on: impl Fn(Bytes)) {
    on(Bytes::copy_from_slice(bytes));
    if bytes.len() >= 64 {
        on(fixture_node().sign_whole(domain, &bytes[64..]));
    }
}

pub fn record(bytes: &[u8]) {
    also_signed(bytes, RECORD_DOMAIN, |bytes| {
        let Ok(signed) = SignedRecord::decode(bytes.clone()) else { return };
        assert_eq!(signed.bytes, bytes);
        let again = signed.record.sign(&fixture_node()).expect("a decoded record can be signed");
        one_encoding(&again[64..], &bytes[64..]);
        let record = &signed.record;
        for now in clocks(&[record.issued_at_ms, record.expires_at_ms, record.seq]) {
            if signed.check(NETWORK, None, now).is_ok() {
                assert!(record.issued_at_ms <= now.saturating_add(30_000));
                assert!(now <= record.expires_at_ms.saturating_add(30_000));
                assert_eq!(signed.check(NETWORK, Some(signed.address()), now), Ok(()));
            }
        }
        let _ = (signed.order(), signed.peer_id());
    });
}

pub fn frame(bytes: &[u8]) {
    canonical::<FrameBody>(bytes);
    canonical::<Batch>(bytes);
    if let Ok(frame) = Frame::decode_direct(&Bytes::copy_from_slice(bytes), &fixture_node().peer_id()) {
        assert_eq!(frame.binding.binding.node_key, fixture_node().public());
        one_encoding(&prost::Message::encode_to_vec(&frame.body), bytes);
    }
    also_signed(bytes, FRAME_DOMAIN, |bytes| {
        if bytes.len() > MAX_GOSSIP_FRAME_BYTES {
            assert!(Frame::decode(bytes.clone(), MAX_GOSSIP_FRAME_BYTES).is_err());
        }
        let claim = FrameClaim::read(&bytes);
        let Ok(frame) = Frame::decode(bytes.clone(), MAX_FRAME_BYTES) else { return };
        let of = &frame.binding.binding;
        // The encoding omits a time of 0.
        let named =
            (frame.body.created_at_ms > 0).then_some((of.account, of.peer_id, frame.body.created_at_ms));
        assert_eq!(claim.map(|claim| (claim.account, claim.peer_id, claim.created_at_ms)), named);
        one_encoding(&prost::Message::encode_to_vec(&frame.body), &bytes[64..]);
        one_encoding(&frame.binding.encode(), &frame.body.binding);
        let created = frame.body.created_at_ms;
        for now in clocks(&[created, created.saturating_add(120_000)]) {
            for started in [0, now, u64::MAX] {
                let _ = frame.check_times(now, started);
            }
        }
        let scope = frame.body.scope.clone().expect("a frame has a scope");
        let _ = frame.check_scope(NETWORK, &scope);
        assert!(frame.check_scope(NETWORK, &Scope::Topic(String::new())).is_err());
        let signed_by_us = bytes == fixture_node().sign_whole(FRAME_DOMAIN, &bytes[64..]);
        let names_us = frame.binding.binding.node_key == fixture_node().public();
        if signed_by_us {
            assert_eq!(frame.is_authentic(), names_us);
        }
    });
}

pub fn ack(bytes: &[u8]) {
    canonical::<Ack>(bytes);
}

pub fn admission(bytes: &[u8]) {
    match canonical::<Admission>(bytes).and_then(|admission| admission.step) {
        Some(Step::Connect(connect)) => record(&connect.record),
        Some(Step::Challenge(challenge)) => {
            challenge.responder.into_iter().for_each(|connect| record(&connect.record));
        }
        Some(Step::SignedResponse(_) | Step::Accepted(_) | Step::Rejected(_)) | None => {}
    }
}

pub fn mail_response(bytes: &[u8]) {
    match canonical::<MailResponse>(bytes).and_then(|answer| answer.response) {
        Some(Response::Ack(bytes)) => ack(&bytes),
        Some(Response::KemUnknown(answer)) => record(&answer.record),
        Some(Response::Busy(_) | Response::Refused(_)) | None => {}
    }
}

/// Asserts that accepted bytes are the canonical encoding of the decoded message, or longer because
/// of extensions.
fn one_encoding(known: &[u8], bytes: &[u8]) {
    assert!(known.len() < bytes.len() || known == bytes, "not the canonical encoding");
}

fn canonical<M: Wire>(bytes: &[u8]) -> Option<M> {
    let message: M = strict_decode(&Bytes::copy_from_slice(bytes)).ok()?;
    one_encoding(&message.encode_to_vec(), bytes);
    assert!(bytes.len() <= M::MAX_BYTES);
    Some(message)
}
