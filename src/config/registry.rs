//! The settings of the registry together.

use p2p_node_core::gate::admission_policy::AdmissionMode;
use p2p_node_core::gate::registry::{ClaimScope, RegistryConfig, RegistryPolicy};
use p2p_node_wire::record::RegistryClaim;
use reqwest::Url;

use super::{Config, ConfigError, Secret};
use crate::chain::registry::{RegistryContract, RegistryKind};
use crate::chain::{ChainConfig, MAX_RPC_SERVERS};

impl Config {
    /// Returns what the node reads of a chain, if the configuration names RPC servers.
    ///
    /// # Errors
    /// Fails if the settings contradict each other. The error does not show the URLs.
    pub fn chain(&self) -> Result<Option<ChainConfig>, ConfigError> {
        let wrong = |reason: String| Err(ConfigError::Registry(reason));
        let reads = self.registry.is_some() && self.registry_policy != RegistryPolicy::Off;
        if self.report_interactions && (!reads || self.private_key.is_none()) {
            let reason = "--report-interactions requires PRIVATE_KEY, REGISTRY_ADDRESS, and a REGISTRY_POLICY other than off";
            return wrong(reason.to_owned());
        }
        if self.admission == AdmissionMode::Registered && !reads {
            let reason =
                "--admission registered requires REGISTRY_ADDRESS, and a REGISTRY_POLICY other than off";
            return wrong(reason.to_owned());
        }
        let rpc_urls = rpc_urls(self.rpc_urls.as_ref().map(Secret::expose).unwrap_or_default())?;
        match (rpc_urls.len(), self.registry) {
            (0, None) => return Ok(None),
            (0, Some(_)) => return wrong("a registry requires RPC_URL".to_owned()),
            _ => {}
        }
        if self.registry_quorum > rpc_urls.len() {
            let (quorum, servers) = (self.registry_quorum, rpc_urls.len());
            return wrong(format!("REGISTRY_QUORUM is {quorum}, and RPC_URL names {servers} servers"));
        }
        self.registry_config()?;
        Ok(Some(ChainConfig {
            registry: self.registry.map(|address| RegistryContract {
                kind: self.registry_kind,
                address,
                reputation: self.reputation_registry,
                reviewers: self.reviewers.clone(),
            }),
            ens: self.ens,
            rpc_urls,
            quorum: self.registry_quorum,
            chain_id: self.registry_chain,
            depth: self.registry_depth,
            refresh: (self.registry_policy != RegistryPolicy::Off).then_some(self.registry_refresh),
            reporter: None,
        }))
    }

    /// Returns the registry as the core knows it.
    ///
    /// # Errors
    /// Fails for a registry of ERC-8004 without the id of its chain, which claims name; and for a claim in
    /// another registry.
    pub fn registry_config(&self) -> Result<Option<RegistryConfig>, ConfigError> {
        let Some(registry) = self.registry else { return Ok(None) };
        let claims = match (self.registry_kind, self.registry_chain) {
            (RegistryKind::AgentRegistry, _) => None,
            (RegistryKind::Erc8004, Some(chain_id)) => Some(ClaimScope { chain_id, registry }),
            (RegistryKind::Erc8004, None) => {
                let reason = "a registry of the kind erc8004 requires REGISTRY_CHAIN_ID";
                return Err(ConfigError::Registry(reason.to_owned()));
            }
        };
        let own_claim = match (self.registry_agent_id, claims) {
            (None, _) => None,
            (Some(agent_id), Some(ClaimScope { chain_id, registry })) => {
                Some(RegistryClaim { chain_id, registry, agent_id })
            }
            (Some(_), None) => {
                let reason = "REGISTRY_AGENT_ID requires REGISTRY_KIND=erc8004";
                return Err(ConfigError::Registry(reason.to_owned()));
            }
        };
        let reports = self.report_interactions;
        Ok(Some(RegistryConfig { policy: self.registry_policy, claims, own_claim, reports }))
    }
}

/// Parses the value of `RPC_URL`.
///
/// # Errors
/// Fails if a URL is invalid, or if there are too many. The error does not show them.
pub fn rpc_urls(text: &str) -> Result<Vec<Url>, ConfigError> {
    let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
    let urls: Vec<Url> = urls.map(rpc_url).collect::<Result<_, _>>()?;
    match urls.len() {
        0..=MAX_RPC_SERVERS => Ok(urls),
        _ => Err(ConfigError::Registry(format!("RPC_URL: at most {MAX_RPC_SERVERS} servers are possible"))),
    }
}

