//! Delivery states that the Rust SDK reports to the sender match the messages that the recipient's
//! program got.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use p2p_node_sdk::{AckMode, Error, ErrorCode, Events, Node, SendOptions, SentMessage};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::child::TIMEOUT;
use crate::sdk::{close, first_addr, message, node};

/// Ids of the messages that a program has processed.
type Processed = Arc<Mutex<BTreeSet<String>>>;

fn has(processed: &Processed, message_id: &str) -> bool {
    processed.lock().unwrap_or_else(PoisonError::into_inner).contains(message_id)
}

/// Sends a message, again while the node answers `BUSY`.
async fn send(node: &Node, to: &str, data: &str, ttl: Duration) -> SentMessage {
    loop {
        let options = SendOptions { ttl: Some(ttl), ..SendOptions::default() };
        match node.send_with(to, data, options).await {
            Ok(mail) => return mail,
            Err(Error::CommandRefused { code: ErrorCode::Busy, .. }) => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Processes messages with one call for each.
async fn process_messages(node: Node, mut events: Events, processed: Processed, count: usize) {
    for _ in 0..count {
        let message = message(&mut events).await;
        node.ping().await.unwrap();
        assert!(processed.lock().unwrap().insert(message.message_id), "the program got a message twice");
    }
    events.close();
}

fn pid(node: &Node) -> Pid {
    Pid::from_raw(node.pid().unwrap().cast_signed()).unwrap()
}

#[tokio::test]
async fn delivered_messages_were_processed_by_slow_program() {
    const MESSAGES: usize = 5000;
    let home = TempDir::new().unwrap();
    let (alice, to_alice) = node(&home).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let processed = Processed::default();
    let working = tokio::spawn(process_messages(alice.clone(), to_alice, Arc::clone(&processed), MESSAGES));
    let mut deliveries = JoinSet::new();
    for number in 0..MESSAGES {
        let mail = send(&bob, &alice.address(), &number.to_string(), Duration::from_secs(600)).await;
        let processed = Arc::clone(&processed);
        deliveries.spawn(async move {
            mail.delivered().await.unwrap();
            assert!(has(&processed, &mail.message_id), "a delivered message was not processed");
        });
    }
    assert_eq!(deliveries.join_all().await.len(), MESSAGES);
    working.await.unwrap();
    assert_eq!(processed.lock().unwrap().len(), MESSAGES);
    assert_eq!((alice.mail_dropped(), alice.acks_not_found()), (0, 0));
    close(&bob).await;
    close(&alice).await;
}

#[tokio::test]
async fn unprocessed_messages_of_failed_program_are_not_delivered() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = node(&home).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let mut sent = Vec::new();
    for number in 0..100 {
        sent.push(send(&bob, &alice.address(), &number.to_string(), Duration::from_secs(5)).await);
    }
    let program = tokio::spawn(async move {
        for _ in 0..10 {
            message(&mut to_alice).await;
        }
        panic!("a defect of the program");
    });
    assert!(program.await.unwrap_err().is_panic());
    let mut outcomes = Vec::new();
    for mail in &sent {
        outcomes.push(mail.delivered().await.map_err(|error| error.code()).err());
    }
    let mut expected = vec![None; 9];
    expected.resize(100, Some("EXPIRED"));
    assert_eq!(outcomes, expected);
    // `close` returns the messages that the program did not process.
    assert_eq!(alice.close().await.len(), 90);
    close(&bob).await;
}

#[tokio::test]
async fn close_returns_unprocessed_messages_which_are_not_delivered() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = node(&home).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(send(&bob, &alice.address(), &number.to_string(), Duration::from_secs(5)).await);
    }
    for _ in 0..5 {
        message(&mut to_alice).await;
    }
    to_alice.close();
    for mail in &sent[..5] {
        mail.delivered().await.unwrap();
    }
    // `close` returns only messages that the node has delivered.
    alice.ping().await.unwrap();
    let unprocessed: BTreeSet<String> =
        alice.close().await.into_iter().map(|message| message.message_id).collect();
    assert!(unprocessed.len() <= 15);
    for mail in &sent[5..] {
        assert_eq!(mail.delivered().await.unwrap_err().code(), "EXPIRED");
    }
    assert!(unprocessed.iter().all(|id| sent[5..].iter().any(|mail| mail.message_id == *id)));
    close(&bob).await;
}

#[tokio::test]
async fn agents_that_send_thousands_before_they_read_finish() {
    const MESSAGES: usize = 4000;
    let home = TempDir::new().unwrap();
    let patient_node = |home| node(home).ack(AckMode::Manual).call_timeout(Duration::from_secs(600));
    let (alice, to_alice) = patient_node(&home).open().await.unwrap();
    let entry = first_addr(&alice);
    let (bob, to_bob) = patient_node(&home).bootstrap_peers([entry]).open().await.unwrap();
    let pids = [pid(&alice), pid(&bob)];
    let data = "x".repeat(1000);
    let exchange = |node: Node, mut events: Events, other: String, data: String| async move {
        let mut sending = JoinSet::new();
        for _ in 0..MESSAGES {
            let (node, other, data) = (node.clone(), other.clone(), data.clone());
            sending.spawn(async move { send(&node, &other, &data, Duration::from_secs(600)).await });
        }
        // The outbox is full before the program processes its first message.
        while node.status().await.unwrap().outbox < 500 {}
        for _ in 0..MESSAGES {
            let message = message(&mut events).await;
            node.ack(&message).await.unwrap();
        }
        for mail in sending.join_all().await {
            mail.delivered().await.unwrap();
        }
    };
    let (to_a, to_b) = (alice.address(), bob.address());
    let both = async {
        tokio::join!(
            exchange(alice.clone(), to_alice, to_b, data.clone()),
            exchange(bob.clone(), to_bob, to_a, data)
        );
    };
    timeout(Duration::from_secs(240), both).await.expect("the agents block each other");
    assert_eq!([pid(&alice), pid(&bob)], pids);
    close(&alice).await;
    close(&bob).await;
}

#[tokio::test]
async fn recipient_that_stops_reading_delays_no_other_mail() {
    let home = TempDir::new().unwrap();
    let (alice, _to_alice) = node(&home).open().await.unwrap();
    let entry = first_addr(&alice);
    let (carol, to_carol) = node(&home).bootstrap_peers([entry.clone()]).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([entry]).open().await.unwrap();
    let processed = Processed::default();
    let working = tokio::spawn(process_messages(carol.clone(), to_carol, processed, 201));
    // Bob and carol discover each other through alice.
    let first = send(&bob, &carol.address(), "first", Duration::from_secs(60)).await;
    timeout(TIMEOUT, first.delivered()).await.unwrap().unwrap();
    let bob_pid = pid(&bob);
    kill_process(pid(&alice), Signal::STOP).unwrap();
    let mut stalled = JoinSet::new();
    for _ in 0..4000 {
        let (bob, to, data) = (bob.clone(), alice.address(), "x".repeat(1000));
        stalled.spawn(async move { bob.send(to, &data).await.map(drop) });
    }
    for number in 0..200 {
        let mail = send(&bob, &carol.address(), &number.to_string(), Duration::from_secs(60)).await;
        timeout(TIMEOUT, mail.delivered()).await.expect("no delivery in time").unwrap();
    }
    working.await.unwrap();
    assert_eq!(pid(&bob), bob_pid, "the sender's node was restarted");
    stalled.abort_all();
    drop(alice);
}
