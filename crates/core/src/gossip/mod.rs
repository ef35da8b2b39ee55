//! Gossip: broadcasts on topics, and the rate and memory limits of gossip.

pub(crate) mod admission;
pub mod announcements;
pub mod broadcast_queue;
pub(crate) mod broadcasting;
pub mod gossip_budget;
pub mod network_view;
pub mod node_status;
pub(crate) mod on_gossip;
pub(crate) mod own_pace;
pub mod pacer;
pub(crate) mod status;
pub(crate) mod subscriptions;
pub mod topic_traffic;

use std::collections::BTreeSet;

use p2p_node_wire::message_id::StreamNamespace;
use p2p_node_wire::time::Instant;

use crate::MAX_SUBSCRIPTIONS;
use crate::gate::address_scope::AddressScope;
use crate::peers::Peers;
use crate::timers::TimerTable;
use crate::usage::Usage;
use broadcast_queue::BroadcastQueue;
use gossip_budget::GossipBudget;
use network_view::NetworkView;
use own_pace::OwnPace;
use pacer::Pacer;
use subscriptions::Subscriptions;
use topic_traffic::{MAX_COUNTED_TOPICS, TopicTraffic};

/// The state of broadcasts and gossip.
#[derive(Debug)]
pub(crate) struct Gossip {
    /// Topics to which clients subscribed.
    pub(crate) subscribed: Subscriptions,
    /// Broadcasts that wait for subscribers.
    pub(crate) broadcasts: BroadcastQueue,
    /// Limits the rate of publishing.
    pub(crate) pacer: Pacer,
    /// Keeps own broadcasts within the limits of others.
    pub(crate) pace: OwnPace,
    /// Limits the memory of forwarded gossip.
    pub(crate) budget: GossipBudget,
    /// `true` if the node subscribes to announcements.
    pub(crate) follows_announcements: bool,
    /// `true` if the node keeps the statuses of others.
    pub(crate) observes: bool,
    /// The statuses of others.
    pub(crate) view: NetworkView,
    /// The broadcasts by topic.
    pub(crate) traffic: TopicTraffic,
    /// Time of the next status line in the log.
    pub(crate) status_line_due: Instant,
    /// Time of the next `node-status`.
    pub(crate) status_due: Instant,
}

impl Gossip {
    pub(crate) fn new(origin: StreamNamespace, limits_apply: bool, scope: AddressScope) -> Self {
        Gossip {
            subscribed: Subscriptions::default(),
            broadcasts: BroadcastQueue::new(origin),
            pacer: Pacer::default(),
            pace: OwnPace::new(limits_apply, scope),
            budget: GossipBudget::default(),
            follows_announcements: false,
            observes: false,
            view: NetworkView::default(),
            traffic: TopicTraffic::default(),
            status_line_due: Instant::MAX,
            status_due: Instant::MAX,
        }
    }

    /// Returns the topics that need connected subscribers: those of the clients' subscriptions, and
    /// those with queued broadcasts.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let mut topics = self.subscribed.topics();
        topics.extend(self.broadcasts.topics_with_work().into_iter().map(|(topic, _)| topic));
        topics
    }

    /// Enters the timers of broadcasts.
    pub(crate) fn timers(&self, timers: &mut TimerTable, peers: &Peers) {
        let sendable = self.sendable_topics(peers).into_iter().map(|(_, not_before)| not_before).min();
        timers.enter("pacer", sendable.map(|not_before| not_before.max(self.pacer.ready_at())));
        timers.enter("pace of broadcasts", self.pace.wakeup());
        timers.enter("broadcasts", self.broadcasts.next_deadline());
        for (name, due) in [("node-status", self.status_due), ("status line", self.status_line_due)] {
            timers.enter(name, Some(due).filter(|due| *due < Instant::MAX));
        }
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let (counted, meshes) = self.traffic.lens();
        [
            (
                "bytes of recent gossip",
                self.budget.bytes(),
                gossip_budget::MAX_RETAINED_BYTES
                    + gossip_budget::RESERVED_BYTES
                    + pacer::FASTEST as usize * (gossip_budget::RETENTION_SECS as usize + 1),
            ),
            ("neighbours with recent gossip", self.budget.neighbours(), gossip_budget::MAX_NEIGHBOURS),
            ("paced topics", self.pace.topics(), broadcast_queue::MAX_TOPICS),
            ("counted topics", counted, MAX_COUNTED_TOPICS),
            ("meshes", meshes, MAX_COUNTED_TOPICS),
            ("statuses of nodes", self.view.len(), network_view::MAX_VIEW_NODES),
            ("subscribed topics", self.subscribed.len(), MAX_SUBSCRIPTIONS),
            ("topics with broadcasts", self.broadcasts.len(), broadcast_queue::MAX_TOPICS),
            (
                "queued broadcasts",
                self.broadcasts.queued(),
                broadcast_queue::MAX_TOPICS * broadcast_queue::TOPIC_QUEUE_MESSAGES,
            ),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

#[cfg(test)]
mod tests;
