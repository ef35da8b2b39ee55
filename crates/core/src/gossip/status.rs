//! The `node-status` topic: what a node tells those who watch the network.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_protocol::Counter;

use crate::effect::NetworkCommand;
use crate::{Core, STATUS};
use p2p_node_wire::envelope::{self, Batch, Payload, Scope};

/// First and shortest period of `node-status`: our choice.
pub(crate) const STATUS_PERIOD: Duration = Duration::from_secs(60);
/// Part of the period of `node-status` for each known node, so that the whole network sends at most
/// two a second at any size.
const STATUS_PER_NODE: Duration = Duration::from_millis(500);

impl Core {
    /// Publishes the status of this node when it is due and somebody subscribes to it.
    pub(crate) fn publish_status(&mut self) {
        let now = self.cx.now;
        if now.mono < self.gossip.status_due {
            return;
        }
        let period = STATUS_PERIOD.max(STATUS_PER_NODE * self.directory.records.len() as u32);
        self.gossip.status_due = now.mono + self.cx.jitter.around(period);
        if self.subscribers(STATUS) == 0 {
            return;
        }
        let data = serde_json::json!({
            "name": self.cx.identity.name,
            "role": self.cx.identity.role,
            "uptimeMs": now.mono.as_millis() as u64,
            "peers": self.peers.connected.len(),
            "agents": self.directory.records.len(),
            "mailDelivered": self.cx.stats.get(Counter::MailDelivered),
            "mailReceived": self.cx.stats.get(Counter::MailReceived),
        });
        let message = envelope::Message {
            stream: Bytes::copy_from_slice(&self.cx.identity.status_stream),
            seq: self.cx.frame_numbers.upcoming(),
            kind: "status".to_owned(),
            priority: envelope::Priority::Low.into(),
            sent_at_ms: now.unix_ms,
            data: data.to_string().into(),
            ..envelope::Message::default()
        };
        let batch = Batch { messages: vec![message], acks: Vec::new() };
        let data = self.cx.frame(Scope::Topic(STATUS.to_owned()), Payload::Plain(batch));
        let token = self.cx.token();
        self.cx.network(NetworkCommand::Publish { token, topic: STATUS.to_owned(), data });
    }
}
