//! `p2p-node explorer`: shows the network, of a running node or as a light node of its own. Nothing can be
//! changed through it.

mod client;
mod error;
mod node;
mod relay;
mod screen;
mod view;

use std::io::Write;
use std::time::Duration;

use p2p_node_protocol::NetworkReport;
use tokio::time::Instant;

use crate::config::{Config, ExplorerArgs};
use client::Client;
pub use error::ExplorerError;

/// Time between two questions for a report while the explorer waits for peers: a node makes a new one each
/// second.
const POLL: Duration = Duration::from_secs(1);

/// Longest wait of `--json` for the first peers, without `--wait`. Our choice: a node joins within seconds.
const FIRST_PEERS: Duration = Duration::from_secs(10);

/// Runs the explorer until it has printed one report, or until somebody ends it.
///
/// # Errors
/// Fails if there is no node, no report, or no place to write to.
pub async fn run(args: ExplorerArgs, out: &mut dyn Write) -> Result<(), ExplorerError> {
    let Some(url) = &args.attach else { return node::run(args, out).await };
    let config = Config::load(&args.run)?;
    let client = Client::new(url, config.http_token.clone())?;
    match (args.json, args.tui) {
        (true, _) => print_report(&client, args.wait, out).await,
        (_, true) => screen::run(&client).await,
        _ => relay::serve(&config, &client, out).await,
    }
}

/// Prints one report as a line of JSON: after `wait` seconds, else as soon as the node knows peers.
async fn print_report(client: &Client, wait: Option<u64>, out: &mut dyn Write) -> Result<(), ExplorerError> {
    let until = Instant::now() + wait.map_or(FIRST_PEERS, Duration::from_secs);
    let report = loop {
        let report = client.report().await?;
        let knows_peers = serde_json::from_slice::<NetworkReport>(&report)
            .map_err(|error| ExplorerError::Report(error.to_string()))?
            .topology
            .nodes
            .iter()
            .any(|node| !node.is_self);
        if Instant::now() >= until || (wait.is_none() && knows_peers) {
            break report;
        }
        tokio::time::sleep_until(until.min(Instant::now() + POLL)).await;
    };
    out.write_all(&report)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
