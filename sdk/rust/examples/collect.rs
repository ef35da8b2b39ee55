//! Reads the pending mail of an agent once and exits. The directory holds the agent's key and the
//! record of the mail that it has read.
//!
//! `cargo run -p p2p-node-sdk --example collect DIRECTORY /ip4/…/p2p/…`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::process::ExitCode;

use p2p_node_sdk::{Error, Event, Node};

async fn collect(directory: &str, entry: &str) -> Result<(), Error> {
    let builder = Node::builder().name("collector").network("dev").data_dir(directory);
    let (node, mut events) = builder.bootstrap_peers([entry]).open().await?;
    println!("I am {}", node.address());
    // The loop ends when no more mail arrives from reachable senders. It fails with `NotJoined` if
    // no peer connects.
    let end = loop {
        match events.next_until_caught_up(&node).await {
            Ok(Some(Event::Message(message))) => println!("{} says {}", message.from, message.data),
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    node.close().await;
    end
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, entry] = &args[..] else {
        eprintln!("usage: collect DIRECTORY ENTRY");
        return ExitCode::from(64);
    };
    match collect(directory, entry).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if error.retryable() { 75 } else { 1 })
        }
    }
}
