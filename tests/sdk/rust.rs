//! Runs the examples of the Rust SDK, which `cargo test --workspace` builds.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use p2p_node_sdk::{Builder, Event, Events, Message, Node};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the command of an example in its own directory.
fn command(name: &str, home: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_p2p-node"));
    let example = binary.parent().unwrap().join("examples").join(name);
    assert!(example.exists(), "{} is missing: run `cargo build --workspace --examples`", example.display());
    let mut command = Command::new(example);
    command
        .env("P2P_NODE_BIN", binary)
        .env("P2P_NODE_LOCK_SCOPE", home)
        .env("P2P_NODE_RENDEZVOUS", "off")
        .env("P2P_NODE_NETWORK", "dev");
    command.env_remove("PRIVATE_KEY").current_dir(home);
    command
}

fn example(name: &str) -> String {
    let home = TempDir::new().unwrap();
    let output = command(name, home.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn hello_example_of_readme_needs_no_option() {
    let home = TempDir::new().unwrap();
    // A runtime directory of its own stands for a user without other nodes.
    let mut hello = command("hello", home.path());
    hello.env_clear().env("P2P_NODE_BIN", env!("CARGO_BIN_EXE_p2p-node")).env("XDG_RUNTIME_DIR", home.path());
    let output = hello.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stdout.contains(" says \"hello bob\"\nalice knows that it is Delivered\n"), "{stdout}{stderr}");
}

#[test]
fn chat_example_runs() {
    let output = example("chat");
    assert!(
        output.contains("alice hears: \"Not a packet lost.\"") && output.contains("bob hears: \"Goodbye!\""),
        "{output}"
    );
}

#[test]
fn request_reply_example_runs() {
    let output = example("request_reply");
    assert!(output.starts_with("7 squared: {\"result\":49}\n12 squared: {\"result\":144}\n"), "{output}");
    assert!(output.contains("error"), "{output}");
}

#[test]
fn launcher_example_supervises_twenty_agents() {
    let output = example("launcher");
    assert!(output.starts_with("agent 19 was killed and is back\n"), "{output}");
    assert!(output.ends_with("20 of 20 ended in good order\n"), "{output}");
    assert_eq!(output.lines().filter(|line| line.ends_with("and of 19 others")).count(), 20, "{output}");
}

fn node(home: &TempDir) -> Builder {
    let builder = Node::builder().binary(env!("CARGO_BIN_EXE_p2p-node")).network("dev").port(0);
    builder.env("P2P_NODE_LOCK_SCOPE", home.path()).env("P2P_NODE_RENDEZVOUS", "off").cwd(home.path())
}

fn entry(node: &Node) -> String {
    node.ready().addrs.swap_remove(0)
}

async fn message(node: &Node, events: &mut Events) -> Message {
    let look = async {
        loop {
            if let Event::Message(message) = events.next().await.expect("events end too soon") {
                node.ack(&message).await.unwrap();
                return *message;
            }
        }
    };
    timeout(TIMEOUT, look).await.expect("no message in time")
}

/// Runs an example while this test continues.
async fn run(name: &str, home: &TempDir, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(name, home.path()));
    timeout(TIMEOUT, command.args(args).output()).await.expect("the example does not end").unwrap()
}

#[tokio::test]
async fn readme_example_survives_dead_peer_and_answers_no_reply() {
    let home = TempDir::new().unwrap();
    let (bob, mut to_bob) = node(&home).open().await.unwrap();
    let mut agent = command("agent", home.path());
    agent.env("P2P_NODE_BOOTSTRAP", entry(&bob)).stdout(Stdio::piped());
    let mut agent = tokio::process::Command::from(agent).kill_on_drop(true).spawn().unwrap();
    let (mut out, mut first) = (BufReader::new(agent.stdout.take().unwrap()), String::new());
    out.read_line(&mut first).await.unwrap();
    let address = first.trim_end().strip_prefix("I am ").unwrap().to_owned();

    // A peer sends requests and is killed.
    let (carol, to_carol) = node(&home).bootstrap_peers([entry(&bob)]).open().await.unwrap();
    carol.send(&address, "hello").await.unwrap();
    let delivered = carol.send(&address, "hello again").await.unwrap();
    let pid = rustix::process::Pid::from_raw(carol.pid().unwrap().cast_signed()).unwrap();
    timeout(TIMEOUT, delivered.delivered()).await.expect("the message is not delivered").unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    drop((carol, to_carol));

    // Requests of other peers are answered, and their replies are not.
    let question = bob.send(&address, "1").await.unwrap().message_id;
    let answer = message(&bob, &mut to_bob).await;
    assert_eq!((answer.reply_to, answer.data.get()), (Some(question), "\"thank you\""));
    let answer = Message { reply_to: None, ..answer };
    bob.reply(&answer, "you are welcome").await.unwrap().delivered().await.unwrap();
    let question = bob.send(&address, "2").await.unwrap().message_id;
    assert_eq!(message(&bob, &mut to_bob).await.reply_to, Some(question), "a reply was answered");
    agent.kill().await.unwrap();
    bob.close().await;
}

#[tokio::test]
async fn send_example_exits_0_only_after_delivery() {
    let home = TempDir::new().unwrap();
    let (bob, mut to_bob) = node(&home).open().await.unwrap();
    let (entry, address) = (entry(&bob), bob.address());
    let args = [entry.as_str(), &address, "hello"];
    let (output, message) = tokio::join!(run("send", &home, &args), message(&bob, &mut to_bob));
    assert_eq!(message.data.get(), "\"hello\"");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"delivered\n"[..]), "{output:?}");
    let output = run("send", &home, &[&entry, "nobody", "hello"]).await;
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]), "{output:?}");
    bob.close().await;
}

#[tokio::test]
async fn collect_example_reads_waiting_mail_and_ends() {
    let home = TempDir::new().unwrap();
    let (bob, _to_bob) = node(&home).open().await.unwrap();
    let entry = entry(&bob);
    let lines = |output: Output| -> Vec<String> {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let output = lines(run("collect", &home, &["collector", &entry]).await);
    let address = output[0].strip_prefix("I am ").unwrap().to_owned();
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(bob.send(&address, &number).await.unwrap());
    }
    let output = lines(run("collect", &home, &["collector", &entry]).await);
    let expected: Vec<String> = (0..5).map(|number| format!("{} says {number}", bob.address())).collect();
    assert_eq!(output[1..], expected);
    for message in sent {
        message.delivered().await.unwrap();
    }
    bob.close().await;
}
