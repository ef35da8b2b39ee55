//! `p2p-node mcp` with the official clients of MCP in Python and TypeScript, as hosts start it.
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

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use child::{Child, TIMEOUT, command, tcp_address};

/// A language of hosts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Language {
    /// Speaks MCP of 2026-07-28.
    Python,
    /// Speaks MCP of 2025-11-25, with a handshake.
    TypeScript,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp")
}

impl Language {
    /// Returns `true` if hosts can run. Otherwise prints why, and fails in CI.
    fn is_installed(self) -> bool {
        static PYTHON: LazyLock<Result<(), String>> = LazyLock::new(|| python::install("mcp"));
        static NODE: LazyLock<Result<(), String>> = LazyLock::new(|| npm::install(&directory()));
        match self {
            Language::Python => npm::is_installed(&PYTHON, "with a host of MCP in Python"),
            Language::TypeScript => npm::is_installed(&NODE, "with a host of MCP in TypeScript"),
        }
    }

    /// Returns the program of the host, and its file.
    fn program(self) -> (PathBuf, PathBuf) {
        match self {
            Language::Python => (python::interpreter("mcp"), directory().join("host.py")),
            Language::TypeScript => ("node".into(), directory().join("host.mjs")),
        }
    }
}

/// The home of an agent, whose daemon ends with it.
struct Home(TempDir);

impl Home {
    fn socket(&self) -> PathBuf {
        self.0.path().join("node.sock")
    }

