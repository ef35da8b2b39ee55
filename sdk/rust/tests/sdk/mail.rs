//! Mail, acks, buffers and credit, against `sdk/testing/child.sh`.

use std::time::Duration;

use crate::common::{Notes, child, endless, next, refused, restarted, signal, until};
use p2p_node_sdk::{AckMode, Error, Event, Events, Message, Node};
use rustix::process::Signal;
use tokio::task::JoinSet;

/// Runs the fake child in this mode and logs its input.
fn noted(notes: &Notes, mode: &str) -> p2p_node_sdk::Builder {
    let script = format!("note said | $child {mode}");
    notes.then(&script, &script)
}

async fn message(events: &mut Events) -> Message {
    match next(events, |event| matches!(event, Event::Message(_))).await {
        Event::Message(message) => *message,
        _ => unreachable!(),
    }
}

/// Returns the `ack` lines that the SDK wrote.
fn acks(notes: &Notes) -> Vec<String> {
    notes.said().lines().filter(|line| line.contains(r#""type":"ack""#)).map(str::to_owned).collect()
}

fn acked(notes: &Notes, message_id: &str) -> usize {
    acks(notes).iter().filter(|line| line.contains(&format!("\"{message_id}\""))).count()
}

#[tokio::test]
async fn acks_of_fast_program_share_lines_and_name_each_message_once() {
    let notes = Notes::new();
    let (_node, mut events) = noted(&notes, "burst").open().await.unwrap();
    for number in 1..=1000 {
        assert_eq!(message(&mut events).await.message_id, format!("m{number}"));
    }
    events.close();
    let count = || acks(&notes).iter().map(|line| line.matches("\"m").count() - 1).sum::<usize>();
    until(|| count() >= 1000).await;
    assert_eq!(count(), 1000);
    assert!(acks(&notes).len() <= 200, "{} lines", acks(&notes).len());
}

#[tokio::test]
async fn flood_of_broadcasts_and_peer_events_drops_no_mail_and_delays_no_answer() {
    let (node, mut events) = child("flood").broadcast_buffer(3).event_buffer(3).open().await.unwrap();
    node.ping().await.unwrap();
    assert_eq!((events.dropped_broadcasts(), events.dropped_events()), (3997, 3997));
    for number in 1..=20 {
        assert_eq!(message(&mut events).await.message_id, format!("m{number}"));
        if number == 19 {
            let three = ["t3998", "t3999", "t4000"];
            for id in three {
                assert_eq!(message(&mut events).await.message_id, id);
            }
        }
    }
}

#[tokio::test]
async fn ack_of_mail_given_up_by_sender_is_counted() {
    let notes = Notes::new();
    let (node, mut events) = noted(&notes, "gone").open().await.unwrap();
    node.send("0xB", "1").await.unwrap();
    let taken = message(&mut events).await;
    events.close();
    until(|| node.acks_not_found() == 1).await;
    assert_eq!(refused(node.ack(&taken).await).code(), "MESSAGE_NOT_FOUND");
    assert_eq!(node.acks_not_found(), 1, "the error of `node.ack` is not counted");
}

#[tokio::test]
async fn ack_rejected_as_busy_is_repeated() {
    let notes = Notes::new();
    let (node, mut events) = noted(&notes, "busy").open().await.unwrap();
    node.send("0xB", "1").await.unwrap();
    let taken = message(&mut events).await;
    events.close();
    until(|| acked(&notes, &taken.message_id) == 2).await;
}

#[tokio::test]
async fn manual_ack_writes_only_acks_of_the_program() {
    let notes = Notes::new();
    let (node, mut events) = noted(&notes, "manual").ack(AckMode::Manual).open().await.unwrap();
    for _ in 0..3 {
        node.send("0xB", "1").await.unwrap();
        node.publish("t", "1").await.unwrap();
    }
    let mut mail = Vec::new();
    for _ in 0..6 {
        let message = message(&mut events).await;
        node.ack(&message).await.unwrap();
        mail.extend(message.topic.is_none().then_some(message.message_id));
    }
    node.send("0xB", "1").await.unwrap();
    let last = message(&mut events).await;
    events.close();
    node.ping().await.unwrap();
    assert!(mail.len() == 3 && mail.iter().all(|id| acked(&notes, id) == 1));
    assert_eq!((acked(&notes, &last.message_id), acks(&notes).len()), (0, 3));
}

#[tokio::test]
async fn finished_mail_redelivered_after_crash_is_acked_and_not_delivered() {
    let notes = Notes::new();
    let (node, mut events) = noted(&notes, "again").open().await.unwrap();
    assert_eq!(message(&mut events).await.message_id, "x1");
    signal(&node, Signal::KILL);
    let before = notes.said().len();
    next(&mut events, |event| {
        assert!(!matches!(event, Event::Message(_)), "the message was delivered again");
        matches!(event, Event::Restarted { .. })
    })
    .await;
    until(|| notes.said()[before..].contains(r#"{"type":"ack","messageIds":["x1"]"#)).await;
    assert!(node.close().await.is_empty());
}

#[tokio::test]
async fn unread_mail_is_redelivered_after_crash() {
    let notes = Notes::new();
    let (node, _events) = noted(&notes, "again").open().await.unwrap();
    node.ping().await.unwrap();
    let first = node.pid();
    signal(&node, Signal::KILL);
    until(|| node.pid().is_some_and(|pid| Some(pid) != first)).await;
    // The child answers after it has delivered the mail.
    node.ping().await.unwrap();
    let untaken = node.close().await;
    assert_eq!(untaken.len(), 1);
    assert_eq!((untaken[0].message_id.as_str(), acks(&notes).len()), ("x1", 0));
}

#[tokio::test]
async fn close_writes_waiting_acks_and_returns_unread_mail() {
    let notes = Notes::new();
    let (node, mut events) = noted(&notes, "burst").open().await.unwrap();
    for _ in 0..3 {
        message(&mut events).await;
    }
    node.ping().await.unwrap();
    let untaken = node.close().await;
    let wanted: Vec<String> = (4..=1000).map(|number| format!("m{number}")).collect();
    assert_eq!(untaken.into_iter().map(|message| message.message_id).collect::<Vec<_>>(), wanted);
    assert_eq!(
        ["m1", "m2", "m3", "m4"].map(|id| acked(&notes, id)),
        [1, 1, 0, 0],
        "the program still holds `m3`"
    );
    assert!(notes.said().trim_end().ends_with(r#"{"type":"shutdown"}"#));
    next(&mut events, |event| {
        assert!(!matches!(event, Event::Message(_)));
        matches!(event, Event::Closed { .. })
    })
    .await;
}

fn sends(node: &Node, to: &'static str, count: usize, data: &'static str) -> JoinSet<Error> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let node = node.clone();
        calls.spawn(async move { refused(node.send(to, data).await) });
    }
    calls
}

#[tokio::test]
async fn unanswered_sends_stay_within_credit_and_others_overtake_them() {
    let notes = Notes::new();
    // With a limit of 80, half is reserved for commands other than `send`.
    let builder = noted(&notes, "mute").env("MAX_INFLIGHT", "80").call_timeout(Duration::from_secs(2));
    let (node, _events) = builder.open().await.unwrap();
    let mut calls = [sends(&node, "0xB", 30, "1"), sends(&node, "0xC", 30, "1")];
    let written = |to: &str| notes.said().matches(&format!(r#""peerId":"{to}""#)).count();
    until(|| written("0xB") + written("0xC") == 40).await;
    node.ping().await.unwrap();
    assert_eq!([written("0xB"), written("0xC")], [20, 20]);
    for calls in &mut calls {
        let mut retryable = 0;
        while let Some(error) = calls.join_next().await {
            let error = error.unwrap();
            assert_eq!(error.code(), "TIMEOUT");
            retryable += usize::from(error.retryable());
        }
        assert_eq!(retryable, 10, "the sends that were not written");
    }
    assert_eq!(written("0xB") + written("0xC"), 40, "the SDK withdrew the other sends");
}

#[tokio::test]
async fn unanswered_sends_stay_within_credit_in_bytes() {
    let notes = Notes::new();
    let builder = noted(&notes, "mute").env("MAX_INFLIGHT_BYTES", "20");
    let (node, _events) = builder.open().await.unwrap();
    // Each `send` has six bytes, and one recipient gets at most ten.
    let _calls =
        [sends(&node, "0xB", 3, "1234"), sends(&node, "0xC", 3, "1234"), sends(&node, "0xD", 3, "1234")];
    let written = |to: &str| notes.said().matches(&format!(r#""peerId":"{to}""#)).count();
    until(|| ["0xB", "0xC", "0xD"].map(written) == [1, 1, 1]).await;
    node.ping().await.unwrap();
    assert_eq!(["0xB", "0xC", "0xD"].map(written), [1, 1, 1]);
}

#[tokio::test]
async fn unwritten_sends_at_crash_go_to_next_process_in_order() {
    let notes = Notes::new();
    let later = "note later | $child good";
    let (node, mut events) =
        notes.then("note said | $child mute", later).env("MAX_INFLIGHT", "8").open().await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let node = node.clone();
        calls.spawn(async move { (number, node.send("0xB", &number).await) });
    }
    until(|| notes.said().matches(r#""type":"send""#).count() == 2).await;
    signal(&node, Signal::KILL);
    restarted(&mut events).await;
    let (mut lost, mut done) = (Vec::new(), 0);
    while let Some(call) = calls.join_next().await {
        match call.unwrap() {
            (_, Ok(_)) => done += 1,
            (number, Err(error)) => {
                assert_eq!((error.code(), error.retryable()), ("SIDECAR_RESTARTED", false));
                lost.push(number);
            }
        }
    }
    lost.sort_unstable();
    assert_eq!((lost, done), (vec![0, 1], 18));
    let data = |line: &str| line.split_once(r#""data":"#)?.1.split(',').next()?.parse().ok();
    let order: Vec<usize> = notes.read("later").lines().filter_map(data).collect();
    assert_eq!(order, (2..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn child_that_writes_but_does_not_read_is_not_killed() {
    let notes = Notes::new();
    let pausing = "PAUSE_LINES=60 MAX_PAUSE_MS=60 $child pause";
    let (node, _events) = notes.then(pausing, pausing).open().await.unwrap();
    // More bytes than the pipe holds, for three seconds: ten times the timeout of a stuck child.
    node.publish("t", &"x".repeat(1 << 18)).await.unwrap();
    assert_eq!(notes.pids().len(), 1);
}

#[tokio::test]
async fn commands_other_than_send_are_retryable_after_crash() {
    let (node, _events) = child("mute").open().await.unwrap();
    let (search, send) = (node.discover(endless()), node.send("0xB", "1"));
    let kill = async {
        node.ping().await.unwrap();
        signal(&node, Signal::KILL);
    };
    let (search, send, ()) = tokio::join!(search, send, kill);
    let (search, send) = (refused(search), refused(send));
    assert_eq!((search.code(), search.retryable()), ("SIDECAR_RESTARTED", true));
    assert_eq!((send.code(), send.retryable()), ("SIDECAR_RESTARTED", false));
}
