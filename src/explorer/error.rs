//! Errors of the explorer.

use p2p_node_core::effect::ExitCode;

use crate::config::ConfigError;

/// Errors of the explorer.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address of the node is invalid.
    #[error("--attach {0}: the address of a node's HTTP server looks like http://127.0.0.1:9464")]
    Url(String),
    /// The node does not answer.
    #[error("{url} does not answer: {why}; start the node with --http")]
    Silent {
        /// URL of the node.
        url: String,
        /// The error of the connection.
        why: String,
    },
    /// The node refuses.
    #[error("{url} refuses with status {status}{}", advice(.status))]
    Refused {
        /// URL of the node.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The report cannot be read.
    #[error("the report of the node cannot be read: {0}; use the version of the node")]
    Report(String),
    /// The page has no address.
    #[error("--http {addr}: the page cannot be served: {why}; free the port, or use another one")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// The error of the system.
        why: std::io::Error,
    },
    /// The explorer's own node has ended.
    #[error("the node of the explorer ended: {0}")]
    Ended(String, ExitCode),
    /// There is no terminal to draw on.
    #[error("--tui needs a terminal as stdin and stdout; use --json in a script")]
    NoTerminal,
    /// A socket, a terminal or stdout failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Returns what to do about a status.
fn advice(status: &u16) -> &'static str {
    match status {
        401 => ": set P2P_NODE_HTTP_TOKEN to the token of the node",
        _ => "",
    }
}

impl ExplorerError {
    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ExplorerError::Config(error) => error.exit_code(),
            ExplorerError::Url(_) | ExplorerError::NoTerminal => ExitCode::Usage,
            ExplorerError::Silent { .. }
            | ExplorerError::Refused { .. }
            | ExplorerError::Report(_)
            | ExplorerError::Listen { .. } => ExitCode::Unavailable,
            ExplorerError::Ended(_, code) => *code,
            ExplorerError::Io(_) => ExitCode::Io,
        }
    }
}
