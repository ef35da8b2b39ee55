//! The SDK against a child that misbehaves, `sdk/testing/child.sh`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking")]

use std::time::Duration;

use p2p_node_sdk::{
    Builder, DeliveryState, Discover, Error, Event, Events, Grace, Node, Priority, Restart, Send,
};
use rustix::process::{Pid, test_kill_process};
use tokio::time::timeout;

/// Longer than anything here takes; no test that passes waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

const CHILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/child.sh");

/// Pauses that tests can wait for.
fn quick() -> Restart {
    Restart { first: Duration::from_millis(20), max: Duration::from_millis(100), ..Restart::default() }
}

fn child(mode: &str) -> Builder {
    Node::builder().binary(CHILD).arg(mode).restart(Some(quick()))
}

async fn open(mode: &str) -> (Node, Events) {
    child(mode).open().await.unwrap()
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition never came true");
}

async fn next(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let look = async {
        loop {
            let event = events.next().await.expect("events end too soon");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(PATIENCE, look).await.expect("no such event")
}

fn is_alive(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap()).is_ok()
}

fn exit_code(error: &Error) -> Option<i32> {
    match error {
        Error::Exited { status, .. } | Error::Restarted { status, .. } => {
            status.and_then(|status| status.code())
        }
        _ => panic!("not an end: {error:?}"),
    }
}

fn refused<T>(result: Result<T, Error>) -> Error {
    result.err().expect("it was refused")
}

#[tokio::test]
async fn a_good_child_is_served() {
    let (node, mut events) = open("good").await;
    assert_eq!((node.address(), node.ready().protocol), ("0xA".to_owned(), 1));
    let mail = node.send("0xB", &["hello"]).await.unwrap();
    let message_id = mail.message_id.clone();
    assert_eq!(mail.delivered().await.unwrap().message_id, message_id);
    let Event::Message(message) = next(&mut events, |event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert_eq!(message.data.get(), r#"{"text":"h\u00e9"}"#);
    node.reply(&message, "yes").await.unwrap().delivered().await.unwrap();
    let data = serde_json::value::to_raw_value("hello").unwrap();
    let mail = Send { priority: Some(Priority::Low), ..Send::to_peer("0xB", data) };
    let late = refused(node.post(mail).await.unwrap().delivered().await);
    assert!(matches!(&late, Error::Undelivered(delivery) if delivery.state == DeliveryState::Expired));
    assert_eq!((late.code(), late.retryable()), ("EXPIRED", true));
    assert_eq!(node.publish("t", &1).await.unwrap().peers, 3);
    assert_eq!(node.discover(Discover::default()).await.unwrap()[0].address, "0xB");
    node.subscribe("t").await.unwrap();
    node.unsubscribe("t").await.unwrap();
    for call in [node.block("0xB").await, node.allow("0xB").await, node.unblock("0xB").await] {
        call.unwrap();
    }
    assert_eq!(refused(node.status().await).code(), "CONTRACT", "an answer without status");
    let unknown = refused(node.send("nobody", "hello").await);
    assert_eq!((unknown.code(), unknown.retryable()), ("PEER_NOT_FOUND", true));
    let pid = node.process_id().unwrap();
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(0));
    assert_eq!(refused(node.ping().await).code(), "CLOSED");
    assert!(!is_alive(pid));
    assert!(matches!(
        next(&mut events, |event| matches!(event, Event::Closed { .. })).await,
        Event::Closed { error: None }
    ));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn an_old_binary_and_another_protocol_are_named() {
    for mode in ["version", "old"] {
        let error = refused(child(mode).open().await);
        assert_eq!(error.code(), "VERSION_MISMATCH");
        assert!(error.to_string().contains(CHILD) && error.to_string().contains("0.1.0"), "{error}");
    }
}

#[tokio::test]
async fn a_child_that_is_silent_does_not_read_or_exits_early_is_quoted() {
    for mode in ["silent", "stuck"] {
        let error = refused(child(mode).ready_timeout(Duration::from_millis(100)).open().await);
        assert_eq!((error.code(), error.retryable()), ("NOT_READY", true));
    }
    let error = refused(child("early").open().await);
    assert_eq!(exit_code(&error), Some(64));
    assert!(error.to_string().contains("--nonsense is unknown"), "{error}");
    let error = refused(Node::builder().binary("/nowhere/p2p-node").open().await);
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("SPAWN_FAILED", "cannot start /nowhere/p2p-node")
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn noise_and_long_lines_are_counted_and_passed_over() {
    for (mode, dropped) in [("garbage", 3), ("huge", 1), ("split", 0)] {
        let (node, events) = open(mode).await;
        node.ping().await.unwrap();
        assert!(events.dropped() >= dropped, "{mode}: {}", events.dropped());
        if mode == "split" {
            assert_eq!(node.ready().name, "né");
        }
    }
}

#[tokio::test]
async fn a_flood_on_stderr_stops_nothing() {
    let (node, _events) = open("stderr").await;
    node.ping().await.unwrap();
    until(|| node.stderr_tail().ends_with("the last words\n")).await;
    assert_eq!(node.stderr_tail().len(), 64 * 1024);
}

#[tokio::test]
async fn a_crash_fails_what_is_under_way_and_the_node_comes_back() {
    let (node, mut events) = open("crash").await;
    node.subscribe("t").await.unwrap();
    let first = node.process_id();
    let (one, other) = tokio::join!(node.send("0xB", "1"), node.send("0xB", "2"));
    for error in [refused(one), refused(other)] {
        assert_eq!(
            (error.code(), error.retryable(), exit_code(&error)),
            ("SIDECAR_RESTARTED", true, Some(70))
        );
        assert!(error.to_string().contains("a defect"), "{error}");
    }
    node.ping().await.unwrap();
    assert_ne!(node.process_id(), first);
    let restarting = next(&mut events, |event| matches!(event, Event::Restarting { .. })).await;
    assert!(
        matches!(restarting, Event::Restarting { attempt: 1, status: Some(status), .. } if status.code() == Some(70))
    );
    next(&mut events, |event| matches!(event, Event::Restarted { attempt: 1, .. })).await;
}

#[tokio::test]
async fn deliveries_that_are_waited_for_fail_with_the_process() {
    let (node, _events) = open("crash").await;
    let (other, _more) = open("good").await;
    let data = serde_json::value::to_raw_value("1").unwrap();
    let mail =
        other.post(Send { kind: Some("never".to_owned()), ..Send::to_peer("0xB", data) }).await.unwrap();
    let pid = Pid::from_raw(other.process_id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(refused(mail.delivered().await).code(), "SIDECAR_RESTARTED");
    other.ping().await.unwrap();
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
    let closed = next(&mut events, |event| matches!(event, Event::Closed { .. })).await;
    assert!(matches!(closed, Event::Closed { error: Some(_) }));
    assert!(events.next().await.is_none());
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(70), "how it ended");
}

#[tokio::test]
async fn a_line_that_is_cut_off_is_no_event_and_a_grandchild_that_holds_the_pipe_holds_up_nobody() {
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
async fn calls_that_are_given_up_do_no_harm_and_thousands_share_one_pipe() {
    let (node, _events) = child("good").call_timeout(Duration::from_secs(20)).open().await.unwrap();
    for _ in 0..2000 {
        let given_up = timeout(Duration::ZERO, node.ping()).await;
        assert!(given_up.is_err() || given_up.unwrap().is_ok());
    }
    let never = Discover { capability: Some("never".to_owned()), ..Discover::default() };
    assert!(timeout(Duration::from_millis(50), node.discover(never)).await.is_err());
    let calls: Vec<_> = (0..3000)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.ping().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn events_that_nobody_takes_are_counted_and_hold_up_no_answer() {
    let (node, mut events) = child("good").event_buffer(3).open().await.unwrap();
    for _ in 0..10 {
        node.send("0xB", "1").await.unwrap().delivered().await.unwrap();
    }
    // Of one `ready` and ten messages the newest are kept.
    assert_eq!(events.dropped(), 8);
    for number in [9, 10, 11] {
        let Some(Event::Message(message)) = events.next().await else { panic!("not a message") };
        assert_eq!(message.message_id, format!("r{number}"));
    }
}

#[tokio::test]
async fn shutdown_is_asked_for_then_signalled_then_forced() {
    let short = Grace { drain: Duration::from_millis(50), terminate: Duration::from_millis(50) };
    let (node, _events) = open("deaf").await;
    let pid = node.process_id().unwrap();
    // Given up, it goes on when it is asked for again.
    assert!(timeout(Duration::from_millis(1), node.shutdown(Grace::default())).await.is_err());
    let status = node.shutdown(short).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_node_that_is_down_is_waited_for_and_shut_down() {
    let slow =
        Restart { first: Duration::from_secs(1000), max: Duration::from_secs(1000), ..Restart::default() };
    let builder = child("crash").restart(Some(slow)).call_timeout(Duration::from_millis(100));
    let (node, _events) = builder.open().await.unwrap();
    assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    let error = refused(node.ping().await);
    assert_eq!((error.code(), error.retryable()), ("SIDECAR_UNAVAILABLE", true));
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(70), "how the last one ended");
    assert_eq!(refused(node.ping().await).code(), "CLOSED");
}

#[tokio::test]
async fn a_child_that_stops_reading_is_killed_and_replaced() {
    let builder = child("good").write_timeout(Duration::from_millis(100));
    let (node, mut events) = builder.open().await.unwrap();
    let pid = Pid::from_raw(node.process_id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let long = "x".repeat(1 << 19);
    assert_eq!(refused(node.publish("t", &long).await).code(), "WRITE_TIMEOUT");
    next(&mut events, |event| matches!(event, Event::Restarted { .. })).await;
    node.ping().await.unwrap();
}

#[test]
fn dropping_the_last_handle_kills_without_a_turning_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (node, events) = runtime.block_on(open("deaf"));
    let (pid, other) = (node.process_id().unwrap(), node.clone());
    drop(node);
    assert!(is_alive(pid), "a handle is left");
    drop((other, events));
    // Nothing turns the runtime of the node here; another one keeps the time.
    let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    waiting.block_on(until(|| !is_alive(pid)));
    drop(runtime);
}

#[test]
fn the_end_of_the_runtime_fails_what_is_pending() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (node, _events) = runtime.block_on(open("good"));
    let never = Discover { capability: Some("never".to_owned()), ..Discover::default() };
    let mut search = Box::pin(node.discover(never));
    runtime.block_on(async {
        assert!(timeout(Duration::from_millis(20), search.as_mut()).await.is_err());
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert!(other.block_on(async { timeout(PATIENCE, search).await }).unwrap().is_err());
}
