//! The steps of admission: how two connected nodes prove who they are, before either uses what the
//! other sends.
//!
//! The initiator sends `Connect` and receives `Challenge`, then sends `SignedResponse` and receives
//! `Accepted`. Each node signs both nonces, so neither signature is of use in another exchange.

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Role;
use prost::{Message as ProtoMessage, Oneof};

use super::limits::{MAX_ADMISSION_BYTES, filled, is_code, is_reason};
use crate::identity::NodeKey;
use crate::identity::binding::is_network_name;
use crate::identity::keys::{SIGNATURE_BYTES, length_prefixed, node_key_of, verify};
use crate::record::{MAX_RECORD_BYTES, WireRole};
use crate::strict::{DecodeError, Shape, WIRE_VERSION, Wire, ensure, known_version, listed};

/// Domain of the signatures of admission.
pub const ADMISSION_DOMAIN: &str = "p2p-node/admission/v1";

/// Length of a nonce, in bytes: 32 random bytes never repeat.
pub const NONCE_BYTES: usize = 32;

/// One step of admission.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Admission {
    /// [`WIRE_VERSION`](super::WIRE_VERSION).
    #[prost(uint32, tag = 1)]
    pub version: u32,
    /// The step.
    #[prost(oneof = "Step", tags = "2, 3, 4, 5, 6")]
    pub step: Option<Step>,
}

/// The steps.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Step {
    /// The initiator asks to be admitted.
    #[prost(message, tag = "2")]
    Connect(Connect),
    /// The responder proves who it is and asks for the same.
    #[prost(message, tag = "3")]
    Challenge(Challenge),
    /// The initiator admits the responder and proves who it is.
    #[prost(message, tag = "4")]
    SignedResponse(SignedResponse),
    /// The responder admits the initiator.
    #[prost(message, tag = "5")]
    Accepted(Accepted),
    /// One of the two does not admit the other. Ends the exchange.
    #[prost(message, tag = "6")]
    Rejected(Rejected),
}

/// Who a node says it is, and its nonce.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Connect {
    /// The network of the node.
    #[prost(string, tag = 1)]
    pub network: String,
    /// The node's own record, encoded.
    #[prost(bytes = "bytes", tag = 2)]
    pub record: Bytes,
    /// Random for each exchange.
    #[prost(bytes = "bytes", tag = 3)]
    pub nonce: Bytes,
    /// The role of the node, as in its record.
    #[prost(enumeration = "WireRole", tag = 4)]
    pub role: i32,
    /// Wall clock of the node, in ms since 1970. 0 means not stated.
    #[prost(uint64, tag = 5)]
    pub time_ms: u64,
    /// Name and version of the program, for people. May be empty.
    #[prost(string, tag = 6)]
    pub agent_version: String,
}

/// The same of the responder, with its signature.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Challenge {
    /// Who the responder says it is, and its nonce.
    #[prost(message, optional, tag = 1)]
    pub responder: Option<Connect>,
    /// Signature of the responder over the exchange.
    #[prost(bytes = "bytes", tag = 2)]
    pub signature: Bytes,
}

/// The proof of the initiator.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct SignedResponse {
    /// Signature of the initiator over the exchange.
    #[prost(bytes = "bytes", tag = 1)]
    pub signature: Bytes,
}

/// The responder admits the initiator.
#[derive(Clone, Copy, PartialEq, Eq, ProtoMessage)]
pub struct Accepted {}

/// A node does not admit its peer.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Rejected {
    /// Stable code.
    #[prost(string, tag = 1)]
    pub code: String,
    /// Reason for people. May be empty.
    #[prost(string, tag = 2)]
    pub reason: String,
    /// Delay until another attempt makes sense, in ms. 0 means that none does for now.
    #[prost(uint64, tag = 3)]
    pub retry_after_ms: u64,
    /// Wall clock of the node, in ms since 1970, if the times of the record are the reason. 0 means not
    /// stated.
    #[prost(uint64, tag = 4)]
    pub time_ms: u64,
}

impl Admission {
    /// Returns the message with this step.
    pub fn of(step: Step) -> Self {
        Admission { version: WIRE_VERSION, step: Some(step) }
    }

    /// Returns the encoded message with this step.
    pub fn encode(step: Step) -> Bytes {
        Admission::of(step).encode_to_vec().into()
    }
}

impl Connect {
    /// Returns the role of the node.
    pub fn stated_role(&self) -> Role {
        self.role().into()
    }
}

impl Wire for Admission {
    const MAX_BYTES: usize = MAX_ADMISSION_BYTES;
    const SHAPE: Shape = Shape {
        fields: 6,
        messages: &[
            (2, &Shape::flat(6)),
            (3, &Shape { fields: 2, messages: &[(1, &Shape::flat(6))] }),
            (4, &Shape::flat(1)),
            (5, &Shape::flat(0)),
            (6, &Shape::flat(4)),
        ],
    };
    const HAS_VERSION: bool = true;

