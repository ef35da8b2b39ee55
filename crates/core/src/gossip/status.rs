//! The `node-status` topic: the status that a node publishes for observers of the network.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{self, Batch, Payload, Scope};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::peers::Peers;
use crate::topics::{NODE_TOPICS, STATUS};

/// First and shortest period of `node-status`: our choice.
const STATUS_PERIOD: Duration = Duration::from_secs(60);
/// Part of the period of `node-status` for each known node, so that the whole network sends at most
/// two a second at any size.
const STATUS_PER_NODE: Duration = Duration::from_millis(500);

impl Gossip {
    /// Subscribes to the topics of this node, and schedules the first status. A status interests
    /// observers alone: bootstrap nodes forward it, and those whose parent subscribes.
    pub(crate) fn on_ready(&mut self, cx: &mut Cx) {
        self.status_due = cx.now.mono + cx.jitter.spread(STATUS_PERIOD);
        self.follows_announcements = true;
        let relays = cx.identity.role == Role::Bootstrap;
        for topic in NODE_TOPICS.into_iter().filter(|topic| *topic != STATUS || relays) {
            cx.network(NetworkCommand::Subscribe { topic: topic.to_owned() });
        }
    }

    /// Publishes the status of this node when the status is due and a connected peer subscribes to
    /// the topic.
    pub(crate) fn publish_status(&mut self, directory: &Directory, peers: &Peers, cx: &mut Cx) {
        let now = cx.now;
        if now.mono < self.status_due {
            return;
        }
        let period = STATUS_PERIOD.max(STATUS_PER_NODE * peers.met_agents(directory) as u32);
        self.status_due = now.mono + cx.jitter.spread(period);
        if peers.subscribers(STATUS) == 0 {
            return;
        }
        let data = serde_json::json!({
            "name": cx.identity.name,
            "role": cx.identity.role,
            "uptimeMs": now.mono.since_start().as_millis() as u64,
            "peers": peers.table.connections_len(),
            "agents": directory.records.len(),
            "mailDelivered": cx.stats.get(Counter::MailDelivered),
            "mailReceived": cx.stats.get(Counter::MailReceived),
        });
        let message = envelope::Message {
            stream: Bytes::copy_from_slice(&cx.identity.status_stream),
            seq: cx.frame_numbers.upcoming(),
            kind: "status".to_owned(),
            priority: envelope::Priority::Low.into(),
            sent_at_ms: now.unix_ms,
            data: data.to_string().into(),
            ..envelope::Message::default()
        };
        let batch = Batch { messages: vec![message], acks: Vec::new() };
        let data = cx.signed_frame(Scope::Topic(STATUS.to_owned()), Payload::Plain(batch));
        let token = cx.token();
        cx.network(NetworkCommand::Publish { token, topic: STATUS.to_owned(), data });
    }
}
