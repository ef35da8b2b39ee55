//! Dialling, successful and failed.

use std::net::TcpListener;

use libp2p::PeerId;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;

use super::node::{Node, config, mail, pair};

#[tokio::test]
async fn dial_to_closed_port_fails() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let unknown = PeerId::random();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addrs = vec![format!("/ip4/127.0.0.1/tcp/{free}").parse().unwrap()];
    a.apply(NetworkCommand::Dial { peer: unknown, addrs }).await;
    assert_eq!(a.dial_failed().await.0, unknown);
}

#[tokio::test]
async fn dial_that_reaches_another_peer_fails() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let b = Node::listening(config(2, Role::Full)).await;
    let unknown = PeerId::random();
    a.apply(NetworkCommand::Dial { peer: unknown, addrs: b.addrs.clone() }).await;
    assert_eq!(a.dial_failed().await.0, unknown);
}

#[tokio::test]
async fn dial_outside_the_address_scope_fails() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let unknown = PeerId::random();
    let addrs = vec!["/ip4/192.0.2.1/tcp/9".parse().unwrap(), "/dns4/localhost/tcp/9".parse().unwrap()];
    a.apply(NetworkCommand::Dial { peer: unknown, addrs }).await;
    let (peer, reason) = a.dial_failed().await;
    assert_eq!(peer, unknown);
    assert!(reason.contains("scope"), "{reason}");
}

#[tokio::test]
async fn concurrent_dials_end_in_one_connection() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let mut b = Node::listening(config(2, Role::Full)).await;
    let dial = NetworkCommand::Dial { peer: b.peer, addrs: b.addrs.clone() };
    a.apply_all(vec![dial.clone(), dial]).await;
    b.dial(&a).await;
    a.connected().await;
    b.connected().await;
    // All events of the dials precede mail in both directions.
    a.apply(mail(1, &b, "hello")).await;
    b.apply(mail(1, &a, "hello")).await;
    a.mail_request().await;
    b.mail_request().await;
    for node in [&mut a, &mut b] {
        assert!(!node.has(|input| matches!(
            input,
            Input::Connected { .. } | Input::DialFailed { .. } | Input::Disconnected { .. }
        )));
    }
}

#[tokio::test]
async fn blocked_peer_is_disconnected_until_unblocked() {
    let (mut a, mut b) = pair().await;
    b.apply(NetworkCommand::Block { peer: a.peer }).await;
    let disconnected = |input: &Input| matches!(input, Input::Disconnected { .. }).then_some(());
    a.expect("disconnection", disconnected).await;
    b.expect("disconnection", disconnected).await;
    b.dial(&a).await;
    assert_eq!(b.dial_failed().await.0, a.peer);
    b.apply(NetworkCommand::Unblock { peer: a.peer }).await;
    b.dial(&a).await;
    assert_eq!(b.connected().await, (a.peer, true));
}
