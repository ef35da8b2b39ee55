//! The explorer's own node: a light node with a new identity that observes the network.

use std::io::{BufRead, BufReader, PipeReader, Write};

use p2p_node_core::STATUS;
use p2p_node_core::effect::ExitCode;
use p2p_node_protocol::Event;
use p2p_node_protocol::line::decode_event;
use serde_json::json;
use tokio::sync::mpsc;

use super::client::Client;
use super::relay::LOCAL;
use super::{ExplorerError, print_report, screen};
use crate::config::{Config, ExplorerArgs, OnEof, RunArgs};
use crate::node;
use crate::pipe::{ParentEnd, Pipe};

/// Capacity of the queue of what the node says of its start: one `ready` or some errors.
const START_QUEUE: usize = 8;

/// Runs a node and shows what it sees, until somebody ends either.
pub(super) async fn run(args: ExplorerArgs, out: &mut dyn Write) -> Result<(), ExplorerError> {
    let ExplorerArgs { json, tui, wait, run, .. } = args;
    let config = observing(run)?;
    let token = config.http_token.clone();
    let (pipe, ParentEnd { mut input, output }) = Pipe::memory()?;
    let mut started = read_start(output)?;
    let shown = async {
        let url = match started.recv().await {
            Some(Ok(url)) => url,
            Some(Err(reason)) => return Err(ExplorerError::Ended(reason, ExitCode::Unavailable)),
            // The node ends, and says why by its exit code.
            None => std::future::pending().await,
        };
        // The statuses of other nodes tell about peers that this one is not connected to.
        writeln!(input, "{}", json!({ "type": "subscribe", "topic": STATUS }))?;
        let client = Client::new(&url, token)?;
        match (json, tui) {
            (true, _) => print_report(&client, wait, out).await,
            (_, true) => screen::run(&client).await,
            _ => {
                writeln!(out, "{url}/")?;
                out.flush()?;
                // A signal ends the node.
                std::future::pending().await
            }
        }
    };
    let mut node = std::pin::pin!(node::serve(config, pipe));
    let code = tokio::select! {
        code = &mut node => code,
        shown = shown => {
            // The end of its input ends the node.
            drop(input);
            node.await;
            return shown;
        }
    };
    if code == ExitCode::Ok {
        return Ok(());
    }
    let mut reason = code.meaning().to_owned();
    while let Some(said) = started.recv().await {
        reason = said.err().unwrap_or(reason);
    }
    Err(ExplorerError::Ended(reason, code))
}

/// Returns the configuration of a node that observes: a light node without an agent of its own, which
/// leaves nothing behind.
fn observing(mut args: RunArgs) -> Result<Config, ExplorerError> {
    args.role = Some("light".to_owned());
    args.dht_mode = Some("client".to_owned());
    args.relay = Some("false".to_owned());
    args.connect = Some("true".to_owned());
    let config = Config::load(&args)?;
    Ok(Config {
        private_key: None,
        private_key_file: None,
        ephemeral_key: None,
        binding_file: None,
        node_key_file: None,
        data_dir: None,
        capabilities: Vec::new(),
        on_eof: OnEof::Exit,
        require_delivery: false,
        report_interactions: false,
        registry_agent_id: None,
        parent_pid: None,
        http: config.http.or(Some(LOCAL)),
        ..config
    })
}

/// Reads the lines of the node to their end. The first that says how the start ended is the URL of its HTTP
/// server, or an error.
fn read_start(
    output: BufReader<PipeReader>,
) -> Result<mpsc::Receiver<Result<String, String>>, ExplorerError> {
    let (sender, receiver) = mpsc::channel(START_QUEUE);
    let read = move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            let said = match decode_event(&line) {
                Ok(Some(Event::Ready(ready))) => ready.http.map(Ok),
                Ok(Some(Event::Error(error))) => Some(Err(error.message)),
                _ => None,
            };
            // Nobody waits after the start.
            said.into_iter().for_each(|said| drop(sender.try_send(said)));
        }
    };
    std::thread::Builder::new().name("explorer".to_owned()).spawn(read)?;
    Ok(receiver)
}
