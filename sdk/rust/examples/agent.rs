//! An agent that thanks the sender of each message: the second example of the README.
//!
//! `P2P_NODE_BIN=target/release/p2p-node cargo run -p p2p-node-sdk --example agent`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::time::Duration;

use p2p_node_sdk::{Error, Event, Node, SendOptions};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (node, mut events) = Node::builder().name("alice").data_dir("alice").open().await?;
    println!("I am {}", node.address());
    node.subscribe("jobs").await?;
    while let Some(event) = events.next().await {
        let Event::Message(message) = event else { continue };
        println!("{} says {}", message.from, message.data);
        if message.reply_to.is_some() {
            continue; // a reply to a reply would never end
        }
        let options = SendOptions { ttl: Some(Duration::from_secs(60)), ..SendOptions::default() };
        if let Err(error) = node.reply_with(&message, "thank you", options).await {
            eprintln!("no answer to {}: {error}", message.from);
        }
    }
    Ok(())
}
