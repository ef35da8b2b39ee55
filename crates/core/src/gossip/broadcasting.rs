//! Broadcasts on their way out.

use std::time::Duration;

use p2p_node_protocol::{Counter, Delivery, DeliveryState, ErrorCode, Route};

use crate::Core;
use crate::effect::NetworkCommand;
use crate::gossip::broadcast_queue::Broadcast;
use crate::input::{PublishOutcome, Token};
use p2p_node_wire::envelope::{Payload, Scope};

impl Core {
    /// Sends one frame of each topic that has broadcasts and subscribers.
    pub(crate) fn send_broadcasts_due(&mut self) {
        let now = self.cx.now;
        for broadcast in self.gossip.broadcasts.expired(now.mono) {
            self.report_broadcast_failed(broadcast, DeliveryState::Expired, ErrorCode::NoSubscribers);
        }
        for (topic, not_before) in self.sendable_topics() {
            if now.mono < self.gossip.pacer.ready_at() {
                break;
            }
            if now.mono < not_before {
                continue;
            }
            if self.gossip.broadcasts.may_gather(&topic, now.mono) && self.misses_subscribers(&topic) {
                self.cx.stats.count(Counter::BroadcastsHeldForSubscribers);
                self.gossip.broadcasts.gather(&topic, now.mono);
                self.connect_soon();
                continue;
            }
            let token = self.cx.token();
            let Some(batch) = self.gossip.broadcasts.next_frame(&topic, token, now.mono) else { continue };
            let data = self.cx.frame(Scope::Topic(topic.clone()), Payload::Plain(batch));
            self.gossip.pacer.take(data.len(), now.mono);
            self.gossip.budget.take(data.len(), now.mono);
            self.cx.stats.count(Counter::BroadcastFramesSent);
            self.cx.network(NetworkCommand::Publish { token, topic, data });
        }
    }

    /// Returns the topics with broadcasts and connected subscribers, with the earliest time of the
    /// next frame.
    pub(crate) fn sendable_topics(&self) -> Vec<(String, Duration)> {
        let mut topics = self.gossip.broadcasts.topics_with_work();
        topics.retain(|(topic, _)| self.subscribers(topic) > 0);
        topics
    }

    /// Reports a broadcast that reached no subscriber, or was given up.
    pub(crate) fn report_broadcast_failed(
        &mut self,
        broadcast: Broadcast,
        state: DeliveryState,
        code: ErrorCode,
    ) {
        self.cx.emit_delivery(Delivery {
            message_id: broadcast.message_id,
            request_id: broadcast.request_id,
            state,
            code: Some(code),
            message: None,
            attempts: 0,
            route: Some(Route::Gossip),
            redelivered: false,
            delivered_as: None,
        });
    }

    /// Handles the outcome of a publication.
    pub(crate) fn on_published(&mut self, token: Token, outcome: PublishOutcome) {
        let now = self.cx.now;
        match outcome {
            PublishOutcome::Sent | PublishOutcome::Duplicate => {}
            PublishOutcome::QueuesFull => {
                self.cx.stats.count(Counter::GossipQueuesFull);
                self.gossip.pacer.slow_down(now.mono);
            }
            PublishOutcome::NoPeers => self.cx.stats.count(Counter::GossipNoPeers),
            PublishOutcome::TooLarge => self.cx.stats.count(Counter::GossipTooLarge),
        }
        for broadcast in self.gossip.broadcasts.published(token, outcome, now.mono) {
            self.report_broadcast_failed(broadcast, DeliveryState::Failed, ErrorCode::MessageTooLarge);
        }
    }
}
