//! Sources of peers outside of libp2p: what the core asks of them, and what they report. Every
//! source yields candidates, and the core decides which of them the node dials.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::cx::Cx;
use crate::effect::Effect;

/// Largest number of nodes of one agent that a lookup reads from the rendezvous directory: our
/// choice. An agent with several nodes has two or three of them.
const MAX_NODES_PER_AGENT: usize = 4;

/// A node that runs on this machine for the same user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNode {
    /// The agent of the node. Only a record of the agent proves it.
    pub agent: Address,
    /// The PeerId of the node.
    pub peer: PeerId,
    /// The addresses of the node, without `/p2p/`.
    pub addrs: Vec<Multiaddr>,
}

/// A peer of the peer book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// The peer.
    pub peer: PeerId,
    /// Its addresses, without `/p2p/`. Those that worked come first.
    pub addrs: Vec<Multiaddr>,
    /// When the node was last connected to the peer, in ms since 1970.
    pub last_seen_ms: u64,
    /// `true` if the peer served the DHT.
    pub serves_dht: bool,
    /// `true` for an anchor: of the peers that this node dialled, one of those that were connected longest.
    pub is_anchor: bool,
}

/// A peer that a DNS seed names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The peer, if the seed says which.
    pub peer: Option<PeerId>,
    /// Its address, without `/p2p/`.
    pub addr: Multiaddr,
    /// `true` if the seed says that the peer is a bootstrap node.
    pub is_bootstrap: bool,
}

/// Bootstrap peers by the name of their region.
pub type Regions = BTreeMap<String, Vec<(PeerId, Multiaddr)>>;

/// The peers that a node knows when it starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownPeers {
    /// The bootstrap peers of the configuration.
    pub(crate) bootstraps: Vec<(PeerId, Multiaddr)>,
    /// The peer book. `None` without a data directory.
    pub(crate) book: Option<Vec<KnownPeer>>,
    /// The regions of the region file.
    pub(crate) regions: Regions,
    /// Names of the preferred regions.
    pub(crate) preferred_regions: Vec<String>,
}

/// A request to a source of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceCommand {
    /// Publishes this node in the rendezvous directory, or removes it if it has no addresses.
    PublishLocalNode(LocalNode),
    /// Reads the local nodes of an agent. Answered by `LocalNodes`.
    FindLocalAgent {
        /// The agent.
        agent: Address,
        /// Largest number of nodes in the answer.
        max: usize,
    },
    /// Reads some local nodes, chosen at random. Answered by `LocalNodes`.
    SampleLocalNodes {
        /// Seed of the choice.
        seed: u64,
        /// Largest number of nodes in the answer.
        max: usize,
    },
    /// Writes the peer book, replacing the earlier one.
    WritePeerBook(Vec<KnownPeer>),
    /// Resolves the DNS seeds. Answered by `Seeds` or `SeedsFailed`.
    QueryDnsSeeds,
}

/// A report of a source of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Local nodes that were read from the rendezvous directory.
    LocalNodes(Vec<LocalNode>),
    /// Agents whose nodes appeared in the rendezvous directory.
    LocalAgentsAdded(Vec<Address>),
    /// The region file has new content.
    Regions(Regions),
    /// The peers of the DNS seeds.
    Seeds(Vec<Seed>),
    /// No DNS seed could be resolved.
    SeedsFailed {
        /// Why, for people.
        reason: String,
    },
    /// A source cannot be used at present.
    Failed {
        /// What failed and why, for people.
        reason: String,
    },
    /// A dial of this node led to a connection.
    Dialled {
        /// The peer.
        peer: PeerId,
        /// The address, without `/p2p/`.
        addr: Multiaddr,
    },
}

impl Cx {
    /// Sends a request to a source of peers.
    pub(crate) fn source(&mut self, command: SourceCommand) {
        self.effects.push_back(Effect::Source(command));
    }

    /// Looks for nodes of an agent in the rendezvous directory, if there is one.
    pub(crate) fn find_local_agent(&mut self, agent: Address) {
        if self.identity.rendezvous && agent != self.identity.address {
            self.source(SourceCommand::FindLocalAgent { agent, max: MAX_NODES_PER_AGENT });
        }
    }
}
