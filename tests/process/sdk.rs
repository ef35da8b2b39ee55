//! The Rust SDK with the real binary.

use std::time::Duration;

use p2p_node_sdk::{Connect, DeliveryState, Discover, Event, Events, Grace, Node};
use tempfile::TempDir;

use crate::child::{SOON, test_key};

async fn spawn(key: u8, home: &TempDir) -> (Node, Events) {
    Node::builder()
        .binary(env!("CARGO_BIN_EXE_p2p-node"))
        .env("NETWORK", "dev")
        .env("PRIVATE_KEY", test_key(key))
        .env("XDG_RUNTIME_DIR", home.path())
        .spawn()
        .await
        .unwrap()
}

async fn message(events: &mut Events) -> p2p_node_sdk::Message {
    let next = async {
        loop {
            if let Event::Message(message) = events.next().await.unwrap() {
                return *message;
            }
        }
    };
    tokio::time::timeout(SOON, next).await.unwrap()
}

#[tokio::test]
async fn two_agents_talk_through_the_sdk() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = spawn(0x70, &home).await;
    let (bob, mut to_bob) = spawn(0x71, &home).await;
    let alice_ready = alice.connect(Connect { port: Some(0), ..Connect::default() }).await.unwrap();
    let bootstrap_peers = vec![alice_ready.addrs[0].clone()];
    let bob_ready =
        bob.connect(Connect { port: Some(0), bootstrap_peers, ..Connect::default() }).await.unwrap();

    let look = Discover {
        address: Some(alice_ready.address.clone()),
        timeout_ms: Some(20_000),
        ..Discover::default()
    };
    assert_eq!(bob.discover(look).await.unwrap()[0].peer_id, alice_ready.peer_id);
    let mail = bob.send(&alice_ready.address, "hello").await.unwrap();
    let message_id = mail.message_id.clone();
    assert_eq!(mail.delivered().await.unwrap().state, DeliveryState::Delivered);
    let received = message(&mut to_alice).await;
    assert_eq!((received.from, received.message_id), (bob_ready.address, message_id));
    assert_eq!(received.data.get(), "\"hello\"");

    bob.subscribe("jobs").await.unwrap();
    alice.publish("jobs", &[1, 2, 3]).await.unwrap();
    assert_eq!(message(&mut to_bob).await.data.get(), "[1,2,3]");

    let refused = bob.send("nobody", "hello").await.err().unwrap();
    assert!(!refused.retryable(), "{refused}");
    let grace = Grace { drain: Duration::from_secs(7), ..Grace::default() };
    assert!(bob.shutdown(grace).await.unwrap().success());
    assert!(alice.shutdown(Grace::default()).await.unwrap().success());
}
