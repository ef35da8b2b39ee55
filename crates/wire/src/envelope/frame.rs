//! Frames. On a topic a frame is signature ‖ body, with one signature for a whole batch. On the
//! connection of its sender a frame is its body alone, because the connection proves the node key.

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message as _;

use super::codec::{FrameBody, Scope};
use super::limits::MAX_FRAME_BYTES;
use super::replay::FrameId;
use crate::identity::binding::MAX_SKEW_SECS;
use crate::identity::keys::{signed_body, verify_signed};
use crate::identity::{BindingError, NodeKey, SignedBinding};
use crate::strict::{DecodeError, strict_decode};

/// Domain of the signature over a frame's body.
pub const FRAME_DOMAIN: &str = "p2p-node/frame/v1";

/// Highest accepted age of a frame, in ms: 2 minutes. It can be short, because the sender makes a
/// new frame for every attempt, and it bounds what the replay windows have to remember.
pub const MAX_FRAME_AGE_MS: u64 = 2 * 60 * 1000;

/// The reasons why a frame is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not an encoded frame.
    #[error("the frame is {0}")]
    Decode(#[from] DecodeError),
    /// The sender's binding is malformed or for another network.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The frame is for another network.
    #[error("the frame is for another network")]
    WrongNetwork,
    /// The frame is for another topic or node.
    #[error("the frame is for another topic or node")]
    WrongScope,
    /// The frame came on the connection of another node than its sender.
    #[error("the frame names another node than the one that sent it")]
    WrongSender,
    /// The frame is older than 2 minutes.
    #[error("the frame is too old")]
    TooOld,
    /// The frame was made before this process started, so this process cannot know if an earlier
    /// one received it.
    #[error("the frame is older than this process")]
    BeforeStart,
    /// The frame was made more than 30 s in the future.
    #[error("the frame is from the future")]
    FromTheFuture,
}

impl FrameError {
    /// Returns `true` if the frame, or its binding, has a later version. No peer is to blame for
    /// that.
    pub fn is_of_later_version(&self) -> bool {
        match self {
            FrameError::Decode(error) | FrameError::Binding(BindingError::Decode(error)) => {
                !error.is_provable()
            }
            _ => false,
        }
    }
}

/// Encodes a frame for the connection between its sender and the node that it names. The caller keeps
/// the body within its limits, because every node rejects a frame that exceeds them.
pub fn direct_frame(body: &FrameBody) -> Bytes {
    body.encode_to_vec().into()
}

/// Signs a frame for a topic. The caller keeps the body within its limits, because every node rejects
/// a frame that exceeds them.
pub fn sign_frame(body: &FrameBody, key: &NodeKey) -> Bytes {
    key.sign_whole(FRAME_DOMAIN, &body.encode_to_vec())
}

/// A decoded frame whose checks are still to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The signed body.
    pub body: FrameBody,
    /// The sender's binding, decoded from the body.
    pub binding: SignedBinding,
    /// Signature ‖ body; `None` if the connection proved the sender.
    signed: Option<Bytes>,
}

impl Frame {
    /// Returns the account of the agent that speaks.
    pub fn account(&self) -> &Address {
        &self.binding.binding.account
    }

    /// Returns the identity of the frame.
    pub fn stamp(&self) -> FrameId {
        let FrameBody { boot, counter, created_at_ms, .. } = self.body;
        FrameId { key: self.binding.binding.node_key, boot, counter, created_ms: created_at_ms }
    }

    /// Decodes a signed frame of at most `max` bytes, for example
    /// [`MAX_GOSSIP_FRAME_BYTES`](super::limits::MAX_GOSSIP_FRAME_BYTES).
    ///
    /// # Errors
    /// Fails when the frame is larger, is not in canonical form, or has a field outside its limits.
    pub fn decode(bytes: Bytes, max: usize) -> Result<Self, FrameError> {
        if bytes.len() > max {
            return Err(DecodeError::TooLarge { limit: max }.into());
        }
        let frame = Frame::decode_body(&signed_body(&bytes).ok_or(DecodeError::Malformed)?)?;
        Ok(Frame { signed: Some(bytes), ..frame })
    }

