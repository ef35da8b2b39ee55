//! What of a node outlives a process, and what does not.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking")]

mod common;

use std::time::Duration;

use common::{
    Notes, PATIENCE, child, closed, endless, exit_code, next, open, quick, refused, restarted, signal,
};
use p2p_node_sdk::{Event, Restart, SendOptions};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[tokio::test]
async fn a_crash_fails_what_is_under_way_and_the_node_comes_back() {
    let (node, mut events) = open("crash").await;
    node.subscribe("t").await.unwrap();
    let first = node.pid();
    let (one, other) = tokio::join!(node.send("0xB", "1"), node.send("0xB", "2"));
    for error in [refused(one), refused(other)] {
        assert_eq!(
            (error.code(), error.retryable(), exit_code(&error)),
            ("SIDECAR_RESTARTED", false, Some(70))
        );
        assert!(error.to_string().contains("a defect"), "{error}");
    }
    node.ping().await.unwrap();
    assert_ne!(node.pid(), first);
    let restarting = next(&mut events, |event| matches!(event, Event::Restarting { .. })).await;
    let Event::Restarting { attempt: 1, exit: Some(exit), reason, .. } = restarting else {
        panic!("{restarting:?}")
    };
    assert!(exit.code() == Some(70) && reason.contains("a defect"), "{exit}: {reason}");
    next(&mut events, |event| matches!(event, Event::Restarted { attempt: 1, .. })).await;
}

#[tokio::test]
async fn deliveries_that_are_waited_for_fail_with_the_process() {
    let (node, _events) = open("good").await;
    let never = SendOptions { kind: Some("never".to_owned()), ..SendOptions::default() };
    let mail = node.send_with("0xB", "1", never).await.unwrap();
    let other = mail.clone();
    signal(&node, Signal::KILL);
    for mail in [&mail, &other, &mail] {
        assert_eq!(refused(mail.delivered().await).code(), "SIDECAR_RESTARTED");
    }
    node.ping().await.unwrap();
}

#[tokio::test]
async fn three_crashes_are_unhealthy_and_a_node_without_restart_is_gone() {
    let (node, mut events) = open("crash").await;
    for _ in 0..3 {
        assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    }
    next(&mut events, |event| matches!(event, Event::Unhealthy { crashes: 3 })).await;
    let (node, mut events) = child("crash").restart(None).open().await.unwrap();
    for error in [refused(node.send("0xB", "1").await), refused(node.ping().await)] {
        assert_eq!((error.code(), exit_code(&error)), ("SIDECAR_EXITED", Some(70)));
    }
    assert_eq!(closed(&mut events).await.unwrap().code(), "SIDECAR_EXITED");
    node.close().await;
    assert_eq!(node.exit_status().unwrap().code(), Some(70), "how it ended");
    assert!(node.stderr_tail().contains("a defect"));
}

#[tokio::test]
async fn calls_wait_while_there_is_no_process() {
    let slow =
        Restart { first: Duration::from_secs(1000), max: Duration::from_secs(1000), ..Restart::default() };
    let builder = child("crash").restart(Some(slow)).call_timeout(Duration::from_millis(100));
    let (node, _events) = builder.open().await.unwrap();
    assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    let error = refused(node.ping().await);
    assert_eq!((error.code(), error.retryable()), ("SIDECAR_UNAVAILABLE", true));
}

#[tokio::test]
async fn what_was_not_sent_yet_goes_to_the_next_process() {
    let (node, mut events) = open("good").await;
    signal(&node, Signal::STOP);
    // The pipe holds 64 KiB, and as much is on its way to it.
    let long = "x".repeat(16 * 1024);
    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let (node, long) = (node.clone(), long.clone());
        calls.spawn(async move { node.publish("t", &long).await });
    }
    // All of them have got as far as they can once the runtime has nothing else to do.
    tokio::time::sleep(Duration::from_millis(50)).await;
    signal(&node, Signal::KILL);
    let (mut done, mut lost) = (0, 0);
    while let Some(call) = calls.join_next().await {
        match call.unwrap() {
            Ok(_) => done += 1,
            Err(error) => {
                assert_eq!((error.code(), error.retryable()), ("SIDECAR_RESTARTED", false));
                lost += 1;
            }
        }
    }
    assert!(lost >= 4 && done >= 280, "{lost} lost, {done} done");
    restarted(&mut events).await;
}

