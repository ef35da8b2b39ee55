//! Gossip: each node receives a message once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::effect::Verdict;
use p2p_node_core::input::{Input, PublishOutcome, Token};
use p2p_node_wire::time::Instant;

use super::links::later;
use super::{Delivery, Endpoint, World, pair};

/// Lifetime of gossipsub's duplicate cache.
const DEDUP_TIME: Duration = Duration::from_secs(120);

/// A gossip message that awaits its verdict.
#[derive(Clone, Debug)]
pub struct GossipMessage {
    /// The topic.
    pub topic: String,
    /// The data.
    pub data: Bytes,
    /// `true` if a node of this network published the message.
    pub honest: bool,
}

impl GossipMessage {
    /// Returns the message of an input that a test created.
    pub(super) fn of(input: &Input) -> Option<GossipMessage> {
        let Input::Gossip { topic, data, .. } = input else { return None };
        Some(GossipMessage { topic: topic.clone(), data: data.clone(), honest: false })
    }
}

/// Returns a hash that identifies a message.
#[must_use]
pub fn message_hash(topic: &str, data: &Bytes) -> u64 {
    let mut hash = DefaultHasher::new();
    (topic, data).hash(&mut hash);
    hash.finish()
}

impl Endpoint {
    /// Returns `true` if the node has received this message lately.
    fn has_seen(&self, message: u64, now: Instant) -> bool {
        self.seen.get(&message).is_some_and(|until| *until > now)
    }

    /// Returns `true` if the node receives this message for the first time.
    fn mark_if_new(&mut self, message: u64, now: Instant) -> bool {
        if self.seen.len() > 20_000 {
            self.seen.retain(|_, until| *until > now);
        }
        let first = !self.has_seen(message, now);
        if first {
            self.seen.insert(message, now + DEDUP_TIME);
        }
        first
    }
}

/// Marks a message that did not come from this network as seen by its recipient.
pub(super) fn mark_seen<W: World>(world: &mut W, node: usize, input: &Input) {
    let now = world.now();
    let endpoint = &mut world.network_mut().endpoints[node];
    if let Input::Gossip { token, topic, data, .. } = input
        && !endpoint.arriving.contains_key(token)
    {
        endpoint.mark_if_new(message_hash(topic, data), now);
    }
}

/// Publishes a message, unless gossipsub refuses it: a message without a recipient stays unknown, and
/// may be published again.
pub(super) fn publish<W: World>(world: &mut W, node: usize, token: Token, topic: String, data: Bytes) {
    let now = world.now();
    let hash = message_hash(&topic, &data);
    let outcome = if world.network().endpoints[node].has_seen(hash, now) {
        PublishOutcome::Duplicate
    } else if subscribers(world, node, &topic).is_empty() {
        PublishOutcome::NoPeers
    } else {
        world.network_mut().endpoints[node].mark_if_new(hash, now);
        world.on_publish(&topic, &data);
        forward(world, node, &GossipMessage { topic, data, honest: true });
        PublishOutcome::Sent
    };
    later(world, node, Duration::ZERO, Input::Published { token, outcome });
}

/// The neighbours of a node that subscribe to a topic.
fn subscribers<W: World>(world: &W, node: usize, topic: &str) -> Vec<usize> {
    let endpoints = &world.network().endpoints;
    let neighbours = endpoints[node].neighbours.iter().copied();
    neighbours.filter(|other| endpoints[*other].topics.contains(topic)).collect()
}

/// Forwards a message to neighbours that subscribe to its topic.
fn forward<W: World>(world: &mut W, node: usize, message: &GossipMessage) {
    let mut subscribers = subscribers(world, node, &message.topic);
    let hash = message_hash(&message.topic, &message.data);
    for _ in 0..world.fan_out().min(subscribers.len()) {
        let to = subscribers.swap_remove(world.pick(subscribers.len()));
        if let Some(delay) = world.gossip_delay() {
            deliver_copy(world, (node, to), message.clone(), hash, delay);
        }
    }
}

/// Delivers a message to a node that has not received it yet.
fn deliver_copy<W: World>(
    world: &mut W,
    (from, to): (usize, usize),
    message: GossipMessage,
    hash: u64,
    delay: Duration,
) {
    let (life, now) = (world.life(to), world.now());
    let network = world.network_mut();
    let Some(epoch) = network.links.get(&pair(from, to)).map(super::Link::epoch) else { return };
    // The message arrives later. It is marked as seen now, so that no further copies are sent.
    if !network.endpoints[to].mark_if_new(hash, now) {
        return;
    }
    let token = network.token();
    let from_peer = network.endpoints[from].peer;
    let (topic, data) = (message.topic.clone(), message.data.clone());
    network.endpoints[to].arriving.insert(token, message);
    let input = Input::Gossip { token, from: from_peer, topic, data };
    let over = Some((pair(from, to), epoch));
    let at = super::links::after_opening(world, to, from, now + delay);
    world.schedule(at, Delivery::Input { node: to, life, over, input });
}

pub(super) fn give_verdict<W: World>(world: &mut W, node: usize, token: Token, verdict: Verdict) {
    let Some(message) = world.network_mut().endpoints[node].unvalidated.remove(&token) else {
        return world.violated("gossip is validated once", node, format!("token {token} again"));
    };
    world.on_verdict(node, token, verdict, &message);
    if verdict == Verdict::Accept {
        forward(world, node, &message);
    }
}
