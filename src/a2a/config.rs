//! The settings of the A2A gateway together.

use std::net::SocketAddr;

use reqwest::Url;

use crate::config::{Config, ConfigError, Secret};
use crate::http::check_token;

/// Where the gateway listens, who may call it, and the A2A server of the agent.
#[derive(Clone, Debug)]
pub struct A2aConfig {
    /// Address to listen on.
    pub addr: SocketAddr,
    /// The token that a client must send, if there is one.
    pub token: Option<Secret>,
    /// Base URL of the A2A server of this agent.
    pub server: Option<Url>,
}

/// Parses the base URL of an A2A server.
///
/// # Errors
/// Returns the requirement that `text` violates.
pub(crate) fn server_url(text: &str) -> Result<Url, String> {
    let invalid =
        || "the value must be an http or https URL, without a password, query or fragment".to_owned();
    let url = Url::parse(text.trim()).map_err(|_| invalid())?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_plain { Ok(url) } else { Err(invalid()) }
}

impl A2aConfig {
    /// Returns the gateway of a configuration, if it has one.
    ///
    /// # Errors
    /// Fails if others could speak as the agent without a token, if the token is too short or not printable,
    /// or if there is a server and no gateway.
    pub fn of(config: &Config) -> Result<Option<Self>, ConfigError> {
        let server = config.a2a_server.clone();
        let Some(addr) = config.a2a else {
            return match server {
                None => Ok(None),
                Some(_) => {
                    Err(ConfigError::A2a("--a2a-server needs a gateway: give --a2a as well".to_owned()))
                }
            };
        };
        let token = config.a2a_token.clone();
        if let Some(token) = &token {
            check_token("P2P_NODE_A2A_TOKEN", token).map_err(ConfigError::A2a)?;
        }
        if !addr.ip().is_loopback() && token.is_none() {
            return Err(ConfigError::A2a(format!(
                "--a2a {addr}: an address other than loopback requires P2P_NODE_A2A_TOKEN, in the environment or an env file"
            )));
        }
        Ok(Some(A2aConfig { addr, token, server }))
    }
}