#[tokio::test]
async fn what_was_carried_out_is_asked_again_and_what_was_taken_back_is_not() {
    let notes = Notes::new();
    let (node, mut events) = notes.listen().open().await.unwrap();
    node.subscribe("kept").await.unwrap();
    node.subscribe("left").await.unwrap();
    node.unsubscribe("left").await.unwrap();
    node.block("0xAB").await.unwrap();
    node.unblock("0xab").await.unwrap();
    node.allow("0xCD").await.unwrap();
    tokio::select! {
        biased;
        _ = node.subscribe("alone") => panic!("it cannot be answered yet"),
        () = std::future::ready(()) => {} // nobody waits for the answer to this one
    }
    node.ping().await.unwrap();
    let before = notes.said().len();
    signal(&node, Signal::KILL);
    restarted(&mut events).await;
    node.ping().await.unwrap();
    let said = notes.said()[before..].to_owned();
    let said: Vec<&str> = said.lines().map(|line| line.split(r#","id":"#).next().unwrap()).collect();
    assert_eq!(
        said,
        [
            r#"{"type":"connect","port":4001,"protocol":1,"maxUnacked":1024"#,
            r#"{"type":"allow","peerId":"0xCD""#,
            r#"{"type":"subscribe","topic":"alone""#,
            r#"{"type":"subscribe","topic":"kept""#,
            r#"{"type":"ping""#,
        ]
    );
}

#[tokio::test]
async fn the_last_words_are_those_of_the_process_that_ended_last() {
    let notes = Notes::new();
    let (node, mut events) = notes.then("exec $child crash", "exec $child early").open().await.unwrap();
    refused(node.send("0xB", "1").await);
    let error = closed(&mut events).await.unwrap();
    assert_eq!((error.code(), exit_code(&error)), ("SIDECAR_EXITED", Some(64)));
    assert!(error.to_string().contains("--nonsense is unknown"), "{error}");
    assert!(node.stderr_tail().contains("--nonsense is unknown"));
}

#[tokio::test]
async fn a_process_that_says_why_it_refuses_may_tell_by_its_exit_code_whether_to_try_again() {
    let notes = Notes::new();
    let refusal = r#"{"type":"error","id":'"${line##*:}"',"code":"IDENTITY_IN_USE","message":"taken","retryable":false}"#;
    let later = format!("read line; line=${{line%\\}}}}; echo '{refusal}'; sleep 0.05; exit 73");
    let (node, mut events) = notes.then("exec $child crash", &later).open().await.unwrap();
    refused(node.send("0xB", "1").await);
    let Event::Restarting { .. } = next(&mut events, |event| matches!(event, Event::Restarting { .. })).await
    else {
        unreachable!()
    };
    assert_eq!(exit_code(&closed(&mut events).await.unwrap()), Some(73));
    assert_eq!(notes.pids().len(), 2);
}

#[tokio::test]
async fn a_process_that_is_not_ready_in_time_is_a_crash_and_the_next_one_may_be() {
    let notes = Notes::new();
    let later = "if mkdir twice 2>/dev/null; then exec $child silent; else exec $child good; fi";
    let builder = notes.then("exec $child crash", later).ready_timeout(Duration::from_millis(500));
    let (node, mut events) = builder.open().await.unwrap();
    refused(node.send("0xB", "1").await);
    next(&mut events, |event| matches!(event, Event::Restarting { attempt: 1, .. })).await;
    let again = next(&mut events, |event| matches!(event, Event::Restarting { attempt: 2, .. })).await;
    assert!(matches!(&again, Event::Restarting { reason, .. } if reason.contains("not ready")), "{again:?}");
    let Event::Restarted { downtime, attempt: 2, .. } =
        next(&mut events, |event| matches!(event, Event::Restarted { .. })).await
    else {
        panic!("another attempt")
    };
    assert!(downtime >= Duration::from_millis(500), "{downtime:?}");
    node.ping().await.unwrap();
}

#[tokio::test]
async fn another_address_ends_the_node() {
    let notes = Notes::new();
    let builder = notes.then("exec $child crash", "$child good | sed -u s/0xA/0xC/");
    let (node, mut events) = builder.open().await.unwrap();
    refused(node.send("0xB", "1").await);
    let error = closed(&mut events).await.unwrap();
    assert_eq!((error.code(), error.retryable()), ("IDENTITY_CHANGED", false));
    assert!(error.to_string().contains("0xA") && error.to_string().contains("0xC"), "{error}");
    assert_eq!(refused(node.ping().await).code(), "IDENTITY_CHANGED");
}

#[tokio::test]
async fn a_line_that_is_cut_off_is_no_event_and_a_grandchild_that_holds_the_pipes_holds_up_nobody() {
    let (_node, mut events) = open("partial").await;
    next(&mut events, |event| {
        assert!(!matches!(event, Event::Message(_)));
        matches!(event, Event::Restarted { .. })
    })
    .await;
    let (node, _events) = open("holder").await;
    let error = timeout(Duration::from_secs(10), node.send("0xB", "1")).await.unwrap();
    assert_eq!(refused(error).code(), "SIDECAR_RESTARTED");
    node.ping().await.unwrap();
}

#[tokio::test]
async fn a_child_that_stops_reading_is_killed_and_replaced() {
    let (node, mut events) = child("good").env("MAX_PAUSE_MS", "20").open().await.unwrap();
    signal(&node, Signal::STOP);
    let long = "x".repeat(1 << 19);
    let (publish, ping) = tokio::join!(node.publish("t", &long), node.discover(endless()));
    let (publish, search) = (refused(publish), refused(ping));
    assert_eq!((publish.code(), publish.retryable()), ("WRITE_TIMEOUT", false));
    assert_eq!((search.code(), search.retryable()), ("WRITE_TIMEOUT", true));
    restarted(&mut events).await;
    node.ping().await.unwrap();
}

#[tokio::test]
async fn a_child_that_reads_slowly_is_left_alone() {
    let notes = Notes::new();
    // 256 KiB take at least 64 of these pauses, so longer than 5 times 100 ms in all.
    let slowly = "while dd bs=4096 count=1 2>/dev/null; do sleep 0.01; done | MAX_PAUSE_MS=100 $child good";
    let (node, _events) = notes.then(slowly, slowly).open().await.unwrap();
    node.publish("t", &"x".repeat(1 << 18)).await.unwrap();
    assert_eq!(notes.pids().len(), 1);
}

#[tokio::test]
async fn searches_end_with_a_crash() {
    let (node, _events) = child("good").restart(Some(quick())).open().await.unwrap();
    let search = node.discover(endless());
    let kill = async {
        node.ping().await.unwrap();
        signal(&node, Signal::KILL);
    };
    let (search, ()) = timeout(PATIENCE, async { tokio::join!(search, kill) }).await.unwrap();
    assert_eq!(refused(search).code(), "SIDECAR_RESTARTED");
}
