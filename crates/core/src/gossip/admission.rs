//! Admission of broadcasts.

use std::time::Duration;

use p2p_node_protocol::Counter;
use p2p_node_wire::time::Instant;

use crate::capacity::{NoRoom, Wait};
use crate::cx::Cx;
use crate::gossip::Gossip;
use crate::outgoing::OutgoingMessage;
use crate::peers::Peers;

/// Longest wait of a broadcast for a subscriber, unless its `ttlMs` is shorter. Our choice: as long
/// as a node needs to join the network.
const SUBSCRIBER_TIMEOUT: Duration = Duration::from_secs(10);

impl Gossip {
    pub(crate) fn admit_broadcast(
        &mut self,
        topic: &str,
        draft: OutgoingMessage,
        peers: &mut Peers,
        cx: &mut Cx,
    ) -> Result<(), Box<NoRoom>> {
        let now = cx.now;
        let command = draft.command.clone();
        let deadline = draft.expires.min(now.mono + SUBSCRIBER_TIMEOUT);
        if let Some(wait) = self.wait_for_pace(topic, &draft, now.mono) {
            cx.stats.count(Counter::SendsPaced);
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let (bytes, priority) = (draft.data.len(), draft.priority);
        let message_id = self.broadcasts.accept(topic, draft, deadline)?;
        self.pace.charge(topic, bytes, now.mono);
        let number = peers.subscribers(topic);
        if number == 0 {
            peers.connect_soon(cx);
            peers.find_soon(cx);
        }
        cx.stats.count(Counter::BroadcastsAccepted);
        cx.stats.traffic.sent(priority, now.mono);
        self.traffic.sent(topic, now.mono);
        cx.answer(command, "send", |answer| {
            answer.message_id = Some(message_id);
            answer.peers = Some(number);
        });
        Ok(())
    }

    /// Returns until when a broadcast may wait for the pace of this node, or `None` if it need not.
    pub(crate) fn wait_for_pace(
        &mut self,
        topic: &str,
        draft: &OutgoingMessage,
        now: Instant,
    ) -> Option<Wait> {
        let wait = self.pace.wait(topic, draft.data.len(), now);
        if wait.is_zero() {
            return None;
        }
        self.pace.wake_after(wait, topic, now);
        Some(Wait::Shared(draft.expires))
    }
}
