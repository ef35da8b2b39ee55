//! Gossipsub settings. Messages are anonymous, because every frame is signed by its author. The
//! core validates messages, and gossipsub scores peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, Message,
    MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams,
    TopicSubscriptionFilter, ValidationMode, score_parameter_decay,
};
use sha2::{Digest, Sha256};

use super::SetupError;
use p2p_node_core::MAX_PEER_TOPICS;
use p2p_node_core::gate::address_scope::AddressScope;

/// Maximum size of an RPC, in bytes. A topic message has at most 60 KiB, but libp2p compares the
/// whole read buffer, which may also contain the next frame, with this limit. So the limit must be
/// well above twice the message size.
pub const MAX_TRANSMIT: usize = 256 << 10;

/// Maximum number of topics that a peer may subscribe to, in all and in one RPC. Gossipsub ignores
/// the whole RPC above it, so it is twice what a node may subscribe to: the core ignores what is
/// above its own limit, and the other topics of such a peer still work.
pub const MAX_TOPICS_PER_PEER: usize = 2 * MAX_PEER_TOPICS;

/// Maximum length of a topic with its prefix, in bytes. Limits the memory for a peer's
/// subscriptions.
pub const MAX_TOPIC_BYTES: usize = 256;

/// Maximum size of control data and subscriptions in one RPC, in bytes. A new peer announces all
/// its topics at once, so the limit covers the maximum number of topics of maximum length, each
/// with 16 bytes of tags, lengths and flags.
const MAX_CONTROL: usize = MAX_PEER_TOPICS * (MAX_TOPIC_BYTES + 16);
// The read buffer may also contain a message of 64 KiB.
const _: () = assert!(MAX_CONTROL + (64 << 10) < MAX_TRANSMIT);

/// Maximum number of messages queued for one peer. Each entry is a copy of up to 60 KiB, so the
/// queue of a slow peer takes at most 4 MiB.
const QUEUE_PER_PEER: usize = 64;

/// Maximum number of ids in one IHAVE. 500 ids of 22 bytes stay below 16 KiB of control data, which
/// is the limit of other implementations.
const MAX_IHAVE_IDS: usize = 500;

/// Number of heartbeats (one per second) for which gossipsub keeps a message, first until its
/// verdict and then to answer IWANT. Three rounds of gossip need three heartbeats, and one is
/// spare; more would cost memory in a flood. The gossip budget of the core relies on this number.
const HISTORY: usize = 4;
const _: () = assert!(HISTORY as u64 + 1 == p2p_node_core::gossip::gossip_budget::RETENTION_SECS);

/// The addresses of this host, which any number of its nodes share.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

const HEARTBEAT: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Domain separator of the message id hash.
const ID_DOMAIN: &[u8] = b"p2p-node/gossip-id/v1";

/// Length of a message id, in bytes: a prefix of the hash that is long enough to prevent
/// collisions.
const ID_BYTES: usize = 20;

pub(super) type Gossipsub = Behaviour<IdentityTransform, MaxCountSubscriptionFilter<NetworkTopicFilter>>;

/// Creates the behaviour. `prefix` is the topic prefix of the network.
pub(super) fn build(prefix: &str, scope: AddressScope) -> Result<Gossipsub, SetupError> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| message_id(message.topic.as_str(), &message.data))
        .max_transmit_size(MAX_TRANSMIT)
        .max_control_message_size(MAX_CONTROL)
        .max_control_messages_sent(MAX_IHAVE_IDS)
        .heartbeat_initial_delay(HEARTBEAT)
        .heartbeat_interval(HEARTBEAT)
        .mesh_n_low(4)
        .mesh_n(8)
        .mesh_n_high(12)
        .mesh_outbound_min(2)
        .gossip_lazy(6)
        .history_length(HISTORY)
        .history_gossip(3)
        .duplicate_cache_time(2 * MINUTE)
        // Own messages go to every subscriber: the mesh may consist of peers that forward nothing.
        .flood_publish(true)
        .connection_handler_queue_len(QUEUE_PER_PEER)
        .publish_queue_duration(Duration::from_secs(5))
        .forward_queue_duration(Duration::from_secs(3))
        .idontwant_message_size_threshold(1000)
        .build()
        .map_err(|error| SetupError::Gossip(error.to_string()))?;
    let filter = MaxCountSubscriptionFilter {
        filter: NetworkTopicFilter { prefix: prefix.to_owned() },
        max_subscribed_topics: MAX_TOPICS_PER_PEER,
        max_subscriptions_per_request: MAX_TOPICS_PER_PEER,
    };
    let mut gossipsub =
        Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
            .map_err(|error| SetupError::Gossip(error.to_owned()))?;
    gossipsub.with_peer_score(peer_score(scope), thresholds()).map_err(SetupError::Gossip)?;
    Ok(gossipsub)
}

/// Subscribes to a topic and sets its score parameters; without them gossipsub does not score the
/// topic.
pub(super) fn subscribe(gossipsub: &mut Gossipsub, topic: &IdentTopic) {
    if let Err(error) = gossipsub.subscribe(topic) {
        tracing::warn!(%topic, %error, "cannot subscribe");
        return;
    }
    if let Err(error) = gossipsub.set_topic_params(topic.clone(), topic_score()) {
        tracing::error!(%topic, error, "setting the score parameters failed: the topic is not scored");
    }
}

/// Application score of a banned peer: far below the graylist threshold, with everything that a peer can
/// earn.
const BANNED_SCORE: f64 = -1000.0;

