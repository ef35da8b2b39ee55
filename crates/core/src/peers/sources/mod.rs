//! Sources of peers. Each source yields candidates, and this component decides which of them the
//! node dials, and when.

pub(crate) mod dns_seeds;
pub(crate) mod peer_book;
pub(crate) mod regions;
pub(crate) mod rendezvous;
pub(crate) mod schedule;

use p2p_node_protocol::Level;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::peers::Peers;
use crate::peers::candidate::Candidate;
use crate::peers::sources::peer_book::PeerBook;
use crate::source::{KnownPeers, SourceEvent};

impl Peers {
    /// Takes over the peers that the node knows when it starts.
    pub(crate) fn add_known(&mut self, known: KnownPeers, cx: &mut Cx) {
        self.book = PeerBook::new(known.book);
        self.prefer_regions(known.preferred_regions);
        for (peer, addr) in known.bootstraps {
            self.add_candidate(Candidate::bootstrap(peer, addr), cx);
        }
        if !known.regions.is_empty() {
            self.on_regions(known.regions, cx);
        }
    }

    /// Returns `true` if the node has fewer connections than it seeks, so that it asks its sources.
    pub(crate) fn has_few(&self) -> bool {
        self.table.connections_len() < self.limits.min
    }

    /// Asks the sources soon, because a connection ended.
    pub(crate) fn hasten_sources(&mut self) {
        self.samples.hasten();
        self.book.hasten();
        self.seeds.hasten();
    }

    /// Handles a report of a source.
    pub(crate) fn on_source(&mut self, event: SourceEvent, cx: &mut Cx) {
        match event {
            SourceEvent::LocalNodes(nodes) => self.on_local_nodes(nodes, cx),
            SourceEvent::LocalAgentsAdded(agents) => rendezvous::on_agents_added(agents, cx),
            SourceEvent::Regions(regions) => self.on_regions(regions, cx),
            SourceEvent::Failed { reason } => cx.log(Level::Warn, "discovery", reason),
            SourceEvent::Seeds(seeds) => self.on_seeds(seeds, cx),
            SourceEvent::SeedsFailed { reason } => self.on_seeds_failed(reason, cx),
            SourceEvent::Dialled { peer, addr } => {
                self.seeds.on_dialled(peer, &addr);
                self.on_dialled(peer, addr, cx);
            }
        }
    }

    /// Asks each source whose time has come.
    pub(crate) fn poll_sources(&mut self, directory: &Directory, cx: &mut Cx) {
        self.dial_anchors(cx);
        self.poll_regions(cx);
        self.dial_bootstrap_peers(cx);
        self.sample_local_nodes(cx);
        self.query_seeds(cx);
        self.poll_book(directory, cx);
    }
}
