//! The commands `subscribe` and `unsubscribe`.

use std::collections::{BTreeMap, BTreeSet};

use p2p_node_protocol::{ErrorCode, Role};

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::local::Local;
use crate::peers::Peers;
use crate::replies::reply_to::ReplyTo;
use crate::topics::{STATUS, check_topic, is_node_topic};

/// The topics to which clients subscribed, each with those clients.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(BTreeMap<String, BTreeSet<ClientId>>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the topics.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Returns the clients that subscribed to a topic.
    pub(crate) fn clients(&self, topic: &str) -> Option<&BTreeSet<ClientId>> {
        self.0.get(topic)
    }

    /// Adds a subscription. Returns `true` if it is the first to the topic.
    fn insert(&mut self, topic: &str, client: ClientId) -> bool {
        let is_first = !self.0.contains_key(topic);
        self.0.entry(topic.to_owned()).or_default().insert(client);
        is_first
    }

    /// Removes a subscription. Returns `true` if it was the last to the topic.
    fn remove(&mut self, topic: &str, client: ClientId) -> bool {
        let Some(clients) = self.0.get_mut(topic) else { return false };
        let is_last = clients.remove(&client) && clients.is_empty();
        if is_last {
            self.0.remove(topic);
        }
        is_last
    }

    /// Returns the topics of a client.
    fn of(&self, client: ClientId) -> Vec<String> {
        let of_client = self.0.iter().filter(|(_, clients)| clients.contains(&client));
        of_client.map(|(topic, _)| topic.clone()).collect()
    }
}

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
        if self.subscribed.len() >= crate::MAX_SUBSCRIPTIONS && self.subscribed.clients(&topic).is_none() {
            let message = format!(
                "at most {} topics can be subscribed to; unsubscribe from one first",
                crate::MAX_SUBSCRIPTIONS
            );
            return cx.refuse(command, ErrorCode::Busy, message);
        }
        let client = command.client;
        cx.answer(command, "subscribe", |_| {});
        self.observes |= topic == STATUS;
        if self.subscribed.insert(&topic, client) && !is_subscribed_anyway(&topic, cx) {
            cx.network(NetworkCommand::Subscribe { topic });
            peers.connect_soon(cx);
            peers.find_soon(cx);
            local.advertise_topics(&self.subscribed.topics(), cx);
        }
    }

    pub(crate) fn unsubscribe(&mut self, command: ReplyTo, topic: &str, local: &mut Local, cx: &mut Cx) {
        self.leave_topic(topic, command.client, local, cx);
        cx.answer(command, "unsubscribe", |_| {});
    }

    /// Ends the subscriptions of a client that has gone.
    pub(crate) fn on_client_left(&mut self, client: ClientId, local: &mut Local, cx: &mut Cx) {
        for topic in self.subscribed.of(client) {
            self.leave_topic(&topic, client, local, cx);
        }
    }

    /// Ends a subscription of a client. The node leaves the topic with its last subscriber.
    fn leave_topic(&mut self, topic: &str, client: ClientId, local: &mut Local, cx: &mut Cx) {
        if !self.subscribed.remove(topic, client) {
            return;
        }
        if topic == STATUS && !cx.identity.observes {
            self.observes = false;
            self.view.clear();
        }
        if !is_subscribed_anyway(topic, cx) {
            cx.network(NetworkCommand::Unsubscribe { topic: topic.to_owned() });
            local.advertise_topics(&self.subscribed.topics(), cx);
        }
    }
}

/// Returns `true` if the node decides itself whether it subscribes to the topic.
fn is_subscribed_anyway(topic: &str, cx: &Cx) -> bool {
    is_node_topic(topic) && (topic != STATUS || cx.identity.role == Role::Bootstrap || cx.identity.observes)
}
