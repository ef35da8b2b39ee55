//! Builds the identity of the node, either from the agent's key or from a binding file that a
//! wallet signed.

use std::path::{Path, PathBuf};

use super::start::StartError;
use crate::config::Config;
use crate::io::keystore::{self, AGENT_KEY_FILE, KeyFileError, NODE_KEY_FILE};
use p2p_node_core::KeySource;
use p2p_node_store::disk::Cause;
use p2p_node_wire::identity::binding::{BINDING_LIFE_SECS, is_future_generation};
use p2p_node_wire::identity::presigned::{MAX_BINDING_FILE_BYTES, check_presigned, read_binding_file};
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SignedBinding};
use p2p_node_wire::time::Now;

/// Identity of a node.
#[derive(Clone)]
pub struct Identity {
    /// Key of the node.
    pub node_key: NodeKey,
    /// Agent key; `None` if the binding came from a file.
    pub agent: Option<AgentKey>,
    /// Statement that the node key speaks for the agent.
    pub binding: SignedBinding,
    /// Source of the agent key.
    pub key_source: KeySource,
}

impl Identity {
    /// # Errors
    /// Fails if the keys of the configuration cannot be used.
    pub fn from_config(config: &Config, now: Now) -> Result<Self, StartError> {
        if is_future_generation(config.generation, now.unix_ms) {
            return Err(StartError::Identity(future_generation(config.generation, now.unix_ms)));
        }
        match (&config.binding_file, &config.private_key) {
            (Some(_), Some(_)) => Err(StartError::Identity(
                "PRIVATE_KEY and P2P_NODE_BINDING (--binding) are both given: a node with a binding does not need the key; remove one of the two"
                    .to_owned(),
            )),
            (Some(path), None) => presigned(path, config, now),
            (None, _) => self_signed(config, now),
        }
    }

    /// Returns `true` if the identity was generated for this process, so that no other process can
    /// have it.
    pub fn is_made_up(&self, config: &Config) -> bool {
        matches!(self.key_source, KeySource::Ephemeral)
            && config.ephemeral_key.is_none()
            && config.node_key_file.is_none()
    }
}

/// Returns the error message for a generation in the future.
pub fn future_generation(generation: u64, now_ms: u64) -> String {
    let now_secs = now_ms / 1000;
    format!(
        "the generation {generation} (P2P_NODE_GENERATION or --generation) is in the future, so peers would reject this node: \
         use seconds since 1970 (not milliseconds), at most {now_secs}, which is the time of this machine's clock"
    )
}

fn node_key_path(config: &Config) -> Option<PathBuf> {
    let in_data_dir = || config.data_dir.as_ref().map(|dir| dir.join(NODE_KEY_FILE));
    config.node_key_file.clone().or_else(in_data_dir)
}

fn self_signed(config: &Config, now: Now) -> Result<Identity, StartError> {
    let (agent, key_source) = agent_key(config)?;
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
    Ok(Identity { node_key, agent: Some(agent), binding, key_source })
}

/// Returns the agent key from the first of these sources: the configuration; the data directory, so
/// that its contents stay with one agent; the fallback key of a supervisor; a random key.
fn agent_key(config: &Config) -> Result<(AgentKey, KeySource), StartError> {
    let wrong = |variable: &'static str| move |error| StartError::Identity(format!("{variable}: {error}"));
    if let Some(secret) = &config.private_key {
        let agent = AgentKey::from_hex(secret.expose()).map_err(wrong("PRIVATE_KEY"))?;
        let path = config.private_key_file.as_ref().map(|path| path.display().to_string());
        return Ok((agent, path.map_or(KeySource::Given, KeySource::EnvFile)));
    }
    let made_up = || match &config.ephemeral_key {
        Some(secret) => AgentKey::from_hex(secret.expose()).map_err(wrong("P2P_NODE_EPHEMERAL_KEY")),
        None => AgentKey::from_bytes(&*keystore::random_secret()?).map_err(wrong("the random key")),
    };
    let Some(path) = config.data_dir.as_ref().map(|dir| dir.join(AGENT_KEY_FILE)) else {
        return Ok((made_up()?, KeySource::Ephemeral));
    };
    let secret = keystore::persisted_key(&path, || Ok::<_, StartError>(made_up()?.secret()))?;
    let path = path.display().to_string();
    let agent = AgentKey::from_bytes(&secret);
    let agent = agent.map_err(|error| StartError::Identity(format!("{path}: {error}")))?;
    Ok((agent, KeySource::DataDir(path)))
}

fn presigned(path: &Path, config: &Config, now: Now) -> Result<Identity, StartError> {
    let wrong = |what: String| StartError::Identity(format!("binding {}: {what}", path.display()));
    let text = keystore::read_public(path, MAX_BINDING_FILE_BYTES).map_err(|source| {
        match Cause::of(source.kind()) {
            Cause::Passing => KeyFileError::Io { path: path.to_owned(), source }.into(),
            Cause::Permission | Cause::Misplaced => wrong(source.to_string()),
        }
    })?;
    let binding = read_binding_file(&text).map_err(|error| wrong(error.to_string()))?;
    check_presigned(&binding, &config.network, now.unix_ms).map_err(|error| wrong(error.to_string()))?;
    let signed = binding.binding.generation;
    // 0 means that the configuration does not set a generation.
    if config.generation != 0 && config.generation != signed {
        return Err(wrong(format!(
            "the binding has generation {signed}, but --generation is {}; remove --generation or create a new binding",
            config.generation
        )));
    }
    let key_path = node_key_path(config).ok_or_else(|| {
        wrong("the node also needs the node key of the binding; give --data-dir or --node-key".to_owned())
    })?;
    let node_key = NodeKey::from_seed(*keystore::existing_node_key(&key_path)?);
    if node_key.public() != binding.binding.node_key {
        return Err(wrong(format!(
            "the binding is for node {}, but the key in {} belongs to node {}; use the node key with which the binding was created",
            binding.binding.peer_id,
            key_path.display(),
            node_key.peer_id()
        )));
    }
    Ok(Identity { node_key, agent: None, binding, key_source: KeySource::Given })
}
