//! Tests of the Rust SDK with the real binary.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_node_sdk::{
    AckMode, Builder, DeliveryState, DiscoverOptions, Event, Events, Message, Node, Restart, Trust,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::child::{SOON, test_key};

pub fn node(home: &TempDir) -> Builder {
    let quick =
        Restart { first: Duration::from_millis(20), max: Duration::from_millis(100), ..Restart::default() };
    Node::builder()
        .binary(env!("CARGO_BIN_EXE_p2p-node"))
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .cwd(home.path())
        .port(0)
        .restart(Some(quick))
}

pub fn first_addr(node: &Node) -> String {
    node.ready().addrs.swap_remove(0)
}

pub async fn next(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let look = async {
        loop {
            let event = events.next().await.expect("events end too soon");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(SOON, look).await.expect("no such event")
}

pub async fn message(events: &mut Events) -> Message {
    match next(events, |event| matches!(event, Event::Message(_))).await {
        Event::Message(message) => *message,
        _ => unreachable!(),
    }
}

/// The next message, acknowledged at once.
pub async fn take(node: &Node, events: &mut Events) -> Message {
    let message = message(events).await;
    node.ack(&message).await.unwrap();
    message
}

pub async fn close(node: &Node) {
    node.close().await;
    assert!(node.exit_status().unwrap().success());
}

#[tokio::test]
async fn two_agents_talk_through_the_sdk() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = node(&home).private_key(test_key(0x70)).open().await.unwrap();
    let (bob, mut to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();

    let look = DiscoverOptions {
        address: Some(alice.address()),
        look_for: Some(Duration::from_secs(20)),
        ..DiscoverOptions::default()
    };
    assert_eq!(bob.discover(look).await.unwrap()[0].peer_id, alice.ready().peer_id);
    let mail = bob.send(alice.address(), "hello").await.unwrap();
    let message_id = mail.message_id.clone();
    let received = take(&alice, &mut to_alice).await;
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
    assert_eq!(take(&alice, &mut to_alice).await.trust, Trust::Allowed);
    mail.delivered().await.unwrap();

    let refused = bob.send("nobody", "hello").await.err().unwrap();
    assert!(!refused.retryable(), "{refused}");
    close(&bob).await;
    close(&alice).await;
}

#[tokio::test]
async fn mail_that_had_no_ack_comes_again_and_is_delivered_when_it_has() {
    let home = TempDir::new().unwrap();
    let taker = node(&home).ack(AckMode::Manual).data_dir(home.path().join("alice"));
    let (alice, mut to_alice) = taker.open().await.unwrap();
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
async fn a_node_that_is_killed_twenty_times_comes_back_as_it_was() {
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
        // Mail that is under way when the node dies is told of, and never sent again.
        let nobody = "0x000000000000000000000000000000000000dEaD";
        let mail = alice.send(nobody, &round).await.unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        assert_eq!(mail.delivered().await.unwrap_err().code(), "SIDECAR_RESTARTED");
        let Event::Restarted { ready, .. } =
            next(&mut events, |event| matches!(event, Event::Restarted { .. })).await
        else {
            unreachable!()
        };
        assert_eq!((&ready.address, &ready.addrs), (&address, &addrs));
        assert!(test_kill_process(pid).is_err(), "the process is left");
        // Both ways, and the subscription lives.
        let mails = [(&bob, alice.address()), (&alice, bob.address())];
        let mut sent = Vec::new();
        for (from, to) in mails {
            sent.push(from.send(to, &round).await.unwrap());
        }
        take(&bob, &mut to_bob).await;
        bob.publish("news", &round).await.unwrap();
        let mut heard = BTreeSet::new();
        while heard.len() < 2 {
            let message = take(&alice, &mut events).await;
            heard.insert((message.topic, message.data.get().to_owned()));
        }
        for mail in sent {
            mail.delivered().await.unwrap();
        }
        let round = round.to_string();
        assert_eq!(heard, [(None, round.clone()), (Some("news".to_owned()), round)].into());
        // Other tests open and close files beside this one, so it is a matter of the trend.
        most_files = most_files.max(open_files());
    }
    assert_eq!(pids.len(), 20);
    assert!(most_files < 400, "{most_files} files are open");
    close(&alice).await;
    close(&bob).await;
}
