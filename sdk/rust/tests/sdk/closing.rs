//! The end of a node leaves no process and no open file.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::common::{Notes, PATIENCE, child, closed, endless, is_alive, open, refused, signal, until};
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
async fn close_sends_shutdown_then_sigterm_then_sigkill() {
    let (node, mut events) = open("good").await;
    let pid = node.pid().unwrap();
    assert_eq!(ended(&node).await.code(), Some(0));
    assert!(!is_alive(pid));
    assert_eq!(refused(node.ping().await).code(), "CLOSED");
    assert_eq!(ended(&node).await.code(), Some(0), "a second close has no effect");
    assert!(closed(&mut events).await.is_none());

    let (node, _events) = child("stopping").close_timeouts(SHORT, PATIENCE).open().await.unwrap();
    assert_eq!(ended(&node).await.code(), Some(4), "the process exits on SIGTERM");

    let (node, _events) = impatient("deaf").open().await.unwrap();
    assert_eq!(ended(&node).await.signal(), Some(9));
}

#[tokio::test]
async fn close_dropped_early_still_ends_the_process() {
    let (node, mut events) = impatient("deaf").open().await.unwrap();
    let pid = node.pid().unwrap();
    assert!(timeout(Duration::ZERO, node.close()).await.is_err());
    assert!(closed(&mut events).await.is_none());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn concurrent_closes_return_the_same_exit_status() {
    let (node, _events) = impatient("deaf").open().await.unwrap();
    let ends = tokio::join!(ended(&node), ended(&node), ended(&node));
    for end in [ends.0, ends.1, ends.2] {
        assert_eq!(end.signal(), Some(9));
    }
}

#[tokio::test]
async fn close_of_stopped_process_kills_it_and_fails_calls() {
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
async fn close_during_restart_pause_fails_waiting_calls() {
    let slow =
        Restart { first: Duration::from_secs(1000), max: Duration::from_secs(1000), ..Restart::default() };
    let (node, mut events) = child("crash").restart(Some(slow)).open().await.unwrap();
    assert_eq!(refused(node.send("0xB", "1").await).code(), "SIDECAR_RESTARTED");
    let (waiting, end) = tokio::join!(node.ping(), ended(&node));
    assert_eq!((refused(waiting).code(), end.code()), ("CLOSED", Some(70)));
    assert!(closed(&mut events).await.is_none());
}

#[tokio::test]
async fn close_while_next_process_starts_kills_it() {
    let notes = Notes::new();
    let (node, mut events) = notes.then("exec $child crash", "exec $child silent").open().await.unwrap();
    refused(node.send("0xB", "1").await);
    let pid = notes.second().await;
    assert_eq!(ended(&node).await.signal(), Some(9));
    assert!(!is_alive(pid));
    assert!(closed(&mut events).await.is_none());
}

#[test]
fn last_handle_dropped_while_next_process_starts_kills_it_on_an_idle_runtime() {
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
fn last_handle_dropped_on_an_idle_runtime_kills_the_process() {
    let runtime = runtime();
    let (node, mut events) = runtime.block_on(open("deaf"));
    let (pid, other) = (node.pid().unwrap(), node.clone());
    drop(node);
    assert!(is_alive(pid), "another handle exists");
    drop(other);
    // The runtime of the node is idle here; a second runtime provides timers.
    let waiting = self::runtime();
    waiting.block_on(until(|| !is_alive(pid)));
    assert!(waiting.block_on(closed(&mut events)).is_none(), "the events end without an error");
}

#[tokio::test]
async fn open_dropped_early_leaves_no_process() {
    let notes = Notes::new();
    let mut opening = Box::pin(notes.then("exec $child silent", "false").open());
    let started = until(|| !notes.pids().is_empty());
    tokio::select! {
        _ = &mut opening => panic!("the silent process cannot be ready"),
        () = started => {}
    }
    drop(opening);
    let pid = notes.pids()[0];
    until(|| !is_alive(pid)).await;
}

#[test]
fn runtime_dropped_fails_pending_calls_and_ends_events() {
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
async fn closed_and_failed_nodes_leave_no_open_files() {
    // Runs in its own process, because other tests open and close files meanwhile.
    if std::env::var_os("ALONE").is_none() {
        let mut alone = tokio::process::Command::new(std::env::current_exe().unwrap());
        let output = alone
            .args(["--exact", "closing::closed_and_failed_nodes_leave_no_open_files"])
            .env("ALONE", "1")
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let open_files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // The first process makes the runtime open its internal files.
    open("good").await.0.close().await;
    let before = open_files();
    for mode in ["good", "crash", "holder", "partial", "deaf", "stderr"] {
        let (node, mut events) = impatient(mode).open().await.unwrap();
        for _ in 0..2 {
            let died = node.send("0xB", "1").await.is_err();
            if died {
                crate::common::restarted(&mut events).await;
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
