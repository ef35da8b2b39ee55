//! gRPC clients in Python and Node.js with the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and wait by the clock"
)]

#[path = "../process/child.rs"]
#[allow(dead_code, reason = "the tests of the process use the rest")]
mod child;
#[path = "../interop/npm.rs"]
mod npm;
#[path = "../interop/python.rs"]
mod python;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use child::{Child, tcp_address, test_key};

const TOKEN: &str = "grpc-test-token-of-32-characters";

/// A language of clients.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    Python,
    Node,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grpc")
}

impl Language {
    /// Returns `true` if clients can run. Otherwise prints why, and fails in CI.
    fn is_installed(self) -> bool {
        static PYTHON: LazyLock<Result<(), String>> = LazyLock::new(|| python::install("grpc"));
        static NODE: LazyLock<Result<(), String>> = LazyLock::new(|| npm::install(&directory()));
        match self {
            Language::Python => npm::is_installed(&PYTHON, "with a gRPC client in Python"),
            Language::Node => npm::is_installed(&NODE, "with a gRPC client in Node.js"),
        }
    }

    /// Starts a client.
    fn client(self, args: &[&str]) -> Child {
        let (program, file) = match self {
            Language::Python => (python::interpreter("grpc"), "client.py"),
            Language::Node => ("node".into(), "client.mjs"),
        };
        let mut command = Command::new(program);
        command.arg(file).args(args).current_dir(directory());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Child::start(TempDir::new().unwrap(), command)
    }
}

/// Waits until a client says that it has got somewhere. A client that fails says why instead.
fn step(client: &Child, step: &str) -> Value {
    let line = client.expect(step, |line| line["type"] == step || line["type"] == "failed");
    assert_eq!(line["type"], step, "{}", line["error"].as_str().unwrap_or_default());
    line
}

/// Starts a node with a gRPC server. Its parent wants no mail.
fn node(grpc: &str, env: &[(&str, &str)]) -> (Child, Value) {
    let key = test_key(0xe1);
    let env = [&[("PRIVATE_KEY", key.as_str())], env].concat();
    let mut node = Child::spawn(&["--grpc", grpc], &env);
    node.command(json!({"type":"connect","protocol":1,"id":"connect","inbox":false}));
    let ready = node.expect("ready", |event| event["type"] == "ready");
    (node, ready)
}

/// As `node`, on TCP and with a token. Also returns the target for clients.
fn tcp_node() -> (Child, Value, String) {
    let (node, ready) = node("127.0.0.1:0", &[("P2P_NODE_GRPC_TOKEN", TOKEN)]);
    let target = ready["grpc"].as_str().expect("the target in `ready`").to_owned();
    (node, ready, target)
}

/// An agent that is connected to the node, with its address.
fn peer(ready: &Value) -> (Child, String) {
    let (mut peer, of_peer) = Child::join(0xe2, 0, &[], &[tcp_address(ready)]);
    peer.until("connected", |status| status["peers"].as_u64() >= Some(1));
    (peer, of_peer["address"].as_str().unwrap().to_owned())
}

fn message(peer: &Child, data: &Value) -> Value {
    peer.expect(&format!("message {data}"), |event| event["type"] == "message" && event["data"] == *data)
}

fn send(from: &mut Child, to: &str, data: &Value) {
    from.command(json!({"type":"send","peerId":to,"data":data,"conversationId":"c"}));
}

/// Waits for a request of a kind, and returns its ticket.
fn ticket(peer: &Child, kind: &str) -> Value {
    let request = peer.expect(kind, |event| event["type"] == "request" && event["kind"] == kind);
    request["ticket"].clone()
}

/// Answers a request with 100 parts, as fast as the asker permits.
fn respond_in_parts(peer: &mut Child, ticket: &Value) {
    for part in 0..100 {
        let id = format!("part-{part}");
        let line = json!({"type":"respond","id":id,"ticket":ticket,"data":part,"last":part == 99});
        peer.command(line.clone());
        while peer.answer(&id)["code"] == "NO_CREDIT" {
            peer.expect("credit", |event| event["type"] == "credit" && event["ticket"] == *ticket);
            peer.command(line.clone());
        }
    }
}

/// The other agent's part of the scenario `tour`.
fn serve_tour(client: &mut Child, peer: &mut Child, own: &str) {
    message(peer, &json!({"hello": 1}));
    let bytes = message(peer, &json!("AP8="));
    assert_eq!(bytes["encoding"], "base64");
    step(client, "listening");
    send(peer, own, &json!("back"));
    peer.expect("delivery", |event| event["state"] == "delivered");
    peer.command(json!({"type":"send","topic":"news","data":"AQ==","encoding":"base64"}));
    message(peer, &json!("published"));
    let respond = |peer: &mut Child, ticket: Value| {
        peer.command(json!({"type":"respond","ticket":ticket,"data":3}));
    };
    let sum = ticket(peer, "sum");
    respond(peer, sum);
    let parts = ticket(peer, "parts");
    respond_in_parts(peer, &parts);
    let sum = ticket(peer, "sum");
    respond(peer, sum);
    let never = ticket(peer, "never");
    step(client, "asked");
    client.write(b"cancel\n");
    peer.expect("the end", |event| event["type"] == "request_cancelled" && event["ticket"] == never);
    step(client, "handles");
    peer.command(json!({"type":"request","id":"echo","peerId":own,"kind":"echo","data":[1]}));
    let response =
        peer.expect("response", |event| event["type"] == "response" && event["requestId"] == "echo");
    assert_eq!(response["data"], json!([1]));
    step(client, "done");
}