/// Ignores the gossip of a peer. The score outlasts the connection, so that a peer that comes back at
/// once begins with it.
pub(super) fn block(gossipsub: &mut Gossipsub, peer: &PeerId) {
    gossipsub.blacklist_peer(peer);
    gossipsub.set_application_score(peer, BANNED_SCORE);
}

/// Accepts the gossip of a peer again.
pub(super) fn unblock(gossipsub: &mut Gossipsub, peer: &PeerId) {
    gossipsub.remove_blacklisted_peer(peer);
    gossipsub.set_application_score(peer, 0.0);
}

/// Returns the message id, a hash of topic and data, which every relay can check. Each attempt
/// signs a new frame, so nobody can publish the same bytes first to make ours look like a
/// duplicate.
fn message_id(topic: &str, data: &[u8]) -> MessageId {
    let mut hash = Sha256::new();
    for field in [ID_DOMAIN, topic.as_bytes(), data] {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    MessageId::new(&hash.finalize()[..ID_BYTES])
}

/// Subscription filter that accepts only topics of this network.
pub(super) struct NetworkTopicFilter {
    prefix: String,
}

impl TopicSubscriptionFilter for NetworkTopicFilter {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        topic.as_str().starts_with(&self.prefix) && topic.as_str().len() <= MAX_TOPIC_BYTES
    }
}

fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -100.0,
        publish_threshold: -200.0,
        graylist_threshold: -400.0,
        accept_px_threshold: 1000.0,
        opportunistic_graft_threshold: 1.0,
    }
}

fn peer_score(scope: AddressScope) -> PeerScoreParams {
    PeerScoreParams {
        topic_score_cap: 50.0,
        app_specific_weight: 1.0,
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: score_parameter_decay(10 * MINUTE),
        slow_peer_weight: -0.2,
        slow_peer_threshold: 20.0,
        slow_peer_decay: 0.5,
        // On loopback all peers have the same address.
        ip_colocation_factor_weight: if scope == AddressScope::Loopback { 0.0 } else { -10.0 },
        ip_colocation_factor_threshold: 8.0,
        // Nodes of one host that talk over loopback. Relayed connections name no address at all: see
        // `gossip_watch`.
        ip_colocation_factor_whitelist: LOOPBACK.into(),
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        retain_score: 60 * MINUTE,
        ..PeerScoreParams::default()
    }
}

/// Returns score parameters that do not depend on the traffic of the topic, so that a quiet topic
/// costs no peer its score. Three rejected messages cost 180 points, five cost 500, which is beyond
/// the graylist threshold.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: score_parameter_decay(10 * MINUTE),
        first_message_deliveries_cap: 20.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: score_parameter_decay(30 * MINUTE),
        ..TopicScoreParams::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_id_depends_on_field_boundaries() {
        assert_eq!(message_id("ab", b"c"), message_id("ab", b"c"));
        assert_ne!(message_id("ab", b"c"), message_id("a", b"bc"));
        assert_eq!(message_id("ab", b"c").0.len(), ID_BYTES);
    }

    /// The interop tests compute the same id in another language (`tests/interop`).
    #[test]
    fn golden_frame_has_golden_message_id() {
        let frame: String = include_str!("../../../fixtures/envelopes/frame.hex").lines().collect();
        let id = message_id("/p2p-node/dev/topic/1/builds", &hex::decode(frame).unwrap());
        assert_eq!(hex::encode(&id.0), include_str!("../../../fixtures/envelopes/gossip_id.hex").trim_end());
    }

    #[test]
    fn foreign_and_oversized_topics_are_filtered() {
        let mut topics = NetworkTopicFilter { prefix: "/p2p-node/dev/topic/1/".to_owned() };
        let mut admits = |topic: String| topics.can_subscribe(&TopicHash::from_raw(topic));
        assert!(admits("/p2p-node/dev/topic/1/news".to_owned()));
        assert!(!admits("/p2p-node/main/topic/1/news".to_owned()));
        assert!(!admits("/p2p-node/dev/topic/2/news".to_owned()), "a later version has topics of its own");
        assert!(!admits("news".to_owned()));
        let longest = "/p2p-node/dev/topic/1/".to_owned()
            + &"n".repeat(MAX_TOPIC_BYTES - "/p2p-node/dev/topic/1/".len());
        assert!(admits(longest.clone()));
        assert!(!admits(longest + "n"));
    }

    #[tokio::test]
    async fn every_subscription_is_scored_also_a_later_and_a_repeated_one() {
        let mut gossipsub = build("/p2p-node/dev/topic/1/", AddressScope::Public).unwrap();
        let topic = IdentTopic::new("/p2p-node/dev/topic/1/late");
        for _ in 0..2 {
            subscribe(&mut gossipsub, &topic);
            assert!(gossipsub.get_topic_params(&topic).is_some());
            assert!(gossipsub.unsubscribe(&topic));
        }
    }

    #[test]
    fn quiet_topic_costs_no_peer_its_score() {
        let topic = topic_score();
        assert_eq!((topic.mesh_message_deliveries_weight, topic.mesh_failure_penalty_weight), (0.0, 0.0));
    }

    #[test]
    fn score_parameters_are_valid_in_every_address_scope() {
        thresholds().validate().unwrap();
        topic_score().validate().unwrap();
        for scope in [AddressScope::Loopback, AddressScope::Private, AddressScope::Public] {
            peer_score(scope).validate().unwrap();
        }
    }
}
