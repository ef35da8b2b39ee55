//! The `node-status` topic: the status that a node publishes for observers of the network, and those of
//! others. Also the status line in the log.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level, ReportMetrics, Role};
use p2p_node_wire::envelope::{self, Batch, Payload, Scope};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::gossip::node_status::{NodeStatus, StatusError};
use crate::peers::Peers;
use crate::report::Summary;
use crate::topics::{NODE_TOPICS, STATUS};

/// First and shortest period of `node-status`: our choice.
const STATUS_PERIOD: Duration = Duration::from_secs(60);
/// Part of the period of `node-status` for each known node, so that the whole network sends at most
/// two a second at any size.
const STATUS_PER_NODE: Duration = Duration::from_millis(500);
/// Kind of the message with a status.
const STATUS_KIND: &str = "status";
/// Period of the status line, from CHORUS, whose nodes print their peers every 30 s.
const STATUS_LINE_PERIOD: Duration = Duration::from_secs(30);

impl Gossip {
    /// Subscribes to the topics of this node, and schedules the first status. A status interests
    /// observers alone: bootstrap nodes forward it, and those keep it whose parent subscribes or whose
    /// operator looks at the network.
    pub(crate) fn on_ready(&mut self, cx: &mut Cx) {
        self.status_due = cx.now.mono + cx.jitter.spread(STATUS_PERIOD);
        self.status_line_due = cx.now.mono + STATUS_LINE_PERIOD;
        self.follows_announcements = true;
        self.observes |= cx.identity.observes;
        let wants_status = cx.identity.role == Role::Bootstrap || cx.identity.observes;
        for topic in NODE_TOPICS.into_iter().filter(|topic| *topic != STATUS || wants_status) {
            cx.network(NetworkCommand::Subscribe { topic: topic.to_owned() });
        }
    }

    /// Returns what is due, and schedules the next turns. Nobody gets a status while no connected peer wants
    /// it.
    pub(crate) fn take_status_turn(
        &mut self,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) -> StatusTurn {
        let now = cx.now.mono;
        let mut turn = StatusTurn::default();
        if now >= self.status_due {
            let period = STATUS_PERIOD.max(STATUS_PER_NODE * peers.met_agents(directory) as u32);
            self.status_due = now + cx.jitter.spread(period);
            turn.publishes = peers.subscribers(STATUS) > 0;
        }
        if now >= self.status_line_due {
            self.status_line_due = now + STATUS_LINE_PERIOD;
            turn.logs = true;
        }
        turn
    }

    /// Takes over the status of another node, if this node observes the network.
    pub(crate) fn on_status(&mut self, author: PeerId, batch: &Batch, cx: &mut Cx) {
        if !self.observes {
            return;
        }
        let Some(message) = batch.messages.iter().rfind(|message| message.kind == STATUS_KIND) else {
            return;
        };
        match NodeStatus::decode(&message.data) {
            Ok(status) => {
                let evicted = self.view.heard(author, status, cx.now);
                cx.stats.count(Counter::StatusesReceived);
                cx.stats.add(Counter::StatusesEvicted, evicted);
            }
            Err(StatusError::LaterVersion) => cx.stats.count(Counter::StatusesOfLaterVersions),
            Err(StatusError::Malformed) => cx.stats.count(Counter::StatusesRefused),
        }
    }
}

/// What is due of the status.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StatusTurn {
    /// The node publishes its status.
    publishes: bool,
    /// The node writes its status line.
    logs: bool,
}

impl StatusTurn {
    /// Returns `true` if anything is due.
    pub(crate) fn is_any(self) -> bool {
        self.publishes || self.logs
    }

    /// Returns `true` if the node publishes its status.
    #[cfg(test)]
    pub(crate) fn publishes(self) -> bool {
        self.publishes
    }

    /// Publishes the status and writes the status line, as far as they are due.
    pub(crate) fn tell(self, summary: &Summary, cx: &mut Cx) {
        if self.publishes {
            publish_status(&summary.status, cx);
        }
        if self.logs {
            log_status(&summary.metrics, summary.status.peers, cx);
        }
    }
}

/// Publishes the status of this node.
fn publish_status(status: &NodeStatus, cx: &mut Cx) {
    let message = envelope::Message {
        stream: Bytes::copy_from_slice(&cx.identity.status_stream),
        seq: cx.frame_numbers.upcoming(),
        kind: STATUS_KIND.to_owned(),
        priority: envelope::Priority::Low.into(),
        sent_at_ms: cx.now.unix_ms,
        data: status.encode().into(),
        ..envelope::Message::default()
    };
    let batch = Batch { messages: vec![message], acks: Vec::new() };
    let data = cx.signed_frame(Scope::Topic(STATUS.to_owned()), Payload::Plain(batch));
    let token = cx.token();
    cx.network(NetworkCommand::Publish { token, topic: STATUS.to_owned(), data });
}

/// Writes the status line.
fn log_status(metrics: &ReportMetrics, connected: u64, cx: &mut Cx) {
    let latency = metrics.latency_ms.map_or("no latency yet".to_owned(), |ms| format!("latency {ms:.0} ms"));
    let message = format!(
        "{connected} connected of {} known peers, {latency}, health {:.0} of 100",
        metrics.total_peers, metrics.health_score
    );
    cx.log(Level::Info, "status", message);
}