/// Parses the URL of an RPC server. Errors do not show it, because it may contain a key.
fn rpc_url(text: &str) -> Result<Url, ConfigError> {
    let wrong = |reason: &str| ConfigError::Registry(format!("RPC_URL: {reason}"));
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(wrong("a URL must begin with http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;
    use crate::config::RunArgs;

    const REGISTRY: &str = "0x00000000000000000000000000000000000000a1";

    fn chain(variables: &[(&str, &str)]) -> Result<Option<ChainConfig>, String> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let config = Config::resolve(&RunArgs::default(), &environment, Path::new("/nonexistent"));
        config.and_then(|config| config.chain()).map_err(|error| error.to_string())
    }

    #[test]
    fn registry_needs_servers_and_a_quorum_that_they_can_reach() {
        assert!(chain(&[]).unwrap().is_none());
        let without = chain(&[("RPC_URL", "http://127.0.0.1:1")]).unwrap().expect("a chain");
        assert_eq!(without.registry, None);
        let two = "http://127.0.0.1:1/, https://example.org/v1/secret";
        let found = chain(&[("REGISTRY_ADDRESS", REGISTRY), ("RPC_URL", two), ("REGISTRY_QUORUM", "2")]);
        let found = found.unwrap().unwrap();
        assert_eq!((found.rpc_urls.len(), found.quorum), (2, 2));
        assert!(!format!("{found:?}").contains("secret"));
        for (variables, reason) in [
            (vec![], "requires RPC_URL"),
            (vec![("RPC_URL", two), ("REGISTRY_QUORUM", "3")], "names 2 servers"),
            (vec![("RPC_URL", "ftp://example.org")], "must begin with http"),
            (vec![("RPC_URL", "example.org")], "RPC_URL: "),
            (vec![("RPC_URL", &["http://a.example/"; 9].join(",") as &str)], "at most 8"),
            (vec![("RPC_URL", two), ("REGISTRY_REFRESH", "0")], "at least 0.1"),
            (vec![("RPC_URL", two), ("REGISTRY_DEPTH", "deep")], "REGISTRY_DEPTH"),
            (vec![("RPC_URL", two), ("REGISTRY_POLICY", "strict")], "REGISTRY_POLICY"),
            (vec![("RPC_URL", two), ("REGISTRY_KIND", "erc721")], "REGISTRY_KIND"),
            (vec![("RPC_URL", two), ("REGISTRY_KIND", "erc8004")], "requires REGISTRY_CHAIN_ID"),
            (
                vec![("RPC_URL", two), ("REGISTRY_POLICY", "off"), ("P2P_NODE_ADMISSION", "registered")],
                "--admission registered",
            ),
        ] {
            let variables = [vec![("REGISTRY_ADDRESS", REGISTRY)], variables].concat();
            let error = chain(&variables).expect_err(reason);
            assert!(error.contains(reason) && !error.contains("secret"), "{reason}: {error}");
        }
    }

    #[test]
    fn registry_of_erc8004_has_a_known_address_and_its_agents_claim_an_entry() {
        let config = |variables: &[(&str, &str)]| {
            let environment = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| OsString::from(value))
            };
            Config::resolve(&RunArgs::default(), &environment, Path::new("/nonexistent")).unwrap()
        };
        let known = [
            ("RPC_URL", "http://127.0.0.1:1"),
            ("REGISTRY_KIND", "erc8004"),
            ("REGISTRY_CHAIN_ID", "8453"),
            ("REGISTRY_AGENT_ID", "340282366920938463463374607431768211456"),
        ];
        let registry = RegistryKind::Erc8004.known_address().unwrap();
        let found = config(&known);
        assert_eq!(found.chain().unwrap().unwrap().registry.unwrap().address, registry);
        let agent_id = alloy::primitives::U256::from(1) << 128;
        let claim = RegistryClaim { chain_id: 8453, registry, agent_id };
        assert_eq!(found.registry_config().unwrap().unwrap().own_claim, Some(claim));
        let error = config(&[("REGISTRY_ADDRESS", REGISTRY), ("REGISTRY_AGENT_ID", "1")]).registry_config();
        assert!(error.unwrap_err().to_string().contains("REGISTRY_KIND=erc8004"));
    }
}
