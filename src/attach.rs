//! `p2p-node attach`: connects stdin and stdout to the socket of a running node, byte for byte, so that a
//! program that starts a node itself can share one without a change.

mod bridge;
mod launch;

use std::path::PathBuf;

use clap::Parser;
use p2p_node_core::effect::ExitCode;

use crate::config::{AttachArgs, Cli, Config, RunArgs};
use crate::node::{Identity, StartError, now, socket_path};

/// Runs the bridge until one side ends, and returns the exit code.
///
/// # Errors
/// Fails if no node listens at the socket, and none could be started.
pub fn run(args: &AttachArgs) -> Result<ExitCode, StartError> {
    let flags = parse_flags(args)?;
    let config = Config::load(&flags)?.daemon();
    let path = path(args, &config)?;
    let stream = match (bridge::connect(&path), args.start) {
        (Ok(stream), _) => stream,
        (Err(error), false) => return Err(StartError::Attach { path, why: error.to_string() }),
        (Err(_), true) => match launch::start(&path, &args.flags)? {
            launch::Started::Listens(stream) => stream,
            launch::Started::Failed { code, lines } => {
                bridge::print(&lines);
                return Ok(code);
            }
        },
    };
    bridge::run(stream, config.parent_pid)
}

/// Parses the flags of the daemon, which name its socket too.
fn parse_flags(args: &AttachArgs) -> Result<RunArgs, StartError> {
    let name = std::iter::once("p2p-node".into());
    let parsed = Cli::try_parse_from(name.chain(args.flags.iter().cloned()));
    match parsed {
        Ok(Cli { task: None, run }) => Ok(run),
        Ok(_) => Err(StartError::CommandLine("behind -- come flags of the daemon, not a command".to_owned())),
        Err(error) => Err(StartError::CommandLine(error.to_string().trim().replace('\n', " "))),
    }
}

fn path(args: &AttachArgs, config: &Config) -> Result<PathBuf, StartError> {
    if let Some(path) = args.socket.clone().or_else(|| config.socket.clone()) {
        return Ok(path);
    }
    let identity = Identity::from_config(config, now())?;
    socket_path(config, &identity)?.ok_or(StartError::Socket(crate::socket::SocketError::NoName))
}