    /// Returns the command of a program with the settings of nodes in tests.
    fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut found = Command::new(program);
        let node = command(self.0.path());
        found.env_clear().envs(node.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // Python and Node.js are found there.
        found.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        found.current_dir(self.0.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        found
    }

    /// Starts a host and waits until its client and the server have met.
    fn host(&self, language: Language) -> Host {
        let (program, file) = language.program();
        let (socket, data) = (self.socket(), self.0.path().join("data"));
        let mut host = self.program(program);
        host.arg(file).arg(env!("CARGO_BIN_EXE_p2p-node")).arg("mcp").arg("--socket").arg(socket);
        host.args(["--", "--data-dir"]).arg(data);
        let process = Child::start(TempDir::new().unwrap(), host);
        let connected = process.expect("connected", |line| line["type"] == "connected");
        assert_eq!(connected["server"], "p2p-node");
        let version = if language == Language::Python { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(connected["version"], version);
        process.expect("watches", |line| line["type"] == "watches");
        Host { process, asked: 0 }
    }

    /// Returns what `whoami` tells of the daemon.
    fn whoami(&self) -> Value {
        let mut whoami = self.program(env!("CARGO_BIN_EXE_p2p-node"));
        let output = whoami.args(["whoami", "--json", "--socket"]).arg(self.socket()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Home {
    /// Returns `true` while a server of MCP, or its connection to the daemon, has not ended. It would start
    /// another daemon.
    fn is_served(&self) -> bool {
        let socket = self.socket().to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        lines.any(|line| {
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&socket) && !line.contains("\0daemon\0")
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let deadline = std::time::Instant::now() + TIMEOUT;
        while self.is_served() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        if let Ok(stream) = UnixStream::connect(self.socket())
            && let Ok(daemon) = rustix::net::sockopt::socket_peercred(&stream)
        {
            let _ = kill_process(daemon.pid, Signal::KILL);
        }
    }
}

/// A host of MCP.
struct Host {
    process: Child,
    asked: u64,
}

impl Host {
    fn begin(&mut self, mut command: Value) -> u64 {
        self.asked += 1;
        command["id"] = self.asked.into();
        self.process.command(command);
        self.asked
    }

    fn answer(&self, id: u64) -> Value {
        self.process.expect("an answer", |line| line["type"] == "answer" && line["id"] == id)
    }

    fn ask(&mut self, command: Value) -> Value {
        let id = self.begin(command);
        self.answer(id)
    }

    /// Calls a tool that succeeds.
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut answer = self.ask(json!({"do": "call", "tool": tool, "arguments": arguments}));
        assert_eq!(answer["isError"], false, "{tool}: {answer}");
        answer["value"].take()
    }

    /// Calls a tool that fails, and returns the code.
    fn fail(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.ask(json!({"do": "call", "tool": tool, "arguments": arguments}));
        assert_eq!(answer["isError"], true, "{tool}: {answer}");
        answer["value"]["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Waits for this number of messages. Returns their data and ids.
    fn messages(&mut self, count: usize, acknowledge: &[Value]) -> Vec<(Value, Value)> {
        let mut messages = Vec::new();
        let mut acknowledge = json!(acknowledge);
        while messages.len() < count {
            let arguments = json!({"acknowledge": acknowledge.take(), "timeout_seconds": 20});
            acknowledge = json!([]);
            let got = self.call("wait_for_messages", arguments);
            let new = got["messages"].as_array().unwrap();
            assert!(!new.is_empty(), "no message in time; so far: {messages:?}");
            assert!(got["warning"].as_str().unwrap().contains("untrusted"));
            messages
                .extend(new.iter().map(|message| (message["data"].clone(), message["messageId"].clone())));
        }
        messages
    }
}

/// An agent that is connected to the daemon, with both addresses.
fn peer(home: &Home) -> (Child, String, String) {
    let whoami = home.whoami();
    let (mut peer, ready) = Child::join(0xda, 0, &[], &[tcp_address(&whoami)]);
    peer.until("connected", |status| status["peers"].as_u64() >= Some(1));
    let address = |value: &Value| value["address"].as_str().unwrap().to_owned();
    (peer, address(&ready), address(&whoami))
}

fn send(peer: &mut Child, to: &str, data: &str) {
    peer.command(json!({"type": "send", "id": data, "peerId": to, "data": data}));
}

fn is_delivered(peer: &Child, id: &str) {
    peer.expect("delivery", |event| event["requestId"] == id && event["state"] == "delivered");
}

/// The host is killed after it has read messages, and started again: what it had not acknowledged comes again.
fn host_is_killed(language: Language) {
    if !language.is_installed() {
        return;
    }
    let home = Home(TempDir::new().unwrap());
    let mut host = home.host(language);
    let (mut peer, _, agent) = peer(&home);
    ["one", "two", "three"].iter().for_each(|data| send(&mut peer, &agent, data));
    let read = host.messages(3, &[]);
    assert_eq!(read.iter().map(|(data, _)| data).collect::<Vec<_>>(), ["one", "two", "three"]);
    host.process
        .expect("a notification", |line| line["type"] == "updated" && line["uri"] == "p2p-node://inbox");
    let got = host.call("check_inbox", json!({"acknowledge": [read[1].1]}));
    assert_eq!(
        (&got["acknowledged"], &got["messages"], &got["unacknowledged"]),
        (&json!(1), &json!([]), &json!(2))
    );
    is_delivered(&peer, "two");
    let again = host.call("check_inbox", json!({"again": true}));
    assert_eq!(again["messages"].as_array().unwrap().len(), 2, "{again}");
    host.process.kill();
    send(&mut peer, &agent, "four");

    let mut host = home.host(language);
    let read = host.messages(3, &[]);
    assert_eq!(read.iter().map(|(data, _)| data).collect::<Vec<_>>(), ["one", "three", "four"]);
    assert_eq!(peer.take(|event| event["type"] == "delivery"), None, "only what the host has handled");
    let ids: Vec<Value> = read.into_iter().map(|(_, id)| id).collect();
    let got = host.call("check_inbox", json!({"acknowledge": ids}));
    assert_eq!((&got["acknowledged"], &got["unacknowledged"]), (&json!(3), &json!(0)), "{got}");
    ["one", "three", "four"].iter().for_each(|id| is_delivered(&peer, id));
}

/// Each tool and each resource, once.
fn tools_and_resources_work(language: Language) {
    if !language.is_installed() {
        return;
    }
    let home = Home(TempDir::new().unwrap());
    let mut host = home.host(language);
    let (mut peer, other, agent) = peer(&home);
    let tools = host.ask(json!({"do": "tools"}));
    assert_eq!(tools["tools"].as_array().unwrap().len(), 9, "{tools}");
    assert_eq!(host.call("my_identity", json!({}))["address"], agent.as_str());
    mail_and_questions(&mut host, &mut peer, &other);
    let _ = host.call("subscribe", json!({"topic": "builds"}));
    peer.command(json!({"type": "subscribe", "id": "sub", "topic": "builds"}));
    peer.answer("sub");
    peer.command(json!({"type": "send", "id": "b", "topic": "builds", "data": "red"}));
    assert_eq!(host.messages(1, &[])[0].0, "red");
    host.call("publish", json!({"topic": "builds", "data": "green"}));
    peer.expect("a broadcast", |event| event["topic"] == "builds" && event["data"] == "green");
    let found = host.call("discover_agents", json!({"address": other}));
    assert_eq!(found["agents"][0]["address"], other.as_str());
    resources(&mut host, &mut peer, &agent, &other);
    host.call("block_agent", json!({"agent": other}));
    send(&mut peer, &agent, "unwanted");
    peer.expect("a rejection", |event| event["requestId"] == "unwanted" && event["state"] == "rejected");
    host.call("block_agent", json!({"agent": other, "undo": true}));
    // The host ends in good order, and the daemon stays.
    host.process.close_stdin();
    assert_eq!(host.process.wait().code(), Some(0));
    assert_eq!(home.whoami()["isRunning"], true);
}

fn mail_and_questions(host: &mut Host, peer: &mut Child, other: &str) {
    let sent = host.call("send_message", json!({"to": other, "data": {"task": "build"}, "kind": "task"}));
    assert_eq!(sent["state"], "delivered");
    peer.expect("mail", |event| event["messageId"] == sent["messageId"] && event["data"]["task"] == "build");
    let nobody = "0x1111111111111111111111111111111111111111";
    let sent = host.call("send_message", json!({"to": nobody, "data": "x", "wait_seconds": 0}));
    assert_eq!(sent["state"], "accepted");
    assert_eq!(host.fail("send_message", json!({"to": "0x12", "data": "x"})), "INVALID_ARGUMENT");
    assert_eq!(host.fail("send_message", json!({"to": other})), "INVALID_ARGUMENT");
    let unknown = host.ask(json!({"do": "call", "tool": "no_tool"}));
    assert_eq!(unknown["code"], -32602, "{unknown}");

    peer.command(json!({"type": "handle", "id": "h", "kinds": ["sum"]}));
    peer.answer("h");
    let question = json!({"agent": other, "data": [1, 2], "kind": "sum"});
    let id = host.begin(json!({"do": "call", "tool": "ask_agent", "arguments": question}));
    let request = peer.expect("a request", |event| event["type"] == "request");
    peer.command(json!({"type": "respond", "ticket": request["ticket"], "data": 3}));
    let answer = host.answer(id);
    assert_eq!(
        (&answer["value"]["answer"], &answer["value"]["from"]),
        (&json!(3), &json!(other)),
        "{answer}"
    );
    assert_eq!(host.fail("ask_agent", json!({"agent": other, "data": 1, "kind": "no"})), "NO_HANDLER");
}

fn resources(host: &mut Host, peer: &mut Child, agent: &str, other: &str) {
    let large = "a".repeat(100_000);
    peer.command(json!({"type": "send", "id": "large", "peerId": agent, "data": large}));
    let got = host.call("wait_for_messages", json!({"timeout_seconds": 15}));
    let message = &got["messages"][0];
    assert_eq!(
        (&message["data"], &message["dataBytes"]),
        (&Value::Null, &json!(large.len() + 2)),
        "{message}"
    );
    let uri = message["resource"].clone();
    let uris = host.ask(json!({"do": "resources"}))["uris"].clone();
    assert_eq!(uris, json!(["p2p-node://inbox", "p2p-node://agents", uri]));
    let whole = host.ask(json!({"do": "read", "uri": uri}));
    assert_eq!(whole["value"]["message"]["data"], large);
    let inbox = host.ask(json!({"do": "read", "uri": "p2p-node://inbox"}));
    assert_eq!(inbox["value"]["unacknowledged"], 1);
    let agents = host.ask(json!({"do": "read", "uri": format!("p2p-node://agents/{other}")}));
    assert_eq!(agents["value"]["agents"][0]["address"], other);
    let missing = host.ask(json!({"do": "read", "uri": "p2p-node://inbox/none"}));
    assert!([-32602, -32002].contains(&missing["code"].as_i64().unwrap()), "{missing}");
    host.call("check_inbox", json!({"acknowledge": [message["messageId"]]}));
}

#[test]
fn killed_python_host_loses_no_message() {
    host_is_killed(Language::Python);
}

#[test]
fn killed_typescript_host_loses_no_message() {
    host_is_killed(Language::TypeScript);
}

#[test]
fn tools_and_resources_work_with_python() {
    tools_and_resources_work(Language::Python);
}

#[test]
fn tools_and_resources_work_with_typescript() {
    tools_and_resources_work(Language::TypeScript);
}
