//! Tests of the Rust SDK with the real binary.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_node_sdk::{
    AckMode, Builder, DeliveryState, DiscoverOptions, Event, Events, Message, Node, Restart, Trust,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::child::{TIMEOUT, test_key};

pub fn node(home: &TempDir) -> Builder {
    let fast_restart =
        Restart { first: Duration::from_millis(20), max: Duration::from_millis(100), ..Restart::default() };
    Node::builder()
        .binary(env!("CARGO_BIN_EXE_p2p-node"))
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .cwd(home.path())
        .port(0)
        .restart(Some(fast_restart))
}

pub fn first_addr(node: &Node) -> String {
    node.ready().addrs.swap_remove(0)
}

pub async fn next(events: &mut Events, matches: impl Fn(&Event) -> bool) -> Event {
    let wait = async {
        loop {
            let event = events.next().await.expect("events end too soon");
            if matches(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, wait).await.expect("no such event")
}

pub async fn message(events: &mut Events) -> Message {
    match next(events, |event| matches!(event, Event::Message(_))).await {
        Event::Message(message) => *message,
        _ => unreachable!(),
    }
}

/// Returns the next message and acks it.
pub async fn take_and_ack(node: &Node, events: &mut Events) -> Message {
    let message = message(events).await;
    node.ack(&message).await.unwrap();
    message
}

pub async fn close(node: &Node) {
    node.close().await;
    assert!(node.exit_status().unwrap().success());
}

#[tokio::test]
async fn sdk_agents_exchange_messages() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = node(&home).private_key(test_key(0x70)).open().await.unwrap();
    let (bob, mut to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();

    let look = DiscoverOptions {
        address: Some(alice.address()),
        look_for: Some(Duration::from_secs(20)),
        ..DiscoverOptions::default()
    };
    let found = bob.discover(look).await.unwrap();
    assert_eq!((found[0].peer_id.as_str(), found.complete), (alice.ready().peer_id.as_str(), true));
    let mail = bob.send(alice.address(), "hello").await.unwrap();
    let message_id = mail.message_id.clone();
    let received = take_and_ack(&alice, &mut to_alice).await;
    assert_eq!(mail.delivered().await.unwrap().state, DeliveryState::Delivered);
    assert_eq!((&received.from, &received.message_id), (&bob.address(), &message_id));
    assert_eq!(received.data.get(), "\"hello\"");
    alice.reply(&received, "hello yourself").await.unwrap();
    assert_eq!(message(&mut to_bob).await.reply_to, Some(message_id));

    bob.subscribe("jobs").await.unwrap();
    alice.publish("jobs", &[1, 2, 3]).await.unwrap();
    assert_eq!(message(&mut to_bob).await.data.get(), "[1,2,3]");

    assert_eq!(alice.peers().await.unwrap()[0].address, Some(bob.address()));
    alice.block(bob.address()).await.unwrap();
    let refused = bob.send(alice.address(), "1").await.unwrap().delivered().await.unwrap_err();
    assert_eq!(refused.code(), "PEER_REJECTED");
    alice.allow(bob.address()).await.unwrap();
    let mail = bob.send(alice.address(), "2").await.unwrap();
    assert_eq!(take_and_ack(&alice, &mut to_alice).await.trust, Trust::Allowed);
    mail.delivered().await.unwrap();

    let refused = bob.send("unknown", "hello").await.err().unwrap();
    assert!(!refused.retryable(), "{refused}");
    close(&bob).await;
    close(&alice).await;
}

#[tokio::test]
async fn unacked_message_is_redelivered_after_a_kill_and_delivered_after_its_ack() {
    let home = TempDir::new().unwrap();
    let recipient = node(&home).ack(AckMode::Manual).data_dir(home.path().join("alice"));
    let (alice, mut to_alice) = recipient.open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let mail = bob.send(alice.address(), "work").await.unwrap();
    let first = message(&mut to_alice).await;
    assert!(!first.redelivered);
    let pid = Pid::from_raw(alice.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let again = message(&mut to_alice).await;
    assert_eq!((&again.message_id, again.redelivered), (&first.message_id, true));
    alice.ack(&again).await.unwrap();
    assert_eq!(mail.delivered().await.unwrap().state, DeliveryState::Delivered);
    assert_eq!(alice.ack(&again).await.unwrap_err().code(), "MESSAGE_NOT_FOUND");
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[tokio::test]
async fn node_killed_twenty_times_restarts_with_the_same_state() {
    let home = TempDir::new().unwrap();
    let (bob, mut to_bob) = node(&home).open().await.unwrap();
    let (alice, mut events) = node(&home).bootstrap_peers([first_addr(&bob)]).open().await.unwrap();
    let (address, addrs) = (alice.address(), alice.ready().addrs);
    alice.subscribe("news").await.unwrap();
    let mut pids = BTreeSet::new();
    let mut most_files = 0;
    for round in 0..20 {
        let pid = Pid::from_raw(alice.pid().unwrap().cast_signed()).unwrap();
        pids.insert(pid.as_raw_nonzero());
        // Mail in flight when the node is killed is reported, and never sent again.
        let unknown = "0x000000000000000000000000000000000000dEaD";
        let mail = alice.send(unknown, &round).await.unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(mail.delivered().await.unwrap_err().code(), "SIDECAR_RESTARTED");
        let Event::Restarted { ready, .. } =
            next(&mut events, |event| matches!(event, Event::Restarted { .. })).await
        else {
            unreachable!()
        };
        assert_eq!((&ready.address, &ready.addrs), (&address, &addrs));
        assert!(test_kill_process(pid).is_err(), "the killed process still exists");
        // Mail in both directions, and the subscription.
        let pairs = [(&bob, alice.address()), (&alice, bob.address())];
        let mut sent = Vec::new();
        for (from, to) in pairs {
            sent.push(from.send(to, &round).await.unwrap());
        }
        take_and_ack(&bob, &mut to_bob).await;
        bob.publish("news", &round).await.unwrap();
        let mut received = BTreeSet::new();
        while received.len() < 2 {
            let message = take_and_ack(&alice, &mut events).await;
            received.insert((message.topic, message.data.get().to_owned()));
        }
        for mail in sent {
            mail.delivered().await.unwrap();
        }
        let round = round.to_string();
        assert_eq!(received, [(None, round.clone()), (Some("news".to_owned()), round)].into());
        // Other tests also open files, so the limit is generous.
        most_files = most_files.max(open_files());
    }
    assert_eq!(pids.len(), 20);
    assert!(most_files < 400, "{most_files} files are open");
    close(&alice).await;
    close(&bob).await;
}
