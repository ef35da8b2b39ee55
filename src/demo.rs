//! `p2p-node demo`: starts a bootstrap node and two agents as separate processes, which find each
//! other and exchange messages. The demo shows the real lines on the pipes.

mod child;
mod screen;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use p2p_node_protocol::{Answer, DeliveryState, Event, Id};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use child::Child;
pub use child::DemoFailure;
pub use screen::Screen;

/// Maximum time of the scenario. With the exit timeouts of the nodes, the demo takes at most 10 s.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(8);

/// Pause between two `discover` commands, because the record of an agent takes time to spread.
const DISCOVER_INTERVAL: Duration = Duration::from_millis(100);

const TOPIC: &str = "demo-room";

/// Errors of the demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A node failed.
    #[error("{0}")]
    Node(#[from] DemoFailure),
    /// Creating the working directory or the random keys failed.
    #[error("setting up the demo failed: {0}")]
    Setup(String),
    /// The process received Ctrl-C or another terminating signal.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo with `binary` as the node and returns a summary line. All child processes have
/// exited when this function returns, also after an error.
///
/// # Errors
/// Returns the event that the demo waited for, the node, and the last lines on that node's stderr.
pub async fn run(binary: &Path, screen: Screen) -> Result<String, DemoError> {
    let screen = Arc::new(screen);
    let work_dir = WorkDir::new().map_err(|error| DemoError::Setup(error.to_string()))?;
    let mut children = Vec::new();
    let outcome = tokio::select! {
        outcome = play(binary, &work_dir, &screen, &mut children) => outcome,
        Ok(()) = interrupted() => Err(DemoError::Interrupted),
    };
    futures::future::join_all(children.iter_mut().map(Child::stop)).await;
    outcome
}

#[expect(clippy::disallowed_methods, reason = "the demo tells how long it took, and is no part of the node")]
async fn play(
    binary: &Path,
    work_dir: &WorkDir,
    screen: &Arc<Screen>,
    children: &mut Vec<Child>,
) -> Result<String, DemoError> {
    let start = Instant::now();
    let deadline = tokio::time::Instant::from_std(start + SCENARIO_TIMEOUT);
    for (name, role) in [("bootstrap", "bootstrap"), ("alice", "full"), ("bob", "full")] {
        let key =
            crate::io::keystore::random_secret().map_err(|error| DemoError::Setup(error.to_string()))?;
        let arguments = ["--network", "dev", "--role", role, "--name", name];
        children.push(Child::start(binary, name, &arguments, &key, &work_dir.0, screen, deadline)?);
    }
    let [bootstrap, alice, bob] = children.as_mut_slice() else {
        return Err(DemoError::Setup("internal error: the demo needs exactly three nodes".to_owned()));
    };
    scenario(bootstrap, alice, bob, screen).await?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(format!(
        "demo: 2 agents, 3 nodes: 2 direct messages delivered, 1 broadcast received, in {seconds:.2} s"
    ))
}

async fn scenario(
    bootstrap: &mut Child,
    alice: &mut Child,
    bob: &mut Child,
    screen: &Screen,
) -> Result<(), DemoFailure> {
    screen.note("a bootstrap node, then two agents that join through it");
    let (_, entry) = connect(bootstrap, &[]).await?;
    let (alice_address, _) = connect(alice, &entry).await?;
    let (bob_address, _) = connect(bob, &entry).await?;

    screen.note("each agent knows only the Ethereum address of the other");
    discover(alice, &bob_address).await?;
    discover(bob, &alice_address).await?;

    screen.note("direct messages, acknowledged by the recipient's node");
    alice.send("send", "hello", json!({"peerId": bob_address, "data": {"text": "hello bob"}})).await?;
    let question = bob
        .expect("alice's message", |event| match event {
            Event::Message(mail) if mail.from == alice_address => Some(mail.message_id.clone()),
            _ => None,
        })
        .await?;
    delivered(alice, "hello").await?;
    let answer = json!({"peerId": alice_address, "data": {"text": "hello alice"}, "replyTo": question});
    bob.send("send", "reply", answer).await?;
    alice
        .expect("bob's reply", |event| match event {
            Event::Message(mail) => {
                (mail.from == bob_address && mail.reply_to.as_ref() == Some(&question)).then_some(())
            }
            _ => None,
        })
        .await?;
    delivered(bob, "reply").await?;

    screen.note("a broadcast to all subscribers of a topic");
    for agent in [&mut *alice, &mut *bob] {
        agent.send("subscribe", "room", json!({"topic": TOPIC})).await?;
        agent.expect("the result of subscribe", |event| result(event, "room")).await?;
    }
    alice.send("send", "news", json!({"topic": TOPIC, "data": {"text": "hello all"}})).await?;
    bob.expect("alice's broadcast", |event| match event {
        Event::Message(news) => {
            (news.from == alice_address && news.topic.as_deref() == Some(TOPIC)).then_some(())
        }
        _ => None,
    })
    .await?;

    screen.note("the end");
    for node in [alice, bob, bootstrap] {
        node.send("shutdown", "bye", json!({})).await?;
        node.ended().await?;
    }
    Ok(())
}

/// Connects a node. Returns its Ethereum address and its listen addresses.
async fn connect(node: &mut Child, entry: &[String]) -> Result<(String, Vec<String>), DemoFailure> {
    node.send("connect", "start", json!({"port": 0, "bootstrapPeers": entry, "protocol": 1})).await?;
    node.expect("ready", |event| match event {
        Event::Ready(ready) => Some((ready.address.clone(), ready.addrs.clone())),
        _ => None,
    })
    .await
}

/// Repeats `discover` until the node finds the agent, whose record may not have arrived yet.
async fn discover(node: &mut Child, address: &str) -> Result<(), DemoFailure> {
    for attempt in 1.. {
        let id = format!("find-{attempt}");
        node.send("discover", &id, json!({"address": address, "timeoutMs": 2000})).await?;
        let found = node.expect("the result of discover", |event| result(event, &id)).await?;
        if found.count.is_some_and(|count| count > 0) {
            break;
        }
        tokio::time::sleep(DISCOVER_INTERVAL).await;
    }
    node.expect("peer_discovered", |event| match event {
        Event::PeerDiscovered(peer) => (peer.address == address).then_some(()),
        _ => None,
    })
    .await
}

async fn delivered(node: &mut Child, request: &str) -> Result<(), DemoFailure> {
    node.expect("delivery with the state delivered", |event| match event {
        Event::Delivery(delivery) => (delivery.request_id == Some(Id::from(request))
            && delivery.state == DeliveryState::Delivered)
            .then_some(()),
        _ => None,
    })
    .await
}

/// Returns the answer to the command `id`.
fn result(event: &Event, id: &str) -> Option<Answer> {
    match event {
        Event::Result(answer) if answer.id == Id::from(id) => Some(Answer::clone(answer)),
        _ => None,
    }
}

async fn interrupted() -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Empty working directory for the nodes, so that they do not read the user's `.env`. `Drop`
/// removes the directory.
struct WorkDir(PathBuf);

impl WorkDir {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let random = crate::io::keystore::random_secret()?;
        let path = std::env::temp_dir().join(format!("p2p-node-demo-{}", hex::encode(&random[..8])));
        std::fs::create_dir(&path)?;
        Ok(WorkDir(path))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // A leftover temporary directory is harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
