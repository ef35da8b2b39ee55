//! `p2p-node mcp`: a server of the Model Context Protocol on stdin and stdout, for a host of a language
//! model. It is a client of the daemon, which keeps the inbox while no host runs.

mod agent;
mod calls;
mod inbox;
mod server;
mod stdio;
mod tools;
mod view;

use std::io::{Write, stderr};
use std::sync::Arc;

use p2p_node_core::effect::ExitCode;
use p2p_node_sdk::{AckMode, Builder, Events, Node};
use rmcp::service::{QuitReason, ServerInitializeError};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{RoleServer, serve_server};

use crate::attach;
use crate::config::McpArgs;
use crate::node::StartError;
use crate::shell::{ShellError, tell};
use agent::Agent;
use server::Server;

/// Longest line of the host, in bytes. Our choice: four times the largest message, whose JSON may be
/// escaped within JSON.
const MAX_LINE: usize = 4 << 20;

/// Serves the host until it closes stdin, and returns the exit code.
pub fn run(args: &McpArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&error);
            return ExitCode::Io;
        }
    };
    let served = runtime.block_on(serve(args));
    match served {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            tell(&error);
            error.exit_code()
        }
    }
}

async fn serve(args: &McpArgs) -> Result<(), ShellError> {
    let (node, events) = open(args).await?;
    let agent = Arc::new(Agent::new(node.clone()));
    let reader = tokio::spawn(Arc::clone(&agent).read(events));
    let (stream, stdio) =
        stdio::open().map_err(|error| StartError::system("opening stdio failed", &error))?;
    let (input, output) = stream.into_split();
    let transport = AsyncRwTransport::<RoleServer, _, _>::new(input, output).with_max_line_length(MAX_LINE);
    let service = match serve_server(Server::new(agent), transport).await {
        Ok(service) => service,
        // A host that only looked whether the server starts.
        Err(ServerInitializeError::ConnectionClosed(_)) => {
            node.close().await;
            return Ok(());
        }
        Err(error) => return Err(ShellError::Host(error.to_string())),
    };
    let quit = tokio::select! {
        quit = service.waiting() => quit,
        ended = reader => {
            // The node ends for good only if it cannot be started again.
            let error = ended.ok().flatten().map_or(p2p_node_sdk::Error::NodeClosed, |error| *error);
            return Err(error.into());
        }
    };
    // What the host has not acknowledged goes to the next one.
    node.close().await;
    stdio.finish();
    match quit {
        Ok(QuitReason::Closed | QuitReason::Cancelled) => Ok(()),
        Ok(other) => Err(ShellError::Host(format!("{other:?}"))),
        Err(error) => Err(ShellError::Host(error.to_string())),
    }
}

/// Attaches to the daemon. Only one whose clients acknowledge messages may hand them out: a daemon that
/// acknowledges them itself would lose those that wait here when the host ends.
async fn open(args: &McpArgs) -> Result<(Node, Events), ShellError> {
    let path = attach::socket_of(args.socket.as_deref(), &args.flags)?;
    let binary =
        std::env::current_exe().map_err(|error| StartError::system("finding the binary failed", &error))?;
    let mut builder = Builder::default()
        .binary(binary)
        .socket(path)
        .shared(!args.no_start)
        .ack(AckMode::Manual)
        .mail_buffer(inbox::MAX_MAIL)
        .broadcast_buffer(inbox::MAX_BROADCASTS)
        .on_stderr(|text| {
            let _ = stderr().write_all(text);
        });
    if !args.no_start {
        builder = builder.args(&args.flags);
    }
    let (node, events) = builder.clone().inbox(false).open().await?;
    if !Agent::acknowledges(&node) {
        return Ok((node, events));
    }
    if let Some(group) = &args.group {
        builder = builder.group(group);
    }
    Ok(builder.open().await?)
}
