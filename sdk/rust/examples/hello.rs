//! Two agents on this machine find each other without any option: alice sends bob a message. The
//! first example of the README.
//!
//! `P2P_NODE_BIN=target/release/p2p-node cargo run -p p2p-node-sdk --example hello`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use p2p_node_sdk::{Error, Event, Node};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (alice, _events) = Node::builder().open().await?;
    let (bob, mut events) = Node::builder().open().await?;
    let mail = alice.send(&bob.address(), "hello bob").await?;
    while let Some(event) = events.next().await {
        let Event::Message(message) = event else { continue };
        println!("{} says {}", message.from, message.data);
        bob.ack(&message).await?;
        break;
    }
    println!("alice knows that it is {:?}", mail.delivered().await?.state);
    tokio::join!(alice.close(), bob.close());
    Ok(())
}
