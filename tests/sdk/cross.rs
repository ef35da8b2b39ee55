//! Messages and requests between agents in Python, TypeScript, Rust and shell, in all pairs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use p2p_node_sdk::{AskOptions, Event, Events, Node, Requests};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::others::{has, root, typescript};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The greeting of each agent, and its escaped form.
const GREETING: &str = ", é\u{2028}\u{1F600}";
const ESCAPED: &str = r", \xe9\u2028\U0001f600";

/// The question of the agent in Rust.
const QUESTION: &str = "who, é\u{2028}\u{1F600}";

/// A program that greets and asks all others; killed and reaped when dropped.
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
            .env("P2P_NODE_RENDEZVOUS", "off")
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
        assert!(agent.address.starts_with("0x"), "{language} prints {:?}", agent.address);
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

/// Returns the next message and acks it.
async fn message(node: &Node, events: &mut Events) -> (String, Value) {
    let look = async {
        loop {
            if let Event::Message(message) = events.next().await.expect("events end too soon") {
                node.ack(&message).await.unwrap();
                return (message.from, serde_json::from_str(message.data.get()).unwrap());
            }
        }
    };
    tokio::time::timeout(TIMEOUT, look).await.expect("no message in time")
}

/// Answers requests of the kind `language`.
async fn answer(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        let data: Value = request.read().unwrap();
        request.respond(&json!({ "language": "rust", "question": data["text"] })).await.unwrap();
    }
}

/// Greets an agent, asks it for its language, and checks the answer.
async fn greet_and_ask(node: &Node, agent: &Agent) {
    let greeting = json!({ "text": format!("hello from rust{GREETING}") });
    node.send(&agent.address, &greeting).await.unwrap().delivered().await.unwrap();
    let options = AskOptions::kind("language");
    let answer = node.ask(&agent.address, &json!({ "text": QUESTION }), options).await.unwrap();
    let data: Value = serde_json::from_str(answer.data.unwrap().get()).unwrap();
    let expected = json!({ "language": agent.language, "question": QUESTION });
    assert_eq!((answer.from, data), (agent.address.clone(), expected));
}

// The test reads the lines of the agents in its own thread, and answers them in another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "slow; CI runs it"]
#[allow(clippy::await_holding_lock, reason = "no other task of this runtime takes the lock")]
async fn agents_in_all_languages_exchange_messages_and_answers() {
    let tools = [has("python3", "--version", (3, 10)), has("jq", "--version", (1, 6))];
    let Some(_built) = typescript().filter(|_| !tools.contains(&false)) else { return };
    let home = TempDir::new().unwrap();
    let builder = Node::builder()
        .binary(env!("CARGO_BIN_EXE_p2p-node"))
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off");
    let (node, mut events) = builder.network("dev").cwd(home.path()).open().await.unwrap();
    let answering = tokio::spawn(answer(node.handle(["language"]).await.unwrap()));
    let entry = node.ready().addrs.swap_remove(0);
    let mut agents = [
        Agent::start("python", "python3", "agent.py", &entry, &home),
        Agent::start("typescript", "node", "agent.mjs", &entry, &home),
        Agent::start("shell", "sh", "agent.sh", &entry, &home),
    ];
    let mut all: Vec<(String, &str)> =
        agents.iter().map(|agent| (agent.address.clone(), agent.language)).collect();
    all.push((node.address(), "rust"));
    for agent in &mut agents {
        let others = all.iter().map(|(address, _)| address.as_str());
        let others: Vec<&str> = others.filter(|address| *address != agent.address).collect();
        writeln!(agent.stdin.as_ref().unwrap(), "{}", others.join(" ")).unwrap();
    }
    for agent in &agents {
        greet_and_ask(&node, agent).await;
    }
    let mut received = BTreeSet::new();
    for _ in 0..agents.len() {
        let (from, data) = message(&node, &mut events).await;
        received.insert((from, data["text"].as_str().unwrap().to_owned()));
    }
    let expected = |ending: &str, to: &str| -> BTreeSet<(String, String)> {
        let others = all.iter().filter(|(address, _)| address != to);
        others
            .map(|(address, language)| (address.clone(), format!("hello from {language}{ending}")))
            .collect()
    };
    assert_eq!(received, expected(GREETING, &node.address()));
    for agent in &mut agents {
        let (mut received, mut answers) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..2 * (all.len() - 1) {
            let line = agent.line();
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let set = if words[0] == "answer" { &mut answers } else { &mut received };
            set.insert((words[1].to_owned(), words[2].to_owned()));
        }
        assert_eq!(received, expected(ESCAPED, &agent.address), "{}", agent.language);
        let others = all.iter().filter(|(address, _)| *address != agent.address);
        let expected = others.map(|(address, language)| (address.clone(), (*language).to_owned()));
        assert_eq!(answers, expected.collect(), "{}", agent.language);
    }
    for agent in &mut agents {
        agent.stdin = None;
        assert!(agent.process.wait().unwrap().success(), "{}", agent.language);
    }
    answering.abort();
    assert!(node.close().await.is_empty());
    assert!(node.exit_status().unwrap().success());
}