fn tour(language: Language) {
    if !language.is_installed() {
        return;
    }
    let (mut node, ready, target) = tcp_node();
    let (mut peer, address) = peer(&ready);
    peer.command(json!({"type":"handle","kinds":["sum","parts","never"]}));
    peer.command(json!({"type":"subscribe","topic":"news-of-peer"}));
    let mut client = language.client(&["tour", &target, TOKEN, &address]);
    let own = step(&client, "connected")["address"].as_str().unwrap().to_owned();
    serve_tour(&mut client, &mut peer, &own);
    assert_eq!(client.wait().code(), Some(0));
    let status = node.until("counted", |_| true);
    assert!(status["counters"]["grpc_calls_refused"].as_u64() >= Some(2), "{}", status["counters"]);
}

#[test]
fn python_client_sends_receives_asks_and_gets_errors() {
    tour(Language::Python);
}

#[test]
fn node_client_sends_receives_asks_and_gets_errors() {
    tour(Language::Node);
}

fn killed_worker(language: Language) {
    if !language.is_installed() {
        return;
    }
    let (_node, ready, target) = tcp_node();
    let (mut peer, _) = peer(&ready);
    let own = ready["address"].as_str().unwrap();
    let start = || {
        let worker = language.client(&["worker", &target, TOKEN]);
        step(&worker, "connected");
        worker
    };
    let mut first = start();
    send(&mut peer, own, &json!("for the first"));
    assert_eq!(step(&first, "message")["data"], "for the first");
    let second = start();
    first.kill();
    for number in 0..20 {
        send(&mut peer, own, &json!(number));
    }
    for number in 0..20 {
        second.expect("a message of the group", |line| line["data"] == number);
    }
}

#[test]
fn messages_of_a_killed_python_client_go_to_another_of_its_group() {
    killed_worker(Language::Python);
}

#[test]
fn messages_of_a_killed_node_client_go_to_another_of_its_group() {
    killed_worker(Language::Node);
}

#[test]
fn client_that_does_not_read_its_events_harms_no_other_and_makes_calls() {
    let language = Language::Python;
    if !language.is_installed() {
        return;
    }
    let (_node, ready, target) = tcp_node();
    let (mut peer, _) = peer(&ready);
    let mut sleeper = language.client(&["sleeper", &target, TOKEN]);
    let worker = language.client(&["worker", &target, TOKEN]);
    step(&sleeper, "connected");
    step(&worker, "connected");
    // Far more than the node and both ends of the connection keep for one client.
    let filler = "x".repeat(100_000);
    let own = ready["address"].as_str().unwrap();
    for number in 0..400 {
        send(&mut peer, own, &json!([number, filler]));
        peer.expect("delivery", |event| event["type"] == "delivery" && event["state"] == "delivered");
        worker.expect_within(Duration::from_secs(60), "a message", |line| line["data"][0] == number);
    }
    sleeper.write(b"status\n");
    step(&sleeper, "status");
}

#[test]
fn unix_socket_needs_no_token_and_stop_ends_the_node() {
    let language = Language::Python;
    if !language.is_installed() {
        return;
    }
    let home = TempDir::new().unwrap();
    let target = format!("unix:{}", home.path().join("grpc.sock").display());
    let (mut node, ready) = node(&target, &[]);
    assert_eq!(ready["grpc"], target);
    let client = language.client(&["stop", &target, "none"]);
    step(&client, "done");
    let closing = node.expect("closing", |event| event["type"] == "closing");
    assert_eq!((closing["reason"].as_str(), node.wait().code()), (Some("signal"), Some(0)));
    assert!(!home.path().join("grpc.sock").exists());
}

#[test]
fn tcp_without_a_token_is_refused_at_the_start() {
    for (env, reason) in [
        (&[][..], "requires P2P_NODE_GRPC_TOKEN"),
        (&[("P2P_NODE_GRPC_TOKEN", "short")], "at least 16 printable characters"),
    ] {
        let child = Child::spawn(&["--grpc", "127.0.0.1:0"], env);
        let error = child.expect("error", |event| event["type"] == "error");
        assert_eq!(error["code"], "INVALID_ARGUMENT");
        assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
        assert_eq!(child.finish().0, 78);
    }
}