    /// Decodes a frame of at most [`MAX_FRAME_BYTES`] that came on a connection to `peer`. The
    /// handshake of the connection proved the node key of `peer`.
    ///
    /// # Errors
    /// Fails as [`Frame::decode`], and with `WrongSender` when `peer` is not the sender.
    pub fn decode_direct(bytes: &Bytes, peer: &PeerId) -> Result<Self, FrameError> {
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(DecodeError::TooLarge { limit: MAX_FRAME_BYTES }.into());
        }
        let frame = Frame::decode_body(bytes)?;
        if frame.binding.binding.peer_id != *peer {
            return Err(FrameError::WrongSender);
        }
        Ok(frame)
    }

    fn decode_body(bytes: &Bytes) -> Result<Self, FrameError> {
        let body: FrameBody = strict_decode(bytes)?;
        let binding = SignedBinding::decode(&body.binding)?;
        Ok(Frame { body, binding, signed: None })
    }

    /// Checks that the frame is meant for this network and this topic or node.
    ///
    /// # Errors
    /// Returns `WrongNetwork`, also when only the binding is for another network, or `WrongScope`.
    pub fn check_scope(&self, network: &str, scope: &Scope) -> Result<(), FrameError> {
        if self.body.network != network || self.binding.binding.network != network {
            return Err(FrameError::WrongNetwork);
        }
        if self.body.scope.as_ref() != Some(scope) {
            return Err(FrameError::WrongScope);
        }
        Ok(())
    }

    /// Checks that the frame is at most 2 minutes old and at most 30 s ahead. `not_before_ms` is
    /// the start of this process if it remembers nothing from earlier processes, otherwise 0. Both
    /// times are in ms since 1970.
    ///
    /// # Errors
    /// Returns `FromTheFuture`, `TooOld` or `BeforeStart`.
    pub fn check_times(&self, now_ms: u64, not_before_ms: u64) -> Result<(), FrameError> {
        let created = self.body.created_at_ms;
        if created > now_ms.saturating_add(MAX_SKEW_SECS * 1000) {
            return Err(FrameError::FromTheFuture);
        }
        if created.saturating_add(MAX_FRAME_AGE_MS) < now_ms {
            return Err(FrameError::TooOld);
        }
        if created < not_before_ms {
            return Err(FrameError::BeforeStart);
        }
        Ok(())
    }

    /// Returns `true` if the node key of the binding signed the received bytes, or if the connection
    /// proved the node key. The binding itself is still to be checked.
    pub fn is_authentic(&self) -> bool {
        let node_key = &self.binding.binding.node_key;
        self.signed.as_ref().is_none_or(|bytes| verify_signed(node_key, FRAME_DOMAIN, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::codec::{Batch, Payload};
    use crate::envelope::limits::{MAX_FRAME_BYTES, MAX_GOSSIP_FRAME_BYTES};
    use crate::identity::testing::{NOW_SECS, agent, binding, node};
    use crate::strict::WIRE_VERSION;

    const NOW: u64 = NOW_SECS * 1000;

    fn body() -> FrameBody {
        FrameBody {
            version: WIRE_VERSION,
            network: "dev".to_owned(),
            scope: Some(Scope::Topic("builds".to_owned())),
            binding: agent().bind(binding()).unwrap().encode(),
            boot: 1,
            counter: 1,
            created_at_ms: NOW,
            payload: Some(Payload::Plain(Batch::default())),
        }
    }

    fn frame(body: &FrameBody) -> Frame {
        Frame::decode(sign_frame(body, &node()), MAX_FRAME_BYTES).unwrap()
    }

    #[test]
    fn frame_round_trips() {
        let frame = frame(&body());
        assert_eq!(frame.body, body());
        assert_eq!(frame.binding.binding, binding());
        assert!(frame.is_authentic());
    }

    #[test]
    fn signature_of_another_node_key_is_rejected() {
        let other = NodeKey::from_seed([0x77; 32]);
        let forged = Frame::decode(sign_frame(&body(), &other), MAX_FRAME_BYTES).unwrap();
        assert!(!forged.is_authentic());
    }

    #[test]
    fn direct_frame_is_accepted_only_on_the_connection_of_its_sender() {
        let bytes = direct_frame(&body());
        let frame = Frame::decode_direct(&bytes, &node().peer_id()).unwrap();
        assert_eq!((&frame.body, frame.is_authentic()), (&body(), true));
        let other = NodeKey::from_seed([0x77; 32]).peer_id();
        assert_eq!(Frame::decode_direct(&bytes, &other), Err(FrameError::WrongSender));
        assert!(Frame::decode(bytes.clone(), MAX_FRAME_BYTES).is_err(), "a topic needs a signature");
        let signed = sign_frame(&body(), &node());
        assert!(Frame::decode_direct(&signed, &node().peer_id()).is_err(), "one form for each route");
        let long = vec![0; MAX_FRAME_BYTES + 1].into();
        let too_large = DecodeError::TooLarge { limit: MAX_FRAME_BYTES };
        assert_eq!(Frame::decode_direct(&long, &other), Err(too_large.into()));
    }

    #[test]
    fn frame_is_accepted_only_in_its_network_and_scope() {
        let check = |body: &FrameBody, network, scope| frame(body).check_scope(network, &scope);
        let builds = || Scope::Topic("builds".to_owned());
        assert_eq!(check(&body(), "dev", builds()), Ok(()));
        assert_eq!(check(&body(), "main", builds()), Err(FrameError::WrongNetwork));
        assert_eq!(check(&body(), "dev", Scope::Topic("build".to_owned())), Err(FrameError::WrongScope));
        let ours = Bytes::copy_from_slice(&node().public());
        assert_eq!(check(&body(), "dev", Scope::NodeKey(ours.clone())), Err(FrameError::WrongScope));
        let direct = FrameBody { scope: Some(Scope::NodeKey(ours.clone())), ..body() };
        assert_eq!(check(&direct, "dev", Scope::NodeKey(ours)), Ok(()));
        let theirs = Scope::NodeKey(vec![9; 32].into());
        assert_eq!(check(&direct, "dev", theirs), Err(FrameError::WrongScope));
        let moved = FrameBody { network: "main".to_owned(), ..body() };
        assert_eq!(check(&moved, "main", builds()), Err(FrameError::WrongNetwork));
    }

    #[test]
    fn frame_age_limits_are_exact() {
        let frame = frame(&body());
        assert_eq!(frame.check_times(NOW - 30_000, 0), Ok(()));
        assert_eq!(frame.check_times(NOW - 30_001, 0), Err(FrameError::FromTheFuture));
        assert_eq!(frame.check_times(NOW + 120_000, 0), Ok(()));
        assert_eq!(frame.check_times(NOW + 120_001, 0), Err(FrameError::TooOld));
        assert_eq!(frame.check_times(NOW, NOW), Ok(()));
        assert_eq!(frame.check_times(NOW, NOW + 1), Err(FrameError::BeforeStart));
        assert_eq!(frame.check_times(0, 0), Err(FrameError::FromTheFuture));
        assert_eq!(frame.check_times(u64::MAX, 0), Err(FrameError::TooOld));
        let last = FrameBody { created_at_ms: u64::MAX, ..body() };
        assert_eq!(self::frame(&last).check_times(NOW, 0), Err(FrameError::FromTheFuture));
    }

    #[test]
    fn frame_size_limits_are_exact() {
        let with_data = |length: usize| {
            let message = crate::envelope::Message {
                stream: vec![1; 16].into(),
                data: vec![b'0'; length].into(),
                ..Default::default()
            };
            let payload = Payload::Plain(Batch { messages: vec![message], acks: Vec::new() });
            sign_frame(&FrameBody { payload: Some(payload), ..body() }, &node())
        };
        for max in [MAX_GOSSIP_FRAME_BYTES, MAX_FRAME_BYTES] {
            let rest = with_data(max - 1000).len() - (max - 1000);
            assert_eq!(with_data(max - rest).len(), max);
            assert!(Frame::decode(with_data(max - rest), max).is_ok());
            let over = Frame::decode(with_data(max - rest + 1), max);
            assert_eq!(over, Err(DecodeError::TooLarge { limit: max }.into()));
        }
    }

    #[test]
    fn bytes_without_signature_or_binding_are_rejected() {
        let malformed = Err(FrameError::Decode(DecodeError::Malformed));
        assert_eq!(Frame::decode(vec![0; 63].into(), MAX_FRAME_BYTES), malformed);
        let unbound = FrameBody { binding: vec![0xff].into(), ..body() };
        let refused = Frame::decode(sign_frame(&unbound, &node()), MAX_FRAME_BYTES);
        assert_eq!(refused, Err(FrameError::Binding(BindingError::Decode(DecodeError::Malformed))));
    }
}
