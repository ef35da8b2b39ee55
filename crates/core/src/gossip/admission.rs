//! Admission of broadcasts.

use std::time::Duration;

use p2p_node_protocol::Counter;

use crate::capacity::NoRoom;
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
        let message_id = self.broadcasts.accept(topic, draft, deadline)?;
        let number = peers.subscribers(topic);
        if number == 0 {
            peers.connect_soon(cx);
            peers.find_soon(cx);
        }
        cx.stats.count(Counter::BroadcastsAccepted);
        cx.answer(command, "send", |answer| {
            answer.message_id = Some(message_id);
            answer.peers = Some(number);
        });
        Ok(())
    }
}
