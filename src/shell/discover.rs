//! `p2p-node discover`

use std::time::Duration;

use p2p_node_protocol::{Event as NodeEvent, PeerDiscovered};
use p2p_node_sdk::{Builder, DiscoverOptions};

use super::output::{Output, quoted};
use super::session::Session;
use super::{ShellError, tell};
use crate::config::DiscoverArgs;
use crate::terminal::escaped;

/// Longest wait of a node of this command for its first peer, of whom it asks who is there. Our choice: a
/// dial to a host that does not answer takes 10 s.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(args: DiscoverArgs, out: &mut Output) -> Result<(), ShellError> {
    let session = Session::open(&args.node, Builder::default().inbox(false)).await?;
    let DiscoverArgs { address, topic, capability, timeout: look_for, .. } = args;
    if !session.is_shared && session.node.joined(look_for.unwrap_or(JOIN_TIMEOUT)).await.is_err() {
        tell(&"no peer is connected: is --bootstrap right, or does a daemon run?");
    }
    let options = DiscoverOptions { address, topic, capability, look_for };
    let found = session.node.discover(options).await?;
    session.end().await;
    let (is_complete, is_empty) = (found.complete, found.is_empty());
    for agent in found {
        let event = NodeEvent::PeerDiscovered(Box::new(agent));
        out.event(&event, || match &event {
            NodeEvent::PeerDiscovered(agent) => text(agent),
            _ => String::new(),
        })?;
    }
    match (is_empty, is_complete) {
        (true, _) => return Err(ShellError::Nobody),
        (false, false) => tell(&"agents may be missing; search longer with --timeout"),
        (false, true) => {}
    }
    Ok(())
}

/// Returns an agent as a line for people.
fn text(agent: &PeerDiscovered) -> String {
    let mut line = format!("{} {}", agent.address, agent.peer_id);
    if let Some(name) = &agent.name {
        line += &format!(" name={}", quoted(name));
    }
    for (what, names) in [("capabilities", &agent.capabilities), ("topics", &agent.topics)] {
        if !names.is_empty() {
            line +=
                &format!(" {what}={}", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(","));
        }
    }
    escaped(&line) + "\n"
}
