//! Candidates: nodes that this node may connect to, from any source.

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_wire::record::SignedRecord;

use crate::source::KnownPeer;

/// The source of a candidate. It decides how long the node tries to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CandidateSource {
    /// The configuration or the `connect` command. The node dials such a peer for ever.
    Bootstrap,
    /// A verified record of an agent. The node dials such a peer when it needs the connection.
    Record,
    /// The rendezvous directory of this user on this machine. The node dials such a peer once.
    Rendezvous,
    /// The peer book. The node dials such a peer while it has few connections.
    PeerBook,
    /// A DNS seed. The node dials such a peer while it has few connections.
    DnsSeed,
    /// mDNS. The node dials such a peer while it has too few peers.
    Mdns,
}

/// A node that this node may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The node.
    pub(crate) peer: PeerId,
    /// The addresses of the node.
    pub(crate) addrs: Vec<Multiaddr>,
    /// The source of the candidate.
    pub(crate) source: CandidateSource,
}

impl Candidate {
    /// Returns the candidate that a configuration or a `connect` names.
    pub(crate) fn bootstrap(peer: PeerId, addr: Multiaddr) -> Self {
        Candidate { peer, addrs: vec![addr], source: CandidateSource::Bootstrap }
    }
}

impl From<&KnownPeer> for Candidate {
    fn from(known: &KnownPeer) -> Self {
        Candidate { peer: known.peer, addrs: known.addrs.clone(), source: CandidateSource::PeerBook }
    }
}

impl From<&SignedRecord> for Candidate {
    fn from(record: &SignedRecord) -> Self {
        let (peer, addrs) = (record.peer_id(), record.record.addrs.clone());
        Candidate { peer, addrs, source: CandidateSource::Record }
    }
}
