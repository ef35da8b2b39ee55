//! The settings of the gRPC server together.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::{Config, ConfigError, Secret};
use crate::http::check_token;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcAddr {
    /// An address of TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for GrpcAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs a path".to_owned()),
            Some(path) => Ok(GrpcAddr::Unix(path.into())),
            None => text
                .parse()
                .map(GrpcAddr::Tcp)
                .map_err(|_| "the value must be <ip>:<port> or unix:<path>".to_owned()),
        }
    }
}

impl fmt::Display for GrpcAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrpcAddr::Tcp(addr) => addr.fmt(f),
            GrpcAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where the server listens, and who may call it.
#[derive(Clone, Debug)]
pub struct GrpcConfig {
    /// Where it listens.
    pub addr: GrpcAddr,
    /// The token that a client must send, if there is one.
    pub token: Option<Secret>,
}

impl GrpcConfig {
    /// Returns the server of a configuration, if it has one.
    ///
    /// # Errors
    /// Fails if others could speak as the agent without a token, or if the token is too short or not
    /// printable.
    pub fn of(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(addr) = config.grpc.clone() else { return Ok(None) };
        let token = config.grpc_token.clone();
        if let Some(token) = &token {
            check_token("P2P_NODE_GRPC_TOKEN", token).map_err(ConfigError::Grpc)?;
        } else if let GrpcAddr::Tcp(addr) = addr {
            // Every user of the machine reaches loopback, and a client speaks in the name of the agent.
            return Err(ConfigError::Grpc(format!(
                "--grpc {addr}: an address of TCP requires P2P_NODE_GRPC_TOKEN, in the environment or an env file; or use unix:<path>"
            )));
        }
        Ok(Some(GrpcConfig { addr, token }))
    }
}
