//! Broadcasts on topics, and the pace and budget of gossip.

pub mod broadcast_queue;
pub mod gossip_budget;
pub(crate) mod on_gossip;
pub mod pacer;
pub(crate) mod well_known_topics;

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_node_wire::message_id::Origin;

use broadcast_queue::Topics;
use gossip_budget::Recent;
use pacer::Pacer;

/// Broadcasts, and what gossip may cost.
#[derive(Debug)]
pub(crate) struct Gossip {
    /// Topics that the parent subscribed to.
    pub(crate) subscribed: BTreeSet<String>,
    /// Broadcasts that wait for subscribers.
    pub(crate) broadcasts: Topics,
    /// How fast this node publishes.
    pub(crate) pacer: Pacer,
    /// How much gossip the node looks at.
    pub(crate) budget: Recent,
    /// When the node tells others how it is.
    pub(crate) status_due: Duration,
}

impl Gossip {
    pub(crate) fn new(origin: Origin) -> Self {
        Gossip {
            subscribed: BTreeSet::new(),
            broadcasts: Topics::new(origin),
            pacer: Pacer::default(),
            budget: Recent::default(),
            status_due: Duration::MAX,
        }
    }
}
