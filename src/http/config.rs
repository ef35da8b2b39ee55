//! The settings of the HTTP server together.

use std::net::SocketAddr;

use crate::config::{Config, ConfigError, Secret};

/// Shortest token, in bytes: 16 random characters of base64 have 96 bits, which nobody guesses through a
/// server.
pub const MIN_TOKEN_BYTES: usize = 16;

/// Where the server listens, and who may read.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Address to listen on.
    pub addr: SocketAddr,
    /// The token that a reader must send, if there is one.
    pub token: Option<Secret>,
}

/// Checks the token of a variable.
///
/// # Errors
/// Fails if it is too short or not printable.
pub(crate) fn check_token(variable: &str, token: &Secret) -> Result<(), String> {
    let text = token.expose();
    if text.len() < MIN_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{variable} must have at least {MIN_TOKEN_BYTES} printable characters, without spaces"
        ));
    }
    Ok(())
}

impl HttpConfig {
    /// Returns the server of a configuration, if it has one.
    ///
    /// # Errors
    /// Fails if others could read without a token, or if the token is too short or not printable.
    pub fn of(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(addr) = config.http else { return Ok(None) };
        let token = config.http_token.clone();
        if let Some(token) = &token {
            check_token("P2P_NODE_HTTP_TOKEN", token).map_err(ConfigError::Http)?;
        }
        if !addr.ip().is_loopback() && token.is_none() {
            return Err(ConfigError::Http(format!(
                "--http {addr}: an address other than loopback requires P2P_NODE_HTTP_TOKEN, in the environment or an env file"
            )));
        }
        Ok(Some(HttpConfig { addr, token }))
    }
}