    fn check(&self) -> Result<(), DecodeError> {
        known_version(self.version)?;
        match &self.step {
            Some(Step::Connect(connect)) => check_connect(connect),
            Some(Step::Challenge(challenge)) => {
                check_connect(challenge.responder.as_ref().ok_or(DecodeError::Field("responder"))?)?;
                ensure(challenge.signature.len() == SIGNATURE_BYTES, "signature")
            }
            Some(Step::SignedResponse(response)) => {
                ensure(response.signature.len() == SIGNATURE_BYTES, "signature")
            }
            Some(Step::Accepted(_)) => Ok(()),
            Some(Step::Rejected(rejected)) => {
                ensure(is_code(&rejected.code), "code")?;
                ensure(is_reason(&rejected.reason), "reason")
            }
            None => Err(DecodeError::Field("step")),
        }
    }
}

fn check_connect(connect: &Connect) -> Result<(), DecodeError> {
    ensure(is_network_name(&connect.network), "network")?;
    ensure(filled(connect.record.len(), MAX_RECORD_BYTES), "record")?;
    ensure(connect.nonce.len() == NONCE_BYTES, "nonce")?;
    listed(WireRole::is_valid(connect.role))?;
    ensure(is_reason(&connect.agent_version), "agent_version")
}

/// The end of an exchange that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The node that sent `Connect`.
    Initiator,
    /// The node that sent `Challenge`.
    Responder,
}

/// What both signatures of an exchange cover, beside the role of the signer.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// The network.
    pub network: &'a str,
    /// The node that sent `Connect`.
    pub initiator: &'a PeerId,
    /// The node that sent `Challenge`.
    pub responder: &'a PeerId,
    /// The nonce of `Connect`.
    pub initiator_nonce: &'a [u8],
    /// The nonce of `Challenge`.
    pub responder_nonce: &'a [u8],
}

impl Handshake<'_> {
    /// Returns the signed body: a list of fields, each after its length.
    fn body(&self, side: Side, role: Role) -> Vec<u8> {
        let side: &[u8] = match side {
            Side::Initiator => b"initiator",
            Side::Responder => b"responder",
        };
        length_prefixed(&[
            self.network.as_bytes(),
            side,
            &self.initiator.to_bytes(),
            &self.responder.to_bytes(),
            self.initiator_nonce,
            self.responder_nonce,
            &[WireRole::from(role) as u8],
        ])
    }

    /// Returns the signature of one end.
    pub fn sign(&self, side: Side, role: Role, key: &NodeKey) -> Bytes {
        Bytes::copy_from_slice(&key.sign(ADMISSION_DOMAIN, &self.body(side, role)))
    }

    /// Returns `true` if the node at this end signed this exchange with this role.
    pub fn is_signed(&self, side: Side, role: Role, signature: &[u8]) -> bool {
        let signer = match side {
            Side::Initiator => self.initiator,
            Side::Responder => self.responder,
        };
        node_key_of(signer)
            .is_some_and(|key| verify(&key, ADMISSION_DOMAIN, &self.body(side, role), signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [NodeKey; 2] {
        [NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32])]
    }

    #[test]
    fn signature_is_valid_for_one_exchange_end_and_role() {
        let [a, b] = keys();
        let (one, other) = (a.peer_id(), b.peer_id());
        let exchange = Handshake {
            network: "dev",
            initiator: &one,
            responder: &other,
            initiator_nonce: &[1; NONCE_BYTES],
            responder_nonce: &[2; NONCE_BYTES],
        };
        let signature = exchange.sign(Side::Initiator, Role::Full, &a);
        assert!(exchange.is_signed(Side::Initiator, Role::Full, &signature));
        let accepted = |exchange: Handshake<'_>, side, role| exchange.is_signed(side, role, &signature);
        assert!(!accepted(exchange, Side::Initiator, Role::Bootstrap));
        assert!(!accepted(exchange, Side::Responder, Role::Full));
        let third = NodeKey::from_seed([3; 32]).peer_id();
        for changed in [
            Handshake { network: "main", ..exchange },
            Handshake { initiator: &third, ..exchange },
            Handshake { responder: &third, ..exchange },
            Handshake { initiator_nonce: &[3; NONCE_BYTES], ..exchange },
            Handshake { responder_nonce: &[3; NONCE_BYTES], ..exchange },
            Handshake { initiator_nonce: &[2; NONCE_BYTES], responder_nonce: &[1; NONCE_BYTES], ..exchange },
        ] {
            assert!(!accepted(changed, Side::Initiator, Role::Full), "{changed:?}");
        }
        let answer = exchange.sign(Side::Responder, Role::Full, &b);
        assert!(exchange.is_signed(Side::Responder, Role::Full, &answer));
        let swapped = Handshake { initiator: &other, responder: &one, ..exchange };
        assert!(!swapped.is_signed(Side::Initiator, Role::Full, &answer), "no signature serves both ends");
        let of_third = Handshake { initiator: &third, ..exchange };
        assert!(!of_third.is_signed(Side::Responder, Role::Full, &answer), "nor two initiators");
    }

    #[test]
    fn roles_on_the_wire_are_those_of_records() {
        for (role, number) in [(Role::Full, 0), (Role::Bootstrap, 1), (Role::Light, 2)] {
            let connect = Connect { role: WireRole::from(role).into(), ..Connect::default() };
            assert_eq!((connect.role, connect.stated_role()), (number, role));
        }
    }
}
