//! Flags, env files and environment, resolved into one [`Config`].
//!
//! Order: flag, file named by `-e`, environment, `.env` in the working directory, default. The file
//! named by `-e` precedes the environment: otherwise all children of a launcher would use the key
//! in the environment that they inherit.

mod cli;
mod declare;
mod derived;
mod documents;
mod env;
mod imports;
mod mcp;
mod registry;
mod settings;
mod shell;
mod sources;
mod traces;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::http::HttpConfig;
pub use cli::{
    AttachArgs, BindArgs, Cli, ExplorerArgs, KeygenArgs, RegisterArgs, RegistryArgs, SchemaArgs, Subject,
    Task,
};
pub use declare::Setting;
pub use documents::{env_example, table_of_settings};
use env::EnvFile;
pub use env::EnvFileError;
pub use mcp::McpArgs;
use p2p_node_core::effect::ExitCode;
pub use registry::rpc_urls;
pub use settings::{Config, RunArgs, SETTINGS};
pub use shell::{AskArgs, DiscoverArgs, Format, ListenArgs, NodeArgs, OneShot, SendArgs, WhoamiArgs};
use sources::Sources;
pub use values::{network_name, short_text};

/// Default network. Its address scope is loopback, so that a node without configuration reaches
/// this machine only.
pub const DEFAULT_NETWORK: &str = "dev";
/// Default of `--files-quota`, in bytes. Our choice: four files of the largest size.
pub const DEFAULT_FILES_QUOTA: u64 = 4 << 30;

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
    /// The numbers of connections contradict each other.
    #[error("{0}")]
    Connections(String),
    /// The settings of the HTTP server contradict each other.
    #[error("{0}")]
    Http(String),
    /// The settings of the gRPC server contradict each other.
    #[error("{0}")]
    Grpc(String),
    /// The settings of the A2A gateway contradict each other.
    #[error("{0}")]
    A2a(String),
    /// The settings of the registry contradict each other.
    #[error("{0}")]
    Registry(String),
    /// The headers for the collector of traces are malformed.
    #[error(
        "OTEL_EXPORTER_OTLP_HEADERS must be NAME=VALUE pairs, separated by commas, with percent-encoded values"
    )]
    TraceHeaders,
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
            ConfigError::Setting { origin: Origin::Flag(_), .. } | ConfigError::Connections(_) => {
                ExitCode::Usage
            }
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
        let config = Self::from_sources(args, &from)?;
        config.connections().check().map_err(ConfigError::Connections)?;
        HttpConfig::of(&config)?;
        Ok(config)
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
