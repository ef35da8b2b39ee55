//! What a frame on a topic says of its author, read without decoding or verifying the frame. So a node
//! that drops the frame anyway spends next to nothing on it.

use alloy_primitives::Address;
use libp2p_identity::PeerId;

use crate::identity::NodePublicKey;
use crate::identity::keys::{SIGNATURE_BYTES, claimed_peer_id};
use crate::strict::next_field;

/// Numbers of the fields of a frame's body.
const BINDING: u32 = 5;
const CREATED_AT_MS: u32 = 8;
/// Numbers of the fields of a binding.
const ACCOUNT: u32 = 1;
const NODE_KEY: u32 = 3;

/// The author that a frame names. Anybody can write a frame that names anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameClaim {
    /// The account of the binding.
    pub account: Address,
    /// The PeerId of the node key of the binding. The key may be invalid.
    pub peer_id: PeerId,
    /// Time at which the frame was made, in ms since 1970.
    pub created_at_ms: u64,
}

impl FrameClaim {
    /// Reads the claim of signature ‖ body. Returns `None` if the frame is malformed; the frame may be
    /// malformed also if there is a claim.
    pub fn read(signed: &[u8]) -> Option<Self> {
        let mut body = signed.get(SIGNATURE_BYTES..)?;
        let mut author = None;
        // The fields of the claim come before the payload.
        while !body.is_empty() {
            let field = next_field(&mut body).ok()?;
            match field.number {
                BINDING => author = Some(author_of(field.content)?),
                CREATED_AT_MS => {
                    let (account, peer_id) = author?;
                    return Some(FrameClaim { account, peer_id, created_at_ms: field.value });
                }
                _ => {}
            }
        }
        None
    }
}

fn author_of(mut binding: &[u8]) -> Option<(Address, PeerId)> {
    let mut account = None;
    while !binding.is_empty() {
        let field = next_field(&mut binding).ok()?;
        match field.number {
            ACCOUNT => account = Some(Address::try_from(field.content).ok()?),
            NODE_KEY => {
                let key: NodePublicKey = field.content.try_into().ok()?;
                return Some((account?, claimed_peer_id(&key)?));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::codec::{Batch, FrameBody, Payload, Scope};
    use crate::envelope::sign_frame;
    use crate::identity::testing::{NOW_SECS, agent, binding, node};
    use crate::strict::WIRE_VERSION;

    #[test]
    fn claim_is_read_from_every_frame_and_from_no_part_of_it_before_the_payload() {
        let body = FrameBody {
            version: WIRE_VERSION,
            network: "dev".to_owned(),
            scope: Some(Scope::Topic("builds".to_owned())),
            binding: agent().bind(binding()).unwrap().encode(),
            boot: 1,
            counter: 1,
            created_at_ms: NOW_SECS * 1000,
            payload: Some(Payload::Plain(Batch::default())),
        };
        let signed = sign_frame(&body, &node());
        let account = agent().address();
        let claim = FrameClaim { account, peer_id: node().peer_id(), created_at_ms: NOW_SECS * 1000 };
        assert_eq!(FrameClaim::read(&signed), Some(claim));
        let without_payload = sign_frame(&FrameBody { payload: None, ..body }, &node());
        assert_eq!(FrameClaim::read(&without_payload), Some(claim));
        for end in 0..without_payload.len() {
            assert_eq!(FrameClaim::read(&without_payload[..end]), None, "cut at {end}");
        }
    }
}
