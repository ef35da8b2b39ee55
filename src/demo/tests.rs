//! Tests of the demo's failures. A process test covers the successful demo with the real binary.

use p2p_node_testing::program::write_program;

use super::*;

/// Creates a shell script that replaces the node.
fn node(script: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node");
    write_program(&path, format!("#!/bin/sh\n{script}\n"));
    (directory, path)
}

fn screen() -> Screen {
    Screen::new(Box::new(io::sink()), 80, false)
}

/// Starts one node whose waits end after the time of a whole scenario.
fn start(binary: &Path, directory: &Path) -> Child {
    let deadline = tokio::time::Instant::now() + SCENARIO_TIMEOUT;
    Child::start(binary, "alice", &[], &[1; 32], directory, &Arc::new(screen()), deadline).expect("started")
}

async fn told(script: &str) -> String {
    let (_directory, binary) = node(script);
    run(&binary, screen()).await.expect_err("a failure").to_string()
}

#[tokio::test]
async fn exited_node_is_reported_with_status_and_stderr_tail() {
    let told = told("echo 'no room' >&2; exit 78").await;
    assert!(told.starts_with("bootstrap "), "{told}");
    assert!(told.contains("exit status: 78") && told.contains("\n  no room"), "{told}");
}

#[tokio::test]
async fn error_event_ends_demo_immediately() {
    let line = r#"{"type":"error","code":"LISTEN_FAILED","message":"port 0 is taken","retryable":true}"#;
    let told = told(&format!("read line; echo '{line}'; read line")).await;
    assert_eq!(told, "bootstrap answered LISTEN_FAILED (port 0 is taken) while ready was awaited");
}

#[tokio::test]
async fn stdout_outside_contract_is_quoted() {
    let told = told("echo 'Hello, world!'; read line; read line").await;
    assert_eq!(told, "bootstrap wrote an invalid event: Hello, world!");
}

#[tokio::test]
async fn missing_binary_is_reported_by_path() {
    let told = run(Path::new("/nonexistent/p2p-node"), screen()).await.expect_err("a failure").to_string();
    assert!(told.starts_with("bootstrap could not be started from /nonexistent/p2p-node: "), "{told}");
}

#[tokio::test]
async fn silent_node_is_reported_with_awaited_event() {
    let (directory, binary) = node("exec sleep 1000");
    let mut child = start(&binary, directory.path());
    child.send("connect", "start", json!({})).await.expect("written");
    child.deadline = tokio::time::Instant::now();
    let error = child.expect("ready", |_| Some(())).await.expect_err("a failure");
    assert_eq!(error.to_string(), "alice did not send ready in time");
    child.stop().await;
}

#[tokio::test]
async fn node_ignoring_shutdown_is_killed_and_reaped() {
    let log = r#"{"type":"log","level":"info","namespace":"test","message":"'$$'"}"#;
    let (directory, binary) = node(&format!("trap '' TERM; echo '{log}'; exec sleep 1000"));
    let mut child = start(&binary, directory.path());
    let pid = child.expect("its process id", |event| match event {
        Event::Log(log) => log.message.parse().ok(),
        _ => None,
    });
    let pid = rustix::process::Pid::from_raw(pid.await.expect("a number")).expect("not zero");
    rustix::process::test_kill_process(pid).expect("it runs");
    child.stop().await;
    assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
}

#[tokio::test]
async fn child_environment_has_no_configuration() {
    let told = told("env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; pwd >&2; ls -a >&2; exit 1").await;
    for variable in ["P2P_NODE_BOOTSTRAP", "P2P_NODE_DATA_DIR", "CARGO_PKG_NAME"] {
        assert!(!told.contains(variable), "{told}");
    }
    assert!(told.contains("PRIVATE_KEY") && told.contains("p2p-node-demo-"), "{told}");
}
