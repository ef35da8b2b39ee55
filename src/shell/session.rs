//! The node of a command: the daemon of the agent, or a node of its own.

use std::io::{Write, stderr};

use p2p_node_sdk::{Builder, Events, Node};

use super::ShellError;
use crate::attach;
use crate::config::NodeArgs;
use crate::node::StartError;

/// A connection to a node.
pub(super) struct Session {
    pub(super) node: Node,
    pub(super) events: Events,
    /// A daemon serves the command, and others.
    pub(super) is_shared: bool,
}

impl Session {
    /// Attaches to the daemon, or starts a node.
    pub(super) async fn open(args: &NodeArgs, builder: Builder) -> Result<Session, ShellError> {
        let binary = std::env::current_exe()
            .map_err(|error| StartError::system("finding the binary failed", &error))?;
        let builder = builder.binary(binary).restart(None).on_stderr(|text| {
            let _ = stderr().write_all(text);
        });
        let daemon = attach::find(args.socket.as_deref(), &args.flags)?;
        let is_shared = daemon.is_some();
        let builder = match daemon {
            Some(path) => builder.socket(path),
            // Another command must not take a node that is about to end for a daemon.
            None => builder.args(&args.flags).env("P2P_NODE_SOCKET", ""),
        };
        let (node, events) = builder.open().await?;
        Ok(Session { node, events, is_shared })
    }

    /// Ends a node of this command in good order. A daemon needs no farewell: it goes on with what it
    /// accepted, and would otherwise keep the command waiting for that.
    pub(super) async fn end(self) {
        if !self.is_shared {
            self.node.close().await;
        }
    }
}
