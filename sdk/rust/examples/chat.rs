//! Two agents that chat: each sends its lines and prints the lines of the other.
//!
//! `P2P_NODE_BIN=target/release/p2p-node cargo run -p p2p-node-sdk --example chat`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use p2p_node_sdk::{Error, Event, Events, Node, SendOptions};
use tokio::time::timeout;

/// How long an agent tries to deliver a line, and how long it waits for one: an agent whose peer is
/// gone does not wait forever.
const PATIENCE: Duration = Duration::from_secs(20);

const ALICE: [&str; 3] = ["Hello, Bob.", "Fine weather on this network.", "Goodbye!"];
const BOB: [&str; 3] = ["Hello, Alice.", "Not a packet lost.", "Goodbye!"];

async fn chat(
    name: &str,
    lines: [&str; 3],
    node: &Node,
    events: &mut Events,
    other: &str,
) -> Result<String, Error> {
    let mut heard = String::new();
    for line in lines {
        let options = SendOptions { ttl: Some(PATIENCE), ..SendOptions::default() };
        let mail = node.send_with(other, line, options).await?;
        let listening = async {
            loop {
                match events.next().await {
                    Some(Event::Message(message)) => return Some(message),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let Ok(Some(message)) = timeout(PATIENCE, listening).await else {
            return Ok(format!("{heard}{name} hears nothing more\n"));
        };
        heard.push_str(&format!("{name} hears: {}\n", message.data));
        // The other agent waits for this acknowledgement, and this agent reads the next event
        // later.
        node.ack(&message).await?;
        // Waits only after it has read a line, because the other agent waits for the same.
        mail.delivered().await?;
    }
    Ok(heard)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (alice, mut to_alice) = Node::builder().name("alice").network("dev").open().await?;
    let entry = alice.ready().addrs.swap_remove(0);
    let (bob, mut to_bob) =
        Node::builder().name("bob").network("dev").bootstrap_peers([entry]).open().await?;
    let (alice_address, bob_address) = (alice.address(), bob.address());
    let (first, second) = tokio::try_join!(
        chat("alice", ALICE, &alice, &mut to_alice, &bob_address),
        chat("bob", BOB, &bob, &mut to_bob, &alice_address),
    )?;
    println!("{first}{second}");
    tokio::join!(alice.close(), bob.close());
    Ok(())
}
