//! `p2p-node attach`: connects stdin and stdout to the socket of a running node, byte for byte, so that a
//! program that starts a node itself can share one without a change.

mod bridge;
mod launch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use p2p_node_core::effect::ExitCode;

use crate::config::{AttachArgs, Cli, Config};
use crate::node::{Identity, StartError, now, socket_path};
use crate::socket::SocketError;

/// Runs the bridge until one side ends, and returns the exit code.
///
/// # Errors
/// Fails if no node listens at the socket, and none could be started.
pub fn run(args: &AttachArgs) -> Result<ExitCode, StartError> {
    let config = load(&args.flags)?;
    let path = path(args.socket.as_deref(), &config)?;
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

/// Returns the configuration of a daemon with these flags.
pub(crate) fn load(flags: &[OsString]) -> Result<Config, StartError> {
    let name = std::iter::once("p2p-node".into());
    match Cli::try_parse_from(name.chain(flags.iter().cloned())) {
        Ok(Cli { task: None, run }) => Ok(Config::load(&run)?.daemon()),
        Ok(_) => Err(StartError::CommandLine("behind -- come flags of the daemon, not a command".to_owned())),
        Err(error) => Err(StartError::CommandLine(error.to_string().trim().replace('\n', " "))),
    }
}

/// Returns the path of the socket of a daemon.
fn path(socket: Option<&Path>, config: &Config) -> Result<PathBuf, StartError> {
    if let Some(path) = socket.or(config.socket.as_deref()) {
        return Ok(path.to_owned());
    }
    let identity = Identity::from_config(config, now())?;
    socket_path(config, &identity)?.ok_or(StartError::Socket(SocketError::NoName))
}

/// Returns the path of the socket of the daemon with these flags, whether or not it runs.
pub(crate) fn socket_of(socket: Option<&Path>, flags: &[OsString]) -> Result<PathBuf, StartError> {
    path(socket, &load(flags)?)
}

/// Returns the socket of the daemon with these flags. `None`: no daemon runs, or nobody could find one. A
/// `socket` that the user names must be that of a node.
pub(crate) fn find(socket: Option<&Path>, flags: &[OsString]) -> Result<Option<PathBuf>, StartError> {
    let path = match path(socket, &load(flags)?) {
        Err(StartError::Socket(SocketError::NoName)) => return Ok(None),
        path => path?,
    };
    match bridge::connect(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) if socket.is_some() => Err(StartError::Attach { path, why: error.to_string() }),
        Err(_) => Ok(None),
    }
}
