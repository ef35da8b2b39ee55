//! Sending of broadcasts.

use p2p_node_protocol::{Counter, Delivery, DeliveryState, ErrorCode, Route};
use p2p_node_wire::envelope::{Payload, Scope};
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::gossip::broadcast_queue::Broadcast;
use crate::input::{PublishOutcome, Token};
use crate::peers::Peers;

impl Gossip {
    /// Sends one frame of each topic that has broadcasts and subscribers.
    pub(crate) fn send_broadcasts_due(&mut self, directory: &Directory, peers: &mut Peers, cx: &mut Cx) {
        let now = cx.now;
        for broadcast in self.broadcasts.expired(now.mono) {
            report_broadcast_failed(broadcast, DeliveryState::Expired, ErrorCode::NoSubscribers, cx);
        }
        for (topic, not_before) in self.sendable_topics(peers) {
            if now.mono < self.pacer.ready_at() {
                break;
            }
            if now.mono < not_before {
                continue;
            }
            if self.broadcasts.may_await_subscribers(&topic, now.mono)
                && peers.lacks_subscribers(&topic, directory, cx)
            {
                cx.stats.count(Counter::BroadcastsDelayedForSubscribers);
                self.broadcasts.await_subscribers(&topic, now.mono);
                peers.connect_soon(cx);
                continue;
            }
            let token = cx.token();
            let Some(batch) = self.broadcasts.next_frame(&topic, token, now.mono) else { continue };
            let data = cx.signed_frame(Scope::Topic(topic.clone()), Payload::Plain(batch));
            self.record_own_frame(data.len(), Some(&topic), now.mono);
            self.budget.record(data.len(), None, now.mono);
            cx.stats.count(Counter::BroadcastFramesSent);
            cx.network(NetworkCommand::Publish { token, topic, data });
        }
    }

    /// Returns the topics with broadcasts and connected subscribers, with the earliest time of the
    /// next frame.
    pub(crate) fn sendable_topics(&self, peers: &Peers) -> Vec<(String, Instant)> {
        let mut topics = self.broadcasts.topics_with_work();
        topics.retain(|(topic, _)| peers.subscribers(topic) > 0);
        for (topic, not_before) in &mut topics {
            *not_before = (*not_before).max(self.pace.frame_ready_at(topic));
        }
        topics
    }

    /// Handles the outcome of a publication.
    pub(crate) fn on_published(&mut self, token: Token, outcome: PublishOutcome, cx: &mut Cx) {
        let now = cx.now;
        match outcome {
            PublishOutcome::Sent | PublishOutcome::Duplicate => {}
            PublishOutcome::QueuesFull => {
                cx.stats.count(Counter::GossipQueuesFull);
                self.pacer.slow_down(now.mono);
            }
            PublishOutcome::NoPeers => cx.stats.count(Counter::GossipNoPeers),
            PublishOutcome::TooLarge => cx.stats.count(Counter::GossipTooLarge),
        }
        if !matches!(outcome, PublishOutcome::NoPeers | PublishOutcome::TooLarge) {
            for Broadcast { draft, message_id, .. } in self.broadcasts.in_flight(token) {
                cx.end_send_span(draft, message_id, Some(Route::Gossip), "published");
            }
        }
        for broadcast in self.broadcasts.published(token, outcome, now.mono) {
            report_broadcast_failed(broadcast, DeliveryState::Failed, ErrorCode::MessageTooLarge, cx);
        }
    }
}

/// Reports a broadcast that expired, failed or was cancelled.
pub(crate) fn report_broadcast_failed(
    broadcast: Broadcast,
    state: DeliveryState,
    code: ErrorCode,
    cx: &mut Cx,
) {
    let command = broadcast.draft.command.clone();
    let mut delivery = Delivery {
        message_id: broadcast.message_id,
        request_id: command.id.clone(),
        state,
        code: Some(code),
        message: None,
        attempts: 0,
        route: Some(Route::Gossip),
        redelivered: false,
        delivered_as: None,
        traceparent: None,
    };
    cx.end_mail_span(&broadcast.draft, &mut delivery);
    cx.report_delivery(&command, delivery);
}
