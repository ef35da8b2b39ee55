//! Which nodes follow the announcements. In a small network every node does, so that every node
//! knows every agent. Each announcement reaches all that follow, so in a large network this would
//! cost each node more with every other agent: there only bootstrap nodes follow, and the others ask
//! for the agents that they need.

use p2p_node_protocol::Role;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::peers::Peers;
use crate::topics::ANNOUNCEMENTS;

/// Largest number of agents up to which every node follows the announcements. Our choice: each agent
/// costs 0.25 ms for the check of its record, and the flood of a start some messages more, so a start of
/// the network costs each node 10 ms.
pub const MAX_FOLLOWED_AGENTS: usize = 32;
/// Number of agents at which a node follows again: our choice, far enough below for a network at the
/// limit.
const RESUME_AT: usize = MAX_FOLLOWED_AGENTS / 2;
/// Number of agents that only their records show, which count as much as one that nobody can invent: our
/// choice. A few invented agents make nobody stop, and a network without bootstrap nodes stops at a few
/// hundred agents. Without limits, every agent counts.
const RECORDS_FOR_ONE: usize = 8;

impl Gossip {
    /// Begins or ends to follow the announcements when the network has shrunk or grown.
    pub(crate) fn follow_announcements(&mut self, directory: &mut Directory, peers: &mut Peers, cx: &mut Cx) {
        let met = peers.met_agents(directory);
        let others = directory.records.len().saturating_sub(met);
        let agents = met + if self.pace.is_limited() { others / RECORDS_FOR_ONE } else { others };
        let limit = if self.follows_announcements { MAX_FOLLOWED_AGENTS } else { RESUME_AT };
        let follows = match cx.identity.role {
            Role::Bootstrap => true,
            // A light node serves nothing, so it carries no announcements.
            Role::Light => false,
            Role::Full | Role::Unknown => agents <= limit,
        };
        if follows == self.follows_announcements {
            // A node that hears of many agents cannot tell if somebody invented them.
            if cx.identity.role != Role::Bootstrap && follows && directory.records.len() > limit {
                peers.ask_network_size(cx);
            }
            return;
        }
        self.follows_announcements = follows;
        directory.is_partial = !follows;
        let topic = ANNOUNCEMENTS.to_owned();
        cx.network(match follows {
            true => NetworkCommand::Subscribe { topic },
            false => NetworkCommand::Unsubscribe { topic },
        });
    }
}
