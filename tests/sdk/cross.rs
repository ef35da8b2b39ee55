//! Python, TypeScript, Rust and the shell, each to each.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use p2p_node_sdk::{Event, Events, Node};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::others::{has, root, typescript};

const SOON: Duration = Duration::from_secs(30);

/// What each agent says, and how an agent of another language shows it.
const GREETING: &str = ", é\u{2028}\u{1F600}";
const SHOWN: &str = r", \xe9\u2028\U0001f600";

/// A program that greets all others; killed and reaped when dropped.
struct Agent {
    language: &'static str,
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Agent {
    fn start(language: &'static str, program: &str, script: &str, entry: &str, home: &TempDir) -> Self {
        let mut process = Command::new(program)
            .arg(root().join("tests/sdk/agents").join(script))
            .arg(entry)
            .env("P2P_NODE_BIN", env!("CARGO_BIN_EXE_p2p-node"))
            .env("PYTHONPATH", root().join("sdk/python/src"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1")
            .env("P2P_NODE_NETWORK", "dev")
            .env("P2P_NODE_LOCK_SCOPE", home.path())
            .env_remove("PRIVATE_KEY")
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut agent = Agent { language, process, stdin, stdout, address: String::new() };
        agent.address = agent.line();
        assert!(agent.address.starts_with("0x"), "{language} says {:?}", agent.address);
        agent
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{} ended", self.language);
        line.trim_end().to_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The next message. Its sender is told `delivered`, though nobody comes for another one.
async fn message(node: &Node, events: &mut Events) -> (String, Value) {
    let look = async {
        loop {
            if let Event::Message(message) = events.next().await.expect("events end too soon") {
                node.ack(&message).await.unwrap();
                return (message.from, serde_json::from_str(message.data.get()).unwrap());
            }
        }
    };
    tokio::time::timeout(SOON, look).await.expect("no message in time")
}

#[tokio::test]
#[ignore = "takes minutes with the others of its kind; CI runs it"]
#[allow(clippy::await_holding_lock, reason = "no other task of this runtime takes the lock")]
async fn every_language_hears_every_other() {
    let there = [has("python3", "--version", (3, 10)), has("jq", "--version", (1, 6))];
    let Some(_built) = typescript().filter(|_| !there.contains(&false)) else { return };
    let home = TempDir::new().unwrap();
    let builder =
        Node::builder().binary(env!("CARGO_BIN_EXE_p2p-node")).env("P2P_NODE_LOCK_SCOPE", home.path());
    let (node, mut events) = builder.network("dev").cwd(home.path()).open().await.unwrap();
    let entry = node.ready().addrs.swap_remove(0);
    let mut agents = [
        Agent::start("python", "python3", "agent.py", &entry, &home),
        Agent::start("typescript", "node", "agent.mjs", &entry, &home),
        Agent::start("shell", "sh", "agent.sh", &entry, &home),
    ];
    let ours = node.address();
    let mut everybody: Vec<(String, &str)> =
        agents.iter().map(|agent| (agent.address.clone(), agent.language)).collect();
    everybody.push((ours.clone(), "rust"));
    for agent in &mut agents {
        let others = everybody.iter().map(|(address, _)| address.as_str());
        let others: Vec<&str> = others.filter(|address| *address != agent.address).collect();
        writeln!(agent.stdin.as_ref().unwrap(), "{}", others.join(" ")).unwrap();
    }
    for agent in &agents {
        let greeting = json!({ "text": format!("hello from rust{GREETING}") });
        node.send(&agent.address, &greeting).await.unwrap().delivered().await.unwrap();
    }
    let mut heard = BTreeSet::new();
    for _ in 0..agents.len() {
        let (from, data) = message(&node, &mut events).await;
        heard.insert((from, data["text"].as_str().unwrap().to_owned()));
    }
    let said = |ending: &str, to: &str| -> BTreeSet<(String, String)> {
        let others = everybody.iter().filter(|(address, _)| address != to);
        others
            .map(|(address, language)| (address.clone(), format!("hello from {language}{ending}")))
            .collect()
    };
    assert_eq!(heard, said(GREETING, &ours));
    for agent in &mut agents {
        let mut heard = BTreeSet::new();
        for _ in 0..everybody.len() - 1 {
            let line = agent.line();
            let mut words = line.splitn(3, ' ').skip(1).map(str::to_owned);
            heard.insert((words.next().unwrap(), words.next().unwrap()));
        }
        assert_eq!(heard, said(SHOWN, &agent.address), "{}", agent.language);
    }
    for agent in &mut agents {
        agent.stdin = None;
        assert!(agent.process.wait().unwrap().success(), "{}", agent.language);
    }
    assert!(node.close().await.is_empty());
    assert!(node.exit_status().unwrap().success());
}
