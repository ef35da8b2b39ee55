//! `joined` and `caught_up`.

use std::time::Duration;

use crate::common::{PATIENCE, child, next, open, refused};
use p2p_node_sdk::{Error, Event, Restart};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn joined_with_a_peer_returns_connected_peers() {
    let (node, _events) = open("joined").await;
    assert_eq!(node.joined(PATIENCE).await.unwrap()[0].peer_id, "12D3B");
}

#[tokio::test]
async fn joined_without_peer_error_names_bootstrap_peers() {
    let (node, _events) = child("good").bootstrap_peers(["/ip4/127.0.0.1/tcp/1"]).open().await.unwrap();
    let error = refused(node.joined(SHORT).await);
    assert_eq!((error.code(), error.retryable()), ("NOT_JOINED", true));
    let Error::NotJoined { tried, .. } = &error else { panic!("{error}") };
    assert_eq!(tried, &["/ip4/127.0.0.1/tcp/1"]);
    assert!(error.to_string().contains("/ip4/127.0.0.1/tcp/1"), "{error}");
}

#[tokio::test]
async fn joined_during_restart_pause_fails_with_not_joined() {
    let slow =
        Restart { first: Duration::from_secs(1000), max: Duration::from_secs(1000), ..Restart::default() };
    let (node, _events) = child("crash").restart(Some(slow)).open().await.unwrap();
    assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    assert_eq!(refused(node.joined(SHORT).await).code(), "NOT_JOINED");
}

#[tokio::test]
async fn joined_after_close_fails_with_closed() {
    let (node, _events) = open("good").await;
    node.close().await;
    assert_eq!(refused(node.joined(PATIENCE).await).code(), "CLOSED");
    assert_eq!(refused(node.caught_up(SHORT, PATIENCE).await).code(), "CLOSED");
}

#[tokio::test]
async fn caught_up_with_unread_mail_waits_for_the_program() {
    let (node, mut events) = open("joined").await;
    let message = |event: &Event| matches!(event, Event::Message(_));
    next(&mut events, message).await;
    let late = refused(node.caught_up(SHORT, Duration::from_millis(300)).await);
    assert_eq!((late.code(), late.retryable()), ("TIMEOUT", true));
    next(&mut events, message).await;
    node.caught_up(SHORT, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn loop_until_caught_up_reads_all_mail_and_ends() {
    let (node, mut events) = open("joined").await;
    let mut taken = Vec::new();
    while let Some(event) = events.next_until_caught_up(&node).await.unwrap() {
        if let Event::Message(message) = event {
            taken.push(message.message_id);
        }
    }
    assert_eq!(taken, ["m1", "m2"]);
}
