//! Who a node is: by the agent's key, or by a binding that was signed elsewhere.

use std::path::{Path, PathBuf};

use super::start::StartError;
use crate::config::Config;
use crate::core::identity::binding::BINDING_LIFE_SECS;
use crate::core::identity::presigned::{MAX_BINDING_FILE_BYTES, check_presigned, read_binding_file};
use crate::core::identity::{AgentKey, Binding, NodeKey, SignedBinding};
use crate::core::input::Now;
use crate::io::keystore::{self, NODE_KEY_FILE};

/// Who a node is.
pub struct Identity {
    pub node_key: NodeKey,
    /// Absent when the binding was signed elsewhere.
    pub agent: Option<AgentKey>,
    pub binding: SignedBinding,
    /// Whether the agent's key is lost with the process.
    pub ephemeral: bool,
}

impl Identity {
    pub fn of(config: &Config, now: Now) -> Result<Self, StartError> {
        match (&config.binding_file, &config.private_key) {
            (Some(_), Some(_)) => Err(StartError::Identity(
                "PRIVATE_KEY and P2P_NODE_BINDING (--binding) are both given: with a binding the key has no business here, so take one of them away"
                    .to_owned(),
            )),
            (Some(path), None) => presigned(path, config, now),
            (None, _) => self_signed(config, now),
        }
    }
}

fn node_key_path(config: &Config) -> Option<PathBuf> {
    let in_data_dir = || config.data_dir.as_ref().map(|dir| dir.join(NODE_KEY_FILE));
    config.node_key_file.clone().or_else(in_data_dir)
}

fn self_signed(config: &Config, now: Now) -> Result<Identity, StartError> {
    let (variable, agent) = match (&config.private_key, &config.ephemeral_key) {
        (Some(secret), _) => ("PRIVATE_KEY", AgentKey::from_hex(secret.expose())),
        (None, Some(secret)) => ("P2P_NODE_EPHEMERAL_KEY", AgentKey::from_hex(secret.expose())),
        (None, None) => ("the random key", AgentKey::from_bytes(&*keystore::random_secret()?)),
    };
    let agent = agent.map_err(|error| StartError::Identity(format!("{variable}: {error}")))?;
    let node_key = match node_key_path(config) {
        Some(path) => NodeKey::from_seed(*keystore::node_key(&path)?),
        None => NodeKey::derive(&agent.secret(), &config.network, &config.instance, config.generation),
    };
    let now_secs = now.unix_ms / 1000;
    let binding = Binding {
        account: agent.address(),
        chain_id: 0,
        peer_id: node_key.peer_id(),
        node_key: node_key.public(),
        network: config.network.clone(),
        generation: config.generation,
        not_before: now_secs,
        not_after: now_secs + BINDING_LIFE_SECS,
    };
    let binding = agent.bind(binding).map_err(|error| StartError::Identity(error.to_string()))?;
    Ok(Identity { node_key, agent: Some(agent), binding, ephemeral: config.private_key.is_none() })
}

fn presigned(path: &Path, config: &Config, now: Now) -> Result<Identity, StartError> {
    let wrong = |what: String| StartError::Identity(format!("binding {}: {what}", path.display()));
    let text =
        keystore::read_public(path, MAX_BINDING_FILE_BYTES).map_err(|error| wrong(error.to_string()))?;
    let binding = read_binding_file(&text).map_err(|error| wrong(error.to_string()))?;
    check_presigned(&binding, &config.network, now.unix_ms).map_err(|error| wrong(error.to_string()))?;
    let signed = binding.binding.generation;
    // 0 is what a configuration without a generation has.
    if config.generation != 0 && config.generation != signed {
        return Err(wrong(format!(
            "the binding is of generation {signed}, and --generation is {}",
            config.generation
        )));
    }
    let key_path = node_key_path(config).ok_or_else(|| {
        wrong(
            "the node key that it names is needed too, in the data directory (--data-dir) or as --node-key"
                .to_owned(),
        )
    })?;
    let node_key = NodeKey::from_seed(*keystore::existing_node_key(&key_path)?);
    if node_key.public() != binding.binding.node_key {
        return Err(wrong(format!(
            "the binding is for the node {}, and the key in {} is that of {}",
            binding.binding.peer_id,
            key_path.display(),
            node_key.peer_id()
        )));
    }
    Ok(Identity { node_key, agent: None, binding, ephemeral: false })
}
