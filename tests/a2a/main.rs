//! The official A2A SDK for Python on both sides of the network: its client at the gateway of one node, its
//! server behind the gateway of another.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and wait by the clock"
)]

#[path = "../process/child.rs"]
#[allow(dead_code, reason = "the tests of the process use the rest")]
mod child;
mod hostile;
mod http;
#[path = "../interop/npm.rs"]
#[allow(dead_code, reason = "other tests install npm packages")]
mod npm;
#[path = "../interop/python.rs"]
mod python;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use child::{Child, tcp_address};

/// The address of no agent.
const NOBODY: &str = "0x00000000000000000000000000000000000000a5";

/// Returns `true` if the SDK can run. Otherwise prints why, and fails in CI.
fn is_installed() -> bool {
    static PYTHON: LazyLock<Result<(), String>> = LazyLock::new(|| python::install("a2a"));
    npm::is_installed(&PYTHON, "with the A2A SDK")
}

/// Starts a program of the SDK.
fn program(file: &str, args: &[&str]) -> Child {
    let mut command = Command::new(python::interpreter("a2a"));
    command.arg(file).args(args);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/a2a"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Child::start(TempDir::new().unwrap(), command)
}

/// Waits until a program says that it has got somewhere. One that fails says why instead.
fn step(program: &Child, step: &str) -> Value {
    let line = program.expect(step, |line| line["type"] == step || line["type"] == "failed");
    assert_eq!(line["type"], step, "{}", line["error"].as_str().unwrap_or_default());
    line
}

/// An A2A server, and where it listens.
fn server(args: &[&str]) -> (Child, String) {
    let server = program("server.py", args);
    let url = step(&server, "serving")["url"].as_str().unwrap().to_owned();
    (server, url)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}

/// Two nodes that are connected, each with a gateway.
struct Pair {
    asker: Child,
    of_asker: Value,
    agent: Child,
    of_agent: Value,
}

impl Pair {
    /// The second node is an agent with this A2A server, if any.
    fn new(server: Option<&str>) -> Pair {
        let gateway = ["--a2a", "127.0.0.1:0"];
        let (mut asker, of_asker) = Child::join(0xa1, 0, &gateway, &[]);
        let of_server = server.map(|url| ["--a2a-server", url]);
        let args: Vec<&str> = gateway.into_iter().chain(of_server.into_iter().flatten()).collect();
        let (agent, of_agent) = Child::join(0xa2, 0, &args, &[tcp_address(&of_asker)]);
        asker.until("connected", |status| status["peers"].as_u64() >= Some(1));
        Pair { asker, of_asker, agent, of_agent }
    }

    fn address(&self) -> String {
        text(&self.of_agent["address"])
    }

    fn client(&self, scenario: &str) -> Child {
        self.client_of(scenario, &self.address())
    }

    fn client_of(&self, scenario: &str, agent: &str) -> Child {
        program("client.py", &[scenario, &text(&self.of_asker["a2a"]), agent])
    }
}

#[test]
fn client_gets_the_signed_card_and_the_answers_of_a_server_by_address() {
    if !is_installed() {
        return;
    }
    let (server, url) = server(&[]);
    let mut pair = Pair::new(Some(&url));
    let mut client = pair.client("tour");
    assert_eq!(step(&client, "card")["name"], "Test agent");
    let call = step(&server, "call");
    assert_eq!(call["asker"], pair.of_asker["address"]);
    assert_eq!(call["extensions"], "https://example.org/ext");
    step(&client, "done");
    assert_eq!(client.wait().code(), Some(0));
    pair.asker.command(json!({"type":"discover","id":"d","capability":"a2a"}));
    let found = pair.asker.expect("the agent", |event| event["requestId"] == "d");
    assert_eq!(found["address"], pair.of_agent["address"]);
}

#[test]
fn client_streams_follows_and_cancels_a_task() {
    if !is_installed() {
        return;
    }
    let (server, url) = server(&[]);
    let pair = Pair::new(Some(&url));
    let mut client = pair.client("stream");
    step(&client, "streamed");
    let task = step(&client, "waiting")["task"].clone();
    step(&client, "done");
    assert_eq!(step(&server, "left")["task"], task);
    assert_eq!(client.wait().code(), Some(0));
}

#[test]
fn notifications_reach_the_web_hook_of_a_program_through_the_network() {
    if !is_installed() {
        return;
    }
    let (_server, url) = server(&[]);
    let pair = Pair::new(Some(&url));
    let client = pair.client("push");
    let task = step(&client, "sent")["task"].clone();
    let completed = client.expect("the completion", |line| {
        assert_ne!(line["type"], "failed", "{line}");
        line["body"]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    });
    assert_eq!(completed["body"]["statusUpdate"]["taskId"], task);
    assert_eq!((&completed["token"], &completed["authorization"]), (&json!("secret"), &json!("Bearer abc")));
    step(&client, "done");
}

#[test]
fn server_that_comes_back_is_reached_again() {
    if !is_installed() {
        return;
    }
    let (mut first, url) = server(&[]);
    let pair = Pair::new(Some(&url));
    let mut client = pair.client("restarted");
    client.write(b"one\n");
    assert_eq!(step(&client, "answer")["text"], "one");
    first.kill();
    client.write(b"two\n");
    assert_eq!(step(&client, "error")["data"]["handlerCode"], "AGENT_UNAVAILABLE");
    let (_second, again) = server(&[url.rsplit(':').next().unwrap()]);
    assert_eq!(again, url);
    client.write(b"three\n");
    assert_eq!(step(&client, "answer")["text"], "three");
}

/// Returns what the client sees of an agent that does not answer: the status of the card, and the data of the
/// errors of a call and of a stream.
fn failure(pair: &Pair, agent: &str) -> (u64, Value) {
    let line = step(&pair.client_of("failing", agent), "failed-as-expected");
    let codes = line["codes"].as_array().unwrap();
    assert!(codes.iter().all(|code| code[0] == "InternalError"), "{line}");
    assert_eq!(codes[0][1], codes[1][1], "{line}");
    (line["status"].as_u64().unwrap(), codes[0][1].clone())
}

#[test]
fn agent_without_a_server_and_a_server_that_is_down_are_told_apart() {
    if !is_installed() {
        return;
    }
    let bare = Pair::new(None);
    assert_eq!(failure(&bare, &bare.address()), (503, json!({"code": "NO_HANDLER"})));
    let (mut server, url) = server(&[]);
    server.kill();
    let down = Pair::new(Some(&url));
    assert_eq!(failure(&down, NOBODY), (503, json!({"code": "PEER_NOT_FOUND"})));
    let unavailable = json!({"code": "HANDLER_FAILED", "handlerCode": "AGENT_UNAVAILABLE"});
    assert_eq!(failure(&down, &down.address()), (502, unavailable));
}
