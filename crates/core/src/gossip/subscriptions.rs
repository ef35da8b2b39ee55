//! The commands `subscribe` and `unsubscribe`.

use p2p_node_protocol::{ErrorCode, Role};

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::local::Local;
use crate::peers::Peers;
use crate::replies::reply_to::ReplyTo;
use crate::topics::{STATUS, check_topic, is_node_topic};

impl Gossip {
    pub(crate) fn subscribe(
        &mut self,
        command: ReplyTo,
        topic: String,
        local: &mut Local,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        if let Err(message) = check_topic(&topic) {
            return cx.refuse(command, ErrorCode::InvalidArgument, message);
        }
        if self.subscribed.len() >= crate::MAX_SUBSCRIPTIONS && !self.subscribed.contains(&topic) {
            let message = format!(
                "at most {} topics can be subscribed to; unsubscribe from one first",
                crate::MAX_SUBSCRIPTIONS
            );
            return cx.refuse(command, ErrorCode::Busy, message);
        }
        cx.answer(command, "subscribe", |_| {});
        self.observes |= topic == STATUS;
        if self.subscribed.insert(topic.clone()) && !is_subscribed_anyway(&topic, cx) {
            cx.network(NetworkCommand::Subscribe { topic });
            peers.connect_soon(cx);
            peers.find_soon(cx);
            let topics = self.subscribed.clone();
            local.advertise_topics(&topics, cx);
        }
    }

    pub(crate) fn unsubscribe(&mut self, command: ReplyTo, topic: &str, local: &mut Local, cx: &mut Cx) {
        let is_removed = self.subscribed.remove(topic);
        if topic == STATUS && !cx.identity.observes {
            self.observes = false;
            self.view.clear();
        }
        if is_removed && !is_subscribed_anyway(topic, cx) {
            cx.network(NetworkCommand::Unsubscribe { topic: topic.to_owned() });
            let topics = self.subscribed.clone();
            local.advertise_topics(&topics, cx);
        }
        cx.answer(command, "unsubscribe", |_| {});
    }
}

/// Returns `true` if the node decides itself whether it subscribes to the topic.
fn is_subscribed_anyway(topic: &str, cx: &Cx) -> bool {
    is_node_topic(topic) && (topic != STATUS || cx.identity.role == Role::Bootstrap || cx.identity.observes)
}
