//! Flags, env files and environment, resolved into one [`Config`].
//!
//! Order: flag, file named by `-e`, environment, `.env` in the working directory, default. The file
//! named by `-e` precedes the environment: otherwise all children of a launcher would use the key
//! in the environment that they inherit.

mod cli;
mod env;
mod sources;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libp2p::Multiaddr;
use p2p_node_protocol::Role;
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

pub use cli::{BindArgs, Cli, KeygenArgs, RunArgs, SchemaArgs, Task};
use env::EnvFile;
pub use env::EnvFileError;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::gate::address_scope::AddressScope;
use sources::Sources;
use values::{
    ack, bootstrap_peers, log_level, multiaddrs, on_eof, parse, process_id, role, seconds, yes_or_no,
};
pub use values::{network_name, short_text};

/// Default network. Its address scope is loopback, so that a node without configuration reaches
/// this machine only.
pub const DEFAULT_NETWORK: &str = "dev";

/// Default time to finish accepted work before the process exits. 5 s: supervisors usually wait
/// 10 s between SIGTERM and SIGKILL, and the node needs part of that to write its last lines.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Upper limit of `--drain-timeout` and `--receive-after-eof`. No supervisor waits longer than an
/// hour for a process to exit.
pub const MAX_END_TIME: Duration = Duration::from_secs(3600);

/// Maximum length of a network name, in bytes. Every protocol name and topic contains it.
pub const MAX_NETWORK_BYTES: usize = 32;

/// Maximum length of a display name and of an instance, in bytes. The record, which has at most
/// 2.5 KiB, contains the name.
pub const MAX_NAME_BYTES: usize = 64;

/// Configuration of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// TCP and UDP port; 0 lets the system choose. A port in `connect` takes precedence.
    pub port: u16,
    /// Name of the network, 1 to 32 bytes of `a-z`, `0-9` and `-`.
    pub network: String,
    /// Bootstrap nodes; each address ends in `/p2p/<peer id>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Addresses to listen on. If empty, the address scope decides.
    pub listen: Vec<Multiaddr>,
    /// Limits the addresses that the node listens on, advertises and dials.
    pub address_scope: AddressScope,
    /// Role of the node in the network.
    pub role: Role,
    /// Display name, at most 64 bytes; may be empty.
    pub name: String,
    /// Ethereum key of the agent as configured, not yet checked. If `None`, `ephemeral_key`
    /// applies.
    pub private_key: Option<Secret>,
    /// Env file that contains `private_key`. `None` if the key is in the environment or absent.
    pub private_key_file: Option<PathBuf>,
    /// Fallback key, which a supervisor sets so that a restarted agent without a configured key has
    /// the same identity. If `None`, the node generates a key for this process.
    pub ephemeral_key: Option<Secret>,
    /// File with a binding that a wallet signed; replaces the agent's key. If `None`, the node
    /// signs its own binding.
    pub binding_file: Option<PathBuf>,
    /// File with the node key. If `None`, the node uses the one in `data_dir`, or else derives the
    /// key from the agent's key.
    pub node_key_file: Option<PathBuf>,
    /// Directory for all persistent state. If `None`, nothing survives the process.
    pub data_dir: Option<PathBuf>,
    /// Distinguishes several nodes with one agent key; at most 64 bytes, usually empty.
    pub instance: String,
    /// Generation of the node key, in seconds since 1970.
    pub generation: u64,
    /// `true` starts the node without the command `connect`.
    pub connect: bool,
    /// Selects who acknowledges messages.
    pub ack: Ack,
    /// Action at the end of stdin.
    pub on_eof: OnEof,
    /// `true` waits for every delivery at the end of stdin, and exits with 0 only if every command
    /// succeeded.
    pub require_delivery: bool,
    /// How long the node keeps receiving after the end of stdin before it exits.
    pub receive_after_eof: Duration,
    /// Maximum time to finish accepted work before the node exits.
    pub drain_timeout: Duration,
    /// Scope of the identity lock: processes with different scopes may use one identity. Usually
    /// empty.
    pub lock_scope: String,
    /// Process whose exit counts as the end of stdin. If `None`, only stdin itself counts.
    pub parent_pid: Option<i32>,
    /// Minimum level of the log lines on stderr.
    pub log_level: LevelFilter,
}

/// Selects who acknowledges messages. The sender reports `delivered` after the acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The node acknowledges a message when it delivers the message to the parent.
    #[default]
    Auto,
    /// The parent acknowledges each message with the command `ack`.
    Manual,
}

/// Action at the end of stdin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnEof {
    /// Finishes accepted work and exits.
    #[default]
    Exit,
    /// Keeps running until a signal arrives; for bootstrap nodes and daemons.
    Stay,
}

/// Secret text. `Drop` wipes it and `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Returns the secret in clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Errors of [`Config::load`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or a variable has an invalid value.
    #[error("{origin}: {reason}")]
    Setting {
        /// Source of the value.
        origin: Origin,
        /// Requirement that the value violates.
        reason: String,
    },
    /// The file named by `-e` does not exist.
    #[error("env file {0} does not exist")]
    EnvFileMissing(PathBuf),
    /// An env file is unreadable or malformed.
    #[error("env file {0} {1}")]
    EnvFile(PathBuf, #[source] EnvFileError),
    /// An env file with a key is readable by users other than its owner.
    #[error(
        "env file {path} contains {variable} and is readable by other users (mode {mode:04o}): run `chmod 600 {path}`, and replace the key if somebody may have read it"
    )]
    OpenToOthers {
        /// Path of the file.
        path: PathBuf,
        /// Name of the variable with the key.
        variable: &'static str,
        /// Permission bits of the file.
        mode: u32,
    },
}

