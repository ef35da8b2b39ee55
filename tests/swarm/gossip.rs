//! Publishing and receiving on topics.

use bytes::Bytes;
use p2p_node::io::swarm::{MAX_GOSSIP_UNVALIDATED, MAX_TRANSMIT};
use p2p_node_core::effect::{NetworkCommand, Verdict};
use p2p_node_core::input::{DropKind, Input, PublishOutcome};
use p2p_node_protocol::Role;

use super::node::{Node, config, pair};

fn is_gossip(input: &Input) -> bool {
    matches!(input, Input::Gossip { .. })
}

/// Returns three subscribed nodes, connected in a row.
async fn row() -> (Node, Node, Node) {
    let (mut a, mut b) = pair().await;
    let mut c = Node::listening(config(3, Role::Full)).await;
    c.dial(&b).await;
    c.connected().await;
    b.subscribe(&mut a).await;
    b.subscribe(&mut c).await;
    a.subscribe(&mut b).await;
    c.subscribe(&mut b).await;
    (a, b, c)
}

#[tokio::test]
async fn gossip_is_forwarded_only_after_acceptance() {
    let (mut a, mut b, mut c) = row().await;
    for data in [b"rejected".as_slice(), b"ignored", b"late", b"first"] {
        assert_eq!(a.publish(data).await, PublishOutcome::Sent);
    }
    let mut tokens = Vec::new();
    for expected in ["rejected", "ignored", "late", "first"] {
        let (token, from, data) = b.gossip().await;
        assert_eq!((from, &data[..]), (a.peer, expected.as_bytes()));
        tokens.push(token);
    }
    b.apply(NetworkCommand::ReportValidation { token: tokens[0], verdict: Verdict::Reject }).await;
    b.apply(NetworkCommand::ReportValidation { token: tokens[1], verdict: Verdict::Ignore }).await;
    b.apply(NetworkCommand::ReportValidation { token: tokens[3], verdict: Verdict::Accept }).await;
    let (_, from, data) = c.gossip().await;
    assert_eq!((from, &data[..]), (b.peer, &b"first"[..]));
    assert!(!c.has(is_gossip));
    b.apply(NetworkCommand::ReportValidation { token: tokens[2], verdict: Verdict::Accept }).await;
    assert_eq!(&c.gossip().await.2[..], b"late");
    assert!(!c.has(is_gossip));
}

#[tokio::test]
async fn publish_reports_its_outcome() {
    let (mut a, mut b) = pair().await;
    assert_eq!(a.publish(b"unseen").await, PublishOutcome::NoPeers);
    b.subscribe(&mut a).await;
    assert_eq!(a.publish(b"unseen").await, PublishOutcome::Sent);
    assert_eq!(a.publish(b"unseen").await, PublishOutcome::Duplicate);
    assert_eq!(&b.gossip().await.2[..], b"unseen");
    let data = Bytes::from(vec![0; MAX_TRANSMIT + 1]);
    a.apply(NetworkCommand::Publish { token: 0, topic: "news".to_owned(), data }).await;
    assert_eq!(a.published().await, PublishOutcome::TooLarge);
    b.apply(NetworkCommand::Unsubscribe { topic: "news".to_owned() }).await;
    let unsubscribed = |input: &Input| match input {
        Input::PeerUnsubscribed { peer, topic } => Some((*peer, topic.clone())),
        _ => None,
    };
    assert_eq!(a.expect("unsubscription", unsubscribed).await, (b.peer, "news".to_owned()));
    assert_eq!(a.publish(b"no subscriber").await, PublishOutcome::NoPeers);
}

#[tokio::test]
async fn gossip_awaiting_a_verdict_is_bounded() {
    let (mut a, mut b) = pair().await;
    b.subscribe(&mut a).await;
    for number in 0..=MAX_GOSSIP_UNVALIDATED {
        let data = Bytes::from(number.to_be_bytes().to_vec());
        a.apply(NetworkCommand::Publish { token: 0, topic: "news".to_owned(), data }).await;
        b.gossip().await;
    }
    assert_eq!(b.dropped(DropKind::Gossip), 1);
}
