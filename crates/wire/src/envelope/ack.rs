//! Acks: signature ‖ body. An ack has its own signature, because it may travel as a response
//! outside of any frame.

use bytes::Bytes;
use prost::Message as _;

use super::codec::Ack;
use crate::identity::keys::{signed_body, verify_signed};
use crate::identity::{NodeKey, NodePublicKey};
use crate::strict::{DecodeError, strict_decode};

/// Domain of the signature over an ack.
pub const ACK_DOMAIN: &str = "p2p-node/ack/v1";

/// Signs an ack. The caller keeps it within its limits, because every node rejects an ack that
/// exceeds them.
pub fn sign_ack(ack: &Ack, key: &NodeKey) -> Bytes {
    key.sign_whole(ACK_DOMAIN, &ack.encode_to_vec())
}

/// An ack as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAck {
    /// The signed ack.
    pub ack: Ack,
    bytes: Bytes,
}

impl SignedAck {
    /// Decodes an ack. Does not verify its signature.
    ///
    /// # Errors
    /// Fails when the ack is too large, is not in canonical form, or has a field outside its
    /// limits.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let ack = strict_decode(&signed_body(&bytes).ok_or(DecodeError::Malformed)?)?;
        Ok(SignedAck { ack, bytes })
    }

    /// Returns `true` if `node_key` signed the received bytes. The caller must pass the current
    /// node key of the account to which it sent the messages; the ack itself does not name it.
    pub fn verify(&self, node_key: &NodePublicKey) -> bool {
        verify_signed(node_key, ACK_DOMAIN, &self.bytes)
    }
}
