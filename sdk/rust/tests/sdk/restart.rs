//! The state and the calls of a node across restarts of its process.

use std::time::Duration;

use crate::common::{
    Notes, PATIENCE, child, closed, endless, exit_code, next, open, quick, refused, restarted, signal,
};
use p2p_node_sdk::{Event, Restart, SendOptions};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[tokio::test]
async fn crash_fails_calls_in_progress_and_restarts_the_node() {
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
async fn awaited_delivery_fails_when_the_process_crashes() {
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
async fn three_crashes_emit_unhealthy_and_restart_none_ends_the_node() {
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
    assert_eq!(node.exit_status().unwrap().code(), Some(70), "the exit status of the last process");
    assert!(node.stderr_tail().contains("a defect"));
}

#[tokio::test]
async fn call_during_restart_pause_fails_with_unavailable_after_timeout() {
    let slow =
        Restart { first: Duration::from_secs(1000), max: Duration::from_secs(1000), ..Restart::default() };
    let builder = child("crash").restart(Some(slow)).call_timeout(Duration::from_millis(100));
    let (node, _events) = builder.open().await.unwrap();
    assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    let error = refused(node.ping().await);
    assert_eq!((error.code(), error.retryable()), ("SIDECAR_UNAVAILABLE", true));
}

#[tokio::test]
async fn sends_unwritten_at_kill_go_to_the_next_process() {
    let (node, mut events) = open("good").await;
    signal(&node, Signal::STOP);
    // The pipe holds 64 KiB, and the SDK buffers as much before it.
    let long = "x".repeat(16 * 1024);
    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let (node, long) = (node.clone(), long.clone());
        calls.spawn(async move { node.publish("t", &long).await });
    }
    // Lets all calls proceed until they wait.
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
async fn restarted_process_gets_desired_state_without_undone_commands() {
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
        _ = node.subscribe("alone") => panic!("the answer cannot have arrived yet"),
        () = std::future::ready(()) => {} // drops the call before its answer
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
async fn stderr_tail_after_second_crash_is_of_the_last_process() {
    let notes = Notes::new();
    let (node, mut events) = notes.then("exec $child crash", "exec $child early").open().await.unwrap();
    refused(node.send("0xB", "1").await);
    let error = closed(&mut events).await.unwrap();
    assert_eq!((error.code(), exit_code(&error)), ("SIDECAR_EXITED", Some(64)));
    assert!(error.to_string().contains("--nonsense is unknown"), "{error}");
    assert!(node.stderr_tail().contains("--nonsense is unknown"));
}

#[tokio::test]
async fn process_that_rejects_connect_with_final_exit_code_ends_the_node() {
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
async fn process_not_ready_in_time_counts_as_crash_and_is_restarted() {
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
        panic!("the event has another attempt")
    };
    assert!(downtime >= Duration::from_millis(500), "{downtime:?}");
    node.ping().await.unwrap();
}

#[tokio::test]
async fn other_address_after_restart_ends_the_node() {
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
async fn line_incomplete_at_exit_is_no_event_and_held_pipe_does_not_delay_restart() {
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
async fn child_that_stops_reading_is_killed_and_replaced() {
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
async fn child_that_reads_slowly_is_not_killed() {
    let notes = Notes::new();
    // 256 KiB take at least 64 of these pauses: more than 5 times 100 ms.
    let slowly = "while dd bs=4096 count=1 2>/dev/null; do sleep 0.01; done | MAX_PAUSE_MS=100 $child good";
    let (node, _events) = notes.then(slowly, slowly).open().await.unwrap();
    node.publish("t", &"x".repeat(1 << 18)).await.unwrap();
    assert_eq!(notes.pids().len(), 1);
}

#[tokio::test]
async fn search_fails_when_the_process_crashes() {
    let (node, _events) = child("good").restart(Some(quick())).open().await.unwrap();
    let search = node.discover(endless());
    let kill = async {
        node.ping().await.unwrap();
        signal(&node, Signal::KILL);
    };
    let (search, ()) = timeout(PATIENCE, async { tokio::join!(search, kill) }).await.unwrap();
    assert_eq!(refused(search).code(), "SIDECAR_RESTARTED");
}
