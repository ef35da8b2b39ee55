use p2p_node_protocol::{ErrorCode, Event};

use crate::effect::{Effect, NetworkCommand};
use crate::replies::reply_to::ReplyTo;
use crate::testing::{TestCore as _, core};
use crate::topics::MESSAGES;
use crate::{Core, MAX_SUBSCRIPTIONS};

fn subscribes(effects: &[Effect]) -> usize {
    let subscribes = |effect: &&Effect| matches!(effect, Effect::Network(NetworkCommand::Subscribe { .. }));
    effects.iter().filter(subscribes).count()
}

#[test]
fn repeated_subscribe_and_node_topic_subscribe_send_no_command() {
    let mut core = core();
    let Core { gossip, local, peers, cx, .. } = &mut core;
    for topic in ["news", "news", MESSAGES] {
        gossip.subscribe(ReplyTo::PARENT, topic.to_owned(), local, peers, cx);
    }
    assert_eq!(gossip.subscribed.len(), 2);
    assert_eq!(subscribes(&core.effects()), 1);
}

#[test]
fn subscribe_above_limit_is_refused_as_busy() {
    let mut core = core();
    let Core { gossip, local, peers, cx, .. } = &mut core;
    for number in 0..=MAX_SUBSCRIPTIONS {
        gossip.subscribe(ReplyTo::PARENT, format!("topic {number}"), local, peers, cx);
    }
    assert_eq!(gossip.subscribed.len(), MAX_SUBSCRIPTIONS);
    let busy = |event: &Event| matches!(event, Event::Error(error) if error.code == ErrorCode::Busy);
    assert_eq!(core.lines().iter().filter(|event| busy(event)).count(), 1);
}

#[test]
fn node_status_without_subscribers_is_not_published() {
    let mut core = core();
    let Core { gossip, directory, peers, cx, .. } = &mut core;
    gossip.on_ready(cx);
    cx.effects.clear();
    cx.now.mono = gossip.status_due;
    let turn = gossip.take_status_turn(directory, peers, cx);
    assert!(!turn.publishes(), "nobody wants it");
    assert!(cx.effects.is_empty() && gossip.status_due > cx.now.mono);
}
