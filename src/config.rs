//! Flags, env files and environment, resolved into one [`Config`].
//!
//! Order: flag, file named by `-e`, environment, `.env` in the working directory, default. The file named
//! by `-e` outranks the environment, or every child of a launcher would share the key that it inherits.

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

/// The network of a node that was given none: this machine alone.
pub const DEFAULT_NETWORK: &str = "dev";

/// How long accepted work may take to finish before the process ends all the same (design §2).
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time to drain or to receive_after_eof that is accepted; beyond an hour a supervisor has given up long since.
pub const MAX_END_TIME: Duration = Duration::from_secs(3600);

/// Longest name of a network, in bytes: it is part of every protocol name and topic.
pub const MAX_NETWORK_BYTES: usize = 32;

/// Longest display name, and longest instance, in bytes: the record carries the name within 2.5 KiB.
pub const MAX_NAME_BYTES: usize = 64;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// TCP and UDP port; 0 takes any. A `connect` that names a port outranks it.
    pub port: u16,
    /// Name of the network, 1 to 32 bytes of `a-z`, `0-9` and `-`.
    pub network: String,
    /// Nodes to join through; each ends in `/p2p/<peer id>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Addresses to listen on; empty: those of the scope.
    pub listen: Vec<Multiaddr>,
    /// What is listened on, advertised and dialled.
    pub address_scope: AddressScope,
    /// What part the node plays.
    pub role: Role,
    /// Display name, at most 64 bytes; may be empty.
    pub name: String,
    /// The agent's Ethereum key as it was given, not checked; `None`: `ephemeral_key`.
    pub private_key: Option<Secret>,
    /// The env file that `private_key` came from; `None`: the environment, or there is no key.
    pub private_key_file: Option<PathBuf>,
    /// The key of an agent that was given none, from a supervisor that wants it to be the same over several processes; `None`: one
    /// is made for this process.
    pub ephemeral_key: Option<Secret>,
    /// Binding that was signed elsewhere, in place of the agent's key; `None`: the node signs its own.
    pub binding_file: Option<PathBuf>,
    /// The node key; `None`: in `data_dir`, else derived from the agent's key.
    pub node_key_file: Option<PathBuf>,
    /// Where the node key and floors outlive the process; `None`: nowhere.
    pub data_dir: Option<PathBuf>,
    /// Tells apart several nodes of one key, at most 64 bytes; usually empty.
    pub instance: String,
    /// Generation of the node key, in seconds since 1970.
    pub generation: u64,
    /// Whether to start without waiting for `connect`.
    pub connect: bool,
    /// Who acknowledges mail.
    pub ack: Ack,
    /// What to do when stdin ends.
    pub on_eof: OnEof,
    /// Whether the exit code says that all that stdin asked for was done, and mail is waited for.
    pub require_delivery: bool,
    /// How long to go on receiving after the end of stdin, before exiting.
    pub receive_after_eof: Duration,
    /// Longest time to finish accepted work before exiting.
    pub drain_timeout: Duration,
    /// Processes of other scopes do not keep this one from its identity; usually empty.
    pub lock_scope: String,
    /// Process whose end is taken for that of stdin; `None`: stdin alone tells.
    pub parent_pid: Option<i32>,
    /// What stderr gets.
    pub log_level: LevelFilter,
}

/// Who acknowledges mail, so that its sender is told that it was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The node, when it is on its way to the parent.
    #[default]
    Auto,
    /// The parent, by `ack`.
    Manual,
}

/// What to do when stdin ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnEof {
    /// Finish what was accepted and exit.
    #[default]
    Exit,
    /// Go on until a signal comes: for bootstrap nodes and daemons.
    Stay,
}

/// A secret text: wiped when dropped, and never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or a variable has a value that cannot be used.
    #[error("{origin}: {reason}")]
    Setting {
        /// Where the value stood.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// The file named by `-e` is not there.
    #[error("env file {0}: there is no such file")]
    EnvFileMissing(PathBuf),
    /// An env file cannot be used.
    #[error("env file {0} {1}")]
    EnvFile(PathBuf, #[source] EnvFileError),
    /// Others than its owner may read an env file with a key.
    #[error(
        "env file {path} holds {variable} and others may read it (mode {mode:04o}): run `chmod 600 {path}`, and consider whether the key is still secret"
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// The variable that holds the key.
        variable: &'static str,
        /// The permissions of the file.
        mode: u32,
    },
}

impl ConfigError {
    /// How the process ends for this reason.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ConfigError::Setting { origin: Origin::Flag(_), .. } => ExitCode::Usage,
            ConfigError::OpenToOthers { .. } => ExitCode::NoPermission,
            _ => ExitCode::Config,
        }
    }
}

/// Where a value stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Environment(&'static str),
    /// In an env file.
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
    /// Resolves the flags against the process's environment and working directory.
    ///
    /// # Errors
    /// The first value that cannot be used, with the place where it stands.
    pub fn load(args: &RunArgs) -> Result<Self, ConfigError> {
        Self::resolve(args, &|variable| std::env::var_os(variable), Path::new(""))
    }

    /// As [`Config::load`], with an environment and a working directory that are handed in.
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

/// The agent's key in an env file; `None` if the file sets none.
///
/// # Errors
/// When there is no such file, or it cannot be used.
pub fn private_key_in(path: &Path) -> Result<Option<Secret>, ConfigError> {
    let file = EnvFile::read(path).map_err(|error| ConfigError::EnvFile(path.to_owned(), error))?;
    let file = file.ok_or_else(|| ConfigError::EnvFileMissing(path.to_owned()))?;
    let Some(key) = file.get("PRIVATE_KEY").filter(|key| !key.is_empty()) else { return Ok(None) };
    file.check_secret(path, "PRIVATE_KEY")?;
    Ok(Some(Secret(Zeroizing::new(key.to_owned()))))
}

#[cfg(test)]
mod tests;
