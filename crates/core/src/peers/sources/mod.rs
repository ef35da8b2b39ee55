//! Sources of peers. Each source yields candidates, and this component decides which of them the
//! node dials, and when.

pub(crate) mod rendezvous;

use crate::cx::Cx;
use crate::peers::Peers;
use crate::source::SourceEvent;

impl Peers {
    /// Handles a report of a source.
    pub(crate) fn on_source(&mut self, event: SourceEvent, cx: &mut Cx) {
        match event {
            SourceEvent::LocalNodes(nodes) => self.on_local_nodes(nodes, cx),
            SourceEvent::LocalAgentsAdded(agents) => rendezvous::on_agents_added(agents, cx),
        }
    }

    /// Asks each source whose time has come.
    pub(crate) fn poll_sources(&mut self, cx: &mut Cx) {
        self.dial_bootstrap_peers(cx);
        self.sample_local_nodes(cx);
    }
}
