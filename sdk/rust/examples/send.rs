//! Sends one message and exits with 0 only if the recipient has acknowledged it.
//!
//! `cargo run -p p2p-node-sdk --example send /ip4/…/p2p/… 0x… "the text"`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::process::ExitCode;
use std::time::Duration;

use p2p_node_sdk::{Error, Node, SendOptions};

/// directory.
const TTL: Duration = Duration::from_secs(20);

async fn send(entry: &str, recipient: &str, text: &str) -> Result<(), Error> {
    let builder = Node::builder().name("sender").network("dev").bootstrap_peers([entry]);
    let (node, _events) = builder.open().await?;
    node.joined(TTL).await?;
    let options = SendOptions { ttl: Some(TTL), ..SendOptions::default() };
    let mail = node.send_with(recipient, text, options).await?;
    let delivery = mail.delivered().await;
    node.close().await;
    delivery.map(drop)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [entry, recipient, text] = &args[..] else {
        eprintln!("usage: send ENTRY RECIPIENT TEXT");
        return ExitCode::from(64);
    };
    match send(entry, recipient, text).await {
        Ok(()) => {
            println!("delivered");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("not delivered: {error}");
            ExitCode::from(if error.retryable() { 75 } else { 1 })
        }
    }
}
