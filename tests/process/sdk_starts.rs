//! Events of the Rust SDK about the start, the network and pending messages, with the real binary.

use std::time::Duration;

use p2p_node_sdk::{Error, Event, QUIET};
use tempfile::TempDir;

use crate::child::{TIMEOUT, test_key};
use crate::sdk::{close, first_addr, message, node};

/// An address without a listener: port 1 of this machine.
const DEAD: &str = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

#[tokio::test]
async fn open_with_invalid_key_fails_with_the_node_error() {
    let home = TempDir::new().unwrap();
    let error = node(&home).private_key("zz").open().await.err().unwrap();
    let Error::StartFailed { report: Some(report), exit: Some(exit), .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((error.code(), exit.code(), error.retryable()), ("IDENTITY_INVALID", Some(78), false));
    assert!(report.message.contains("PRIVATE_KEY") && error.to_string().contains(&report.message), "{error}");
}

#[tokio::test]
async fn open_with_unknown_flag_fails_with_stderr() {
    let home = TempDir::new().unwrap();
    let error = node(&home).args(["--nonsense"]).open().await.err().unwrap();
    let Error::StartFailed { exit: Some(exit), .. } = &error else { panic!("{error:?}") };
    assert!(exit.code() == Some(64) && error.to_string().contains("--nonsense"), "{error}");
}

#[tokio::test]
async fn open_with_port_in_use_fails_with_listen_failed() {
    let home = TempDir::new().unwrap();
    let (first, _events) = node(&home).open().await.unwrap();
    let port = first_addr(&first).split('/').nth(4).unwrap().parse().unwrap();
    let error = node(&home).port(port).open().await.err().unwrap();
    assert!(matches!(error, Error::StartFailed { .. }), "{error:?}");
    assert_eq!((error.code(), error.retryable()), ("LISTEN_FAILED", true));
    close(&first).await;
}

#[tokio::test]
async fn joined_with_unreachable_bootstrap_peer_fails_with_the_attempts() {
    let home = TempDir::new().unwrap();
    let (alone, mut events) = node(&home).bootstrap_peers([DEAD]).open().await.unwrap();
    let error = alone.joined(Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.code(), "NOT_JOINED");
    let text = error.to_string();
    assert!(text.contains(DEAD) && text.contains("cannot be reached"), "{text}");
    let timed = tokio::time::timeout(TIMEOUT, async {
        while let Some(event) = events.next().await {
            assert!(!matches!(event, Event::Message(_)));
        }
    });
    let (_, ended) = tokio::join!(close(&alone), timed);
    ended.unwrap();
}

#[tokio::test]
async fn joined_resolves_when_the_first_peer_connects() {
    let home = TempDir::new().unwrap();
    let (alice, _to_alice) = node(&home).open().await.unwrap();
    let other = alice.clone();
    let waiting = tokio::spawn(async move { other.joined(TIMEOUT).await });
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    bob.joined(TIMEOUT).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap()[0].peer_id, bob.ready().peer_id);
    close(&bob).await;
    close(&alice).await;
}

#[tokio::test]
async fn next_until_caught_up_returns_all_pending_messages() {
    const MESSAGES: usize = 200;
    let home = TempDir::new().unwrap();
    let recipient = || node(&home).private_key(test_key(0x71)).data_dir(home.path().join("alice"));
    let (alice, to_alice) = recipient().open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let port = first_addr(&alice).split('/').nth(4).unwrap().parse().unwrap();
    bob.send(alice.address(), "first").await.unwrap();
    let mut to_alice = to_alice;
    message(&mut to_alice).await;
    to_alice.close();
    let address = alice.address();
    close(&alice).await;
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        sent.push(bob.send(&address, &number).await.unwrap());
    }
    let again = recipient().port(port).bootstrap_peers([first_addr(&bob)]).mail_buffer(16);
    let (alice, mut events) = again.open().await.unwrap();
    let mut received = Vec::new();
    while let Some(event) = events.next_until_caught_up(&alice).await.unwrap() {
        if let Event::Message(message) = event {
            received.push(message.data.get().to_owned());
        }
    }
    let all: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(received, all);
    for mail in sent {
        mail.delivered().await.unwrap();
    }
    assert_eq!(QUIET, Duration::from_secs(3), "as the README says");
    close(&bob).await;
    close(&alice).await;
}
