//! What tests make in the name of nodes that do not run: bindings, records and steps of admission.

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::admission::NONCE_BYTES;
use p2p_node_wire::envelope::{Connect, Handshake, Side};
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SignedBinding};
use p2p_node_wire::record::Record;

/// The network of forged nodes.
const NETWORK: &str = "dev";

/// The nonce of a forged node in each of its exchanges.
pub const NONCE: [u8; NONCE_BYTES] = [0x4e; NONCE_BYTES];

/// Returns a binding of generation 0 that is valid from this time on, in seconds since 1970.
pub fn plain_binding(agent: &AgentKey, node: &NodeKey, not_before: u64) -> Binding {
    Binding {
        account: agent.address(),
        chain_id: 0,
        peer_id: node.peer_id(),
        node_key: node.public(),
        network: NETWORK.to_owned(),
        generation: 0,
        not_before,
        not_after: not_before + BINDING_LIFE_SECS,
    }
}

/// Returns a record of a full node without addresses, key, tags and claim, that is valid for an hour from this
/// time on, in ms since 1970.
pub fn plain_record(binding: SignedBinding, issued_at_ms: u64) -> Record {
    Record {
        network: NETWORK.to_owned(),
        binding,
        seq: issued_at_ms,
        issued_at_ms,
        expires_at_ms: issued_at_ms + 3_600_000,
        addrs: Vec::new(),
        kem: None,
        role: Role::Full,
        name: String::new(),
        capabilities: Vec::new(),
        topics: Vec::new(),
        topic_hashes: Vec::new(),
        claim: None,
    }
}

/// Returns what a full node with this record says of itself.
pub fn introduction(record: Bytes) -> Connect {
    let nonce = Bytes::from_static(&NONCE);
    Connect { network: NETWORK.to_owned(), record, nonce, ..Connect::default() }
}

/// Returns the signature of a full node at one end of its exchange with a peer that has this nonce. A test
/// may change the exchange before.
pub fn signature(
    side: Side,
    key: &NodeKey,
    peer: &PeerId,
    nonce: &[u8],
    change: impl FnOnce(&mut Handshake<'_>),
) -> Bytes {
    let own = key.peer_id();
    let (initiator, responder, initiator_nonce, responder_nonce) = match side {
        Side::Initiator => (&own, peer, &NONCE[..], nonce),
        Side::Responder => (peer, &own, nonce, &NONCE[..]),
    };
    let mut exchange = Handshake { network: NETWORK, initiator, responder, initiator_nonce, responder_nonce };
    change(&mut exchange);
    exchange.sign(side, Role::Full, key)
}