impl ConfigError {
    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ConfigError::Setting { origin: Origin::Flag(_), .. } => ExitCode::Usage,
            ConfigError::OpenToOthers { .. } => ExitCode::NoPermission,
            _ => ExitCode::Config,
        }
    }
}

/// Source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A variable in an env file.
    File(&'static str, PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::File(variable, path) => write!(f, "{variable} in {}", path.display()),
        }
    }
}

impl Config {
    /// Resolves the flags with the environment and the working directory of the process.
    ///
    /// # Errors
    /// Returns the first invalid value with its source.
    pub fn load(args: &RunArgs) -> Result<Self, ConfigError> {
        Self::resolve(args, &|variable| std::env::var_os(variable), Path::new(""))
    }

    /// Resolves the flags with the given environment and working directory.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn resolve(
        args: &RunArgs,
        environment: &dyn Fn(&str) -> Option<OsString>,
        directory: &Path,
    ) -> Result<Self, ConfigError> {
        let from = Sources::read(args.env_file.as_deref(), environment, directory)?;
        let (private_key, private_key_file) = from.secret("PRIVATE_KEY")?;
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));

        let network = from
            .setting("--network", args.network.clone(), "P2P_NODE_NETWORK", network_name)?
            .unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
        let address_scope = from
            .setting("--address-scope", args.address_scope.clone(), "P2P_NODE_ADDRESS_SCOPE", parse)?
            .unwrap_or_else(|| AddressScope::of_network(&network));
        Ok(Config {
            port: from.setting("--port", args.port.clone(), "P2P_NODE_PORT", parse)?.unwrap_or(0),
            bootstrap: from
                .setting("--bootstrap", list(&args.bootstrap), "P2P_NODE_BOOTSTRAP", bootstrap_peers)?
                .unwrap_or_default(),
            listen: from
                .setting("--listen", list(&args.listen), "P2P_NODE_LISTEN", multiaddrs)?
                .unwrap_or_default(),
            address_scope,
            role: from.setting("--role", args.role.clone(), "P2P_NODE_ROLE", role)?.unwrap_or_default(),
            name: from.setting("--name", args.name.clone(), "P2P_NODE_NAME", short_text)?.unwrap_or_default(),
            private_key,
            private_key_file,
            ephemeral_key: from.secret("P2P_NODE_EPHEMERAL_KEY")?.0,
            binding_file: from.setting("--binding", args.binding.clone(), "P2P_NODE_BINDING", parse)?,
            node_key_file: from.setting("--node-key", args.node_key.clone(), "P2P_NODE_NODE_KEY", parse)?,
            data_dir: from.setting("--data-dir", args.data_dir.clone(), "P2P_NODE_DATA_DIR", parse)?,
            instance: from
                .setting("--instance", args.instance.clone(), "P2P_NODE_INSTANCE", short_text)?
                .unwrap_or_default(),
            generation: from
                .setting("--generation", args.generation.clone(), "P2P_NODE_GENERATION", parse)?
                .unwrap_or(0),
            connect: from
                .setting("--connect", args.connect.clone(), "P2P_NODE_CONNECT", yes_or_no)?
                .unwrap_or(false),
            ack: from.setting("--ack", args.ack.clone(), "P2P_NODE_ACK", ack)?.unwrap_or_default(),
            on_eof: from
                .setting("--on-eof", args.on_eof.clone(), "P2P_NODE_ON_EOF", on_eof)?
                .unwrap_or_default(),
            require_delivery: from
                .setting(
                    "--require-delivery",
                    args.require_delivery.clone(),
                    "P2P_NODE_REQUIRE_DELIVERY",
                    yes_or_no,
                )?
                .unwrap_or(false),
            receive_after_eof: from
                .setting(
                    "--receive-after-eof",
                    args.receive_after_eof.clone(),
                    "P2P_NODE_RECEIVE_AFTER_EOF",
                    seconds,
                )?
                .unwrap_or_default(),
            lock_scope: from
                .setting("--lock-scope", args.lock_scope.clone(), "P2P_NODE_LOCK_SCOPE", parse)?
                .unwrap_or_default(),
            parent_pid: from.setting(
                "--parent-pid",
                args.parent_pid.clone(),
                "P2P_NODE_PARENT_PID",
                process_id,
            )?,
            drain_timeout: from
                .setting("--drain-timeout", args.drain_timeout.clone(), "P2P_NODE_DRAIN_TIMEOUT", seconds)?
                .unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            log_level: from
                .setting("--log-level", args.log_level.clone(), "P2P_NODE_LOG_LEVEL", log_level)?
                .unwrap_or(LevelFilter::WARN),
            network,
        })
    }
}

/// Returns the agent's key in an env file, or `None` if the file does not set `PRIVATE_KEY`.
///
/// # Errors
/// Fails if the file does not exist, is malformed, or is readable by other users.
pub fn private_key_in(path: &Path) -> Result<Option<Secret>, ConfigError> {
    let file = EnvFile::read(path).map_err(|error| ConfigError::EnvFile(path.to_owned(), error))?;
    let file = file.ok_or_else(|| ConfigError::EnvFileMissing(path.to_owned()))?;
    let Some(key) = file.get("PRIVATE_KEY").filter(|key| !key.is_empty()) else { return Ok(None) };
    file.check_secret(path, "PRIVATE_KEY")?;
    Ok(Some(Secret(Zeroizing::new(key.to_owned()))))
}

#[cfg(test)]
mod tests;
