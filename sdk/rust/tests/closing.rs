//! However a node is let go of, nothing of it is left.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use common::{Notes, PATIENCE, child, closed, endless, is_alive, open, refused, signal, until};
use p2p_node_sdk::{Builder, Node, Restart};
use rustix::process::Signal;
use tokio::runtime::{Builder as Runtimes, Runtime};
use tokio::time::timeout;

const SHORT: Duration = Duration::from_millis(50);

async fn ended(node: &Node) -> ExitStatus {
    node.close().await;
    node.exit_status().unwrap()
}

fn impatient(mode: &str) -> Builder {
    child(mode).close_timeouts(SHORT, SHORT)
}

fn runtime() -> Runtime {
    Runtimes::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn close_is_asked_for_then_signalled_then_forced() {
    let (node, mut events) = open("good").await;
    let pid = node.pid().unwrap();
    assert_eq!(ended(&node).await.code(), Some(0));
    assert!(!is_alive(pid));
    assert_eq!(refused(node.ping().await).code(), "CLOSED");
    assert_eq!(ended(&node).await.code(), Some(0), "twice is once");
    assert!(closed(&mut events).await.is_none());

    let (node, _events) = child("stopping").close_timeouts(SHORT, PATIENCE).open().await.unwrap();
    assert_eq!(ended(&node).await.code(), Some(4), "it obeys SIGTERM");

    let (node, _events) = impatient("deaf").open().await.unwrap();
    assert_eq!(ended(&node).await.signal(), Some(9));
}

#[tokio::test]
async fn a_close_that_is_given_up_goes_on() {
    let (node, mut events) = impatient("deaf").open().await.unwrap();
    let pid = node.pid().unwrap();
    assert!(timeout(Duration::ZERO, node.close()).await.is_err());
    assert!(closed(&mut events).await.is_none());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn several_closes_at_the_same_time_end_alike() {
    let (node, _events) = impatient("deaf").open().await.unwrap();
    let ends = tokio::join!(ended(&node), ended(&node), ended(&node));
    for end in [ends.0, ends.1, ends.2] {
        assert_eq!(end.signal(), Some(9));
    }
}

#[tokio::test]
async fn close_is_not_held_up_by_a_node_that_does_not_read() {
    let (node, _events) = impatient("good").open().await.unwrap();
    signal(&node, Signal::STOP);
    let long = "x".repeat(1 << 19);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (node, long) = (node.clone(), long.clone());
            tokio::spawn(async move { node.publish("t", &long).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let status = timeout(PATIENCE, ended(&node)).await.unwrap();
    assert_eq!(status.signal(), Some(9));
    for call in calls {
        assert_eq!(refused(call.await.unwrap()).code(), "CLOSED");
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_closed_and_calls_that_wait_are_told() {
    let slow =
        Restart { first: Duration::from_secs(1000), max: Duration::from_secs(1000), ..Restart::default() };
    let (node, mut events) = child("crash").restart(Some(slow)).open().await.unwrap();
    assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    let (waiting, end) = tokio::join!(node.ping(), ended(&node));
    assert_eq!((refused(waiting).code(), end.code()), ("CLOSED", Some(70)));
    assert!(closed(&mut events).await.is_none());
}

#[tokio::test]
async fn a_process_that_is_being_started_ends_with_a_close() {
    let notes = Notes::new();
    let (node, mut events) = notes.then("exec $child crash", "exec $child silent").open().await.unwrap();
    refused(node.send("0xB", "1").await);
    let pid = notes.second().await;
    assert_eq!(ended(&node).await.signal(), Some(9));
    assert!(!is_alive(pid));
    assert!(closed(&mut events).await.is_none());
}

#[test]
fn a_process_that_is_being_started_ends_with_the_last_handle_without_a_turning_runtime() {
    let (runtime, notes) = (runtime(), Notes::new());
    let (node, events, pid) = runtime.block_on(async {
        let (node, events) = notes.then("exec $child crash", "exec $child silent").open().await.unwrap();
        refused(node.send("0xB", "1").await);
        (node, events, notes.second().await)
    });
    assert!(is_alive(pid));
    drop((node, events));
    self::runtime().block_on(until(|| !is_alive(pid)));
}

#[test]
fn dropping_the_last_handle_kills_without_a_turning_runtime() {
    let runtime = runtime();
    let (node, mut events) = runtime.block_on(open("deaf"));
    let (pid, other) = (node.pid().unwrap(), node.clone());
    drop(node);
    assert!(is_alive(pid), "a handle is left");
    drop(other);
    // Nothing turns the runtime of the node here; another one keeps the time.
    let waiting = self::runtime();
    waiting.block_on(until(|| !is_alive(pid)));
    assert!(waiting.block_on(closed(&mut events)).is_none(), "there is an end to the events");
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let notes = Notes::new();
    let mut opening = Box::pin(notes.then("exec $child silent", "false").open());
    let started = until(|| !notes.pids().is_empty());
    tokio::select! {
        _ = &mut opening => panic!("it is not ready"),
        () = started => {}
    }
    drop(opening);
    let pid = notes.pids()[0];
    until(|| !is_alive(pid)).await;
}

#[test]
fn the_end_of_the_runtime_fails_what_is_pending_and_ends_the_events() {
    let runtime = runtime();
    let (node, mut events) = runtime.block_on(open("good"));
    let pid = node.pid().unwrap();
    let mut search = Box::pin(node.discover(endless()));
    runtime.block_on(async {
        assert!(timeout(Duration::from_millis(20), search.as_mut()).await.is_err());
    });
    drop(runtime);
    let other = self::runtime();
    let error = refused(other.block_on(async { timeout(PATIENCE, search).await }).unwrap());
    assert_eq!(error.code(), "SIDECAR_EXITED");
    assert_eq!(refused(other.block_on(node.ping())).code(), "SIDECAR_EXITED");
    assert!(other.block_on(closed(&mut events)).is_some());
    other.block_on(until(|| !is_alive(pid)));
}

#[tokio::test]
async fn no_file_is_left_open() {
    // In a process of its own, or other tests would open and close files meanwhile.
    if std::env::var_os("ALONE").is_none() {
        let mut alone = tokio::process::Command::new(std::env::current_exe().unwrap());
        let output =
            alone.args(["--exact", "no_file_is_left_open"]).env("ALONE", "1").output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // The first process brings what the runtime itself needs.
    open("good").await.0.close().await;
    let before = open_files();
    for mode in ["good", "crash", "holder", "partial", "deaf", "stderr"] {
        let (node, mut events) = impatient(mode).open().await.unwrap();
        for _ in 0..2 {
            let died = node.send("0xB", "1").await.is_err();
            if died {
                common::restarted(&mut events).await;
            }
        }
        node.close().await;
        until(|| open_files() <= before).await;
    }
    for mode in ["silent", "stuck", "version", "old", "early"] {
        refused(child(mode).ready_timeout(Duration::from_millis(50)).open().await);
        until(|| open_files() <= before).await;
    }
}
