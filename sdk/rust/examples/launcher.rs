//! A launcher that supervises twenty agents in one process: each has its own node, sends a greeting
//! to the next one, and broadcasts its mood on a topic. The launcher kills one node, and the SDK
//! restarts it.
//!
//! `P2P_NODE_BIN=target/release/p2p-node cargo run -p p2p-node-sdk --example launcher`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use p2p_node_sdk::{Error, Event, Events, Node, Restart, SendOptions};
use tokio::task::JoinSet;
use tokio::time::timeout;

const AGENTS: usize = 20;

/// How long an agent tries to deliver a message, and how long it waits for one: it does not wait
/// forever for an agent that is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one agent until it has received a greeting and the moods of all others.
async fn live(number: usize, node: Node, mut events: Events, next: String) -> Result<String, Error> {
    let options = SendOptions { ttl: Some(PATIENCE), ..SendOptions::default() };
    let mail = node.send_with(next, &format!("good morning from agent {number}"), options).await?;
    node.publish("mood", &format!("agent {number} is well")).await?;
    let (mut greeted, mut moods) = (String::new(), 0);
    while greeted.is_empty() || moods < AGENTS - 1 {
        match timeout(PATIENCE, events.next()).await.unwrap_or_default() {
            Some(Event::Message(message)) if message.topic.is_some() => moods += 1,
            Some(Event::Message(message)) => greeted = message.data.get().to_owned(),
            Some(Event::Closed { error: Some(error) }) => return Err(*error),
            Some(_) => {}
            None => break,
        }
    }
    // Acknowledges the last message, which may be the greeting.
    events.close();
    mail.delivered().await?;
    Ok(format!("agent {number} heard {greeted} and of {moods} others"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let restart = Restart { first: Duration::from_millis(100), ..Restart::default() };
    let mut agents: Vec<(Node, Events)> = Vec::new();
    for number in 0..AGENTS {
        let mut builder =
            Node::builder().name(format!("agent {number}")).network("dev").restart(Some(restart));
        if let Some((entry, _)) = agents.first() {
            builder = builder.bootstrap_peers([entry.ready().addrs.swap_remove(0)]);
        }
        agents.push(builder.open().await?);
    }

    // Simulates a crash. The rest of the program needs no change for it.
    let (victim, events) = agents.last_mut().expect("there are agents");
    if let Some(pid) = victim.pid() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        while !matches!(events.next().await, Some(Event::Restarted { .. }) | None) {}
        println!("agent {} was killed and is back", AGENTS - 1);
    }

    let addresses: Vec<String> = agents.iter().map(|(node, _)| node.address()).collect();
    for (node, _) in &agents {
        node.subscribe("mood").await?;
    }
    // Waits until the agents are connected, because a broadcast reaches only connected subscribers.
    for (node, _) in &agents {
        while node.peers().await?.len() < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let nodes: Vec<Node> = agents.iter().map(|(node, _)| node.clone()).collect();
    let mut lives = JoinSet::new();
    for (number, (node, events)) in agents.into_iter().enumerate() {
        lives.spawn(live(number, node, events, addresses[(number + 1) % AGENTS].clone()));
    }
    while let Some(life) = lives.join_next().await {
        println!("{}", life.expect("it does not panic")?);
    }
    let mut ends = JoinSet::new();
    for node in nodes {
        ends.spawn(async move {
            node.close().await;
            node.exit_status()
        });
    }
    let ended = ends.join_all().await.into_iter().flatten().filter(|status| status.success()).count();
    println!("{ended} of {AGENTS} ended in good order");
    Ok(())
}
