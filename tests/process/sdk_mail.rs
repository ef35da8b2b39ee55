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

use crate::child::SOON;
use crate::sdk::{close, first_addr, message, node};

/// Messages that a program has taken.
type Taken = Arc<Mutex<BTreeSet<String>>>;

fn has(taken: &Taken, message_id: &str) -> bool {
    taken.lock().unwrap_or_else(PoisonError::into_inner).contains(message_id)
}

/// Sends, again while the node says that a queue is full.
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

/// Takes messages, with a call for each.
async fn work(node: Node, mut events: Events, taken: Taken, count: usize) {
    for _ in 0..count {
        let message = message(&mut events).await;
        node.ping().await.unwrap();
        assert!(taken.lock().unwrap().insert(message.message_id), "it was handed over twice");
    }
    events.close();
}

fn pid(node: &Node) -> Pid {
    Pid::from_raw(node.pid().unwrap().cast_signed()).unwrap()
}

#[tokio::test]
async fn mail_that_is_told_delivered_was_taken_by_a_program_that_is_slower_than_its_mail() {
    const MAILS: usize = 5000;
    let home = TempDir::new().unwrap();
    let (alice, to_alice) = node(&home).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let taken = Taken::default();
    let working = tokio::spawn(work(alice.clone(), to_alice, Arc::clone(&taken), MAILS));
    let mut deliveries = JoinSet::new();
    for number in 0..MAILS {
        let mail = send(&bob, &alice.address(), &number.to_string(), Duration::from_secs(600)).await;
        let taken = Arc::clone(&taken);
        deliveries.spawn(async move {
            mail.delivered().await.unwrap();
            assert!(has(&taken, &mail.message_id), "nobody has taken what was delivered");
        });
    }
    assert_eq!(deliveries.join_all().await.len(), MAILS);
    working.await.unwrap();
    assert_eq!(taken.lock().unwrap().len(), MAILS);
    assert_eq!((alice.mail_dropped(), alice.acks_not_found()), (0, 0));
    close(&bob).await;
    close(&alice).await;
}

#[tokio::test]
async fn mail_that_a_program_did_not_finish_before_it_died_is_not_told_delivered() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = node(&home).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let mut mails = Vec::new();
    for number in 0..100 {
        mails.push(send(&bob, &alice.address(), &number.to_string(), Duration::from_secs(5)).await);
    }
    let died = tokio::spawn(async move {
        for _ in 0..10 {
            message(&mut to_alice).await;
        }
        panic!("a defect of the program");
    });
    assert!(died.await.unwrap_err().is_panic());
    let mut outcomes = Vec::new();
    for mail in &mails {
        outcomes.push(mail.delivered().await.map_err(|error| error.code()).err());
    }
    let mut wanted = vec![None; 9];
    wanted.resize(100, Some("EXPIRED"));
    assert_eq!(outcomes, wanted);
    // Nobody loses sight of them: the program gets what it did not take.
    assert_eq!(alice.close().await.len(), 90);
    close(&bob).await;
}

#[tokio::test]
async fn close_returns_what_the_program_has_not_taken_and_no_sender_is_told_delivered() {
    let home = TempDir::new().unwrap();
    let (alice, mut to_alice) = node(&home).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([first_addr(&alice)]).open().await.unwrap();
    let mut mails = Vec::new();
    for number in 0..20 {
        mails.push(send(&bob, &alice.address(), &number.to_string(), Duration::from_secs(5)).await);
    }
    for _ in 0..5 {
        message(&mut to_alice).await;
    }
    to_alice.close();
    for mail in &mails[..5] {
        mail.delivered().await.unwrap();
    }
    // Mail that the node has not handed over yet is not the program's.
    alice.ping().await.unwrap();
    let untaken: BTreeSet<String> =
        alice.close().await.into_iter().map(|message| message.message_id).collect();
    assert!(untaken.len() <= 15);
    for mail in &mails[5..] {
        assert_eq!(mail.delivered().await.unwrap_err().code(), "EXPIRED");
    }
    assert!(untaken.iter().all(|id| mails[5..].iter().any(|mail| mail.message_id == *id)));
    close(&bob).await;
}

#[tokio::test]
async fn agents_that_send_thousands_before_they_read_finish_and_no_node_is_killed() {
    const MAILS: usize = 4000;
    let home = TempDir::new().unwrap();
    let patient = |home| node(home).ack(AckMode::Manual).call_timeout(Duration::from_secs(600));
    let (alice, to_alice) = patient(&home).open().await.unwrap();
    let entry = first_addr(&alice);
    let (bob, to_bob) = patient(&home).bootstrap_peers([entry]).open().await.unwrap();
    let pids = [pid(&alice), pid(&bob)];
    let data = "x".repeat(1000);
    let live = |node: Node, mut events: Events, other: String, data: String| async move {
        let mut sending = JoinSet::new();
        for _ in 0..MAILS {
            let (node, other, data) = (node.clone(), other.clone(), data.clone());
            sending.spawn(async move { send(&node, &other, &data, Duration::from_secs(600)).await });
        }
        // More than the node has room for is on its way before the program looks at what comes.
        while node.status().await.unwrap().outbox < 500 {}
        for _ in 0..MAILS {
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
            live(alice.clone(), to_alice, to_b, data.clone()),
            live(bob.clone(), to_bob, to_a, data)
        );
    };
    timeout(Duration::from_secs(240), both).await.expect("they wait for each other");
    assert_eq!([pid(&alice), pid(&bob)], pids);
    close(&alice).await;
    close(&bob).await;
}

#[tokio::test]
async fn a_recipient_that_stops_reading_costs_neither_the_senders_node_nor_mail_to_others() {
    let home = TempDir::new().unwrap();
    let (alice, _to_alice) = node(&home).open().await.unwrap();
    let entry = first_addr(&alice);
    let (carol, to_carol) = node(&home).bootstrap_peers([entry.clone()]).open().await.unwrap();
    let (bob, _to_bob) = node(&home).bootstrap_peers([entry]).open().await.unwrap();
    let taken = Taken::default();
    let working = tokio::spawn(work(carol.clone(), to_carol, taken, 201));
    // They find each other through alice.
    let first = send(&bob, &carol.address(), "first", Duration::from_secs(60)).await;
    timeout(SOON, first.delivered()).await.unwrap().unwrap();
    let bobs = pid(&bob);
    kill_process(pid(&alice), Signal::STOP).unwrap();
    let mut stuck = JoinSet::new();
    for _ in 0..4000 {
        let (bob, to, data) = (bob.clone(), alice.address(), "x".repeat(1000));
        stuck.spawn(async move { bob.send(to, &data).await.map(drop) });
    }
    for number in 0..200 {
        let mail = send(&bob, &carol.address(), &number.to_string(), Duration::from_secs(60)).await;
        timeout(SOON, mail.delivered()).await.expect("it does not flow").unwrap();
    }
    working.await.unwrap();
    assert_eq!(pid(&bob), bobs, "the node of the sender lives");
    stuck.abort_all();
    drop(alice);
}
