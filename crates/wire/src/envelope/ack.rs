//! Acks: signature ‖ body, signed apart from any frame, because an ack may come as the answer to a request.

use bytes::Bytes;
use prost::Message as _;

use super::codec::Ack;
use crate::identity::NodeKey;
use crate::identity::keys::{signed_body, verify_signed};
use crate::strict::{DecodeError, strict_decode};

/// Domain of the signature over an ack.
pub const ACK_DOMAIN: &str = "p2p-node/ack/v1";

/// Signs an ack. The caller keeps it within its limits: an ack beyond them is refused by all.
pub fn sign_ack(ack: &Ack, key: &NodeKey) -> Bytes {
    key.sign_whole(ACK_DOMAIN, &ack.encode_to_vec())
}

/// An ack as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAck {
    /// What was signed.
    pub ack: Ack,
    bytes: Bytes,
}

impl SignedAck {
    /// Decodes an ack.
    ///
    /// # Errors
    /// When it is too large, not in canonical form, or a field is outside its limits.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let ack = strict_decode(&signed_body(&bytes).ok_or(DecodeError::Malformed)?)?;
        Ok(SignedAck { ack, bytes })
    }

    /// Whether this node key signed the bytes as they were received. It must be the current one of the account
    /// that the mail went to; nothing in the ack says so.
    pub fn verify(&self, node_key: &[u8; 32]) -> bool {
        verify_signed(node_key, ACK_DOMAIN, &self.bytes)
    }
}
