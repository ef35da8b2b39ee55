//! The commands `subscribe` and `unsubscribe`.

use p2p_node_protocol::ErrorCode;

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::local::Local;
use crate::peers::Peers;
use crate::replies::reply_to::ReplyTo;
use crate::topics::check_topic;

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
        if self.subscribed.insert(topic.clone()) && !crate::topics::is_node_topic(&topic) {
            cx.network(NetworkCommand::Subscribe { topic });
            peers.connect_soon(cx);
            peers.find_soon(cx);
            let topics = self.subscribed.clone();
            local.advertise_topics(&topics, cx);
        }
    }

    pub(crate) fn unsubscribe(&mut self, command: ReplyTo, topic: &str, local: &mut Local, cx: &mut Cx) {
        if self.subscribed.remove(topic) && !crate::topics::is_node_topic(topic) {
            cx.network(NetworkCommand::Unsubscribe { topic: topic.to_owned() });
            let topics = self.subscribed.clone();
            local.advertise_topics(&topics, cx);
        }
        cx.answer(command, "unsubscribe", |_| {});
    }
}
