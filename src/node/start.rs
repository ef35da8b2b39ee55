//! From a configuration to what a node is made of: keys, binding, lock.

use libp2p::{Multiaddr, PeerId};
use p2p_node_protocol::ErrorCode;

use crate::config::{Config, OnEof};
use crate::core::Setup;
use crate::core::discovery::bootstrap::parse_bootstrap;
use crate::core::effect::ExitCode;
use crate::core::identity::binding::BINDING_LIFE_SECS;
use crate::core::identity::{AgentKey, Binding, NodeKey};
use crate::core::input::Now;
use crate::io::keystore::{self, IdentityLock, KeyFileError, LockError};
use crate::io::store::{self, Store};
use crate::io::swarm::SwarmConfig;

/// Connections of an agent's node and of a bootstrap node (design §8).
const MAX_CONNECTIONS: u32 = 200;
const MAX_BOOTSTRAP_CONNECTIONS: u32 = 1000;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The agent's key or the binding cannot be used.
    #[error("{0}")]
    Identity(String),
    /// A key file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The identity is not free.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The data directory is not free.
    #[error(transparent)]
    DataDir(#[from] store::InUse),
    /// A bootstrap address cannot be used.
    #[error("{0}")]
    Bootstrap(String),
}

impl StartError {
    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            StartError::Identity(_) | StartError::KeyFile(_) => ErrorCode::IdentityInvalid,
            StartError::Lock(error) => error.code(),
            StartError::DataDir(error) => error.code(),
            StartError::Bootstrap(_) => ErrorCode::InvalidArgument,
        }
    }

    /// How the process ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StartError::Identity(_) | StartError::Bootstrap(_) => ExitCode::Config,
            StartError::KeyFile(error) => error.exit_code(),
            StartError::Lock(error) => error.exit_code(),
            StartError::DataDir(error) => error.exit_code(),
        }
    }
}

/// What a node is made of.
pub struct Started {
    /// For the core.
    pub setup: Setup,
    /// For libp2p.
    pub swarm: SwarmConfig,
    /// Keeps other processes from the same identity.
    pub lock: IdentityLock,
    /// Where floors outlive the process; none without a data directory.
    pub store: Option<Store>,
}

pub fn start(config: &Config, now: Now) -> Result<Started, StartError> {
    let agent = match &config.private_key {
        Some(secret) => AgentKey::from_hex(secret.expose()),
        None => AgentKey::from_bytes(&*keystore::random_secret()?),
    };
    let agent = agent.map_err(|error| StartError::Identity(format!("PRIVATE_KEY: {error}")))?;
    let node_key = match &config.data_dir {
        Some(dir) => NodeKey::from_seed(*keystore::node_key(dir)?),
        None => NodeKey::derive(&agent.secret(), &config.network, &config.instance, config.generation),
    };
    let lock = IdentityLock::acquire(&node_key.peer_id().to_string())?;
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
    let bootstraps: Vec<(PeerId, Multiaddr)> = config
        .bootstrap
        .iter()
        .map(|addr| parse_bootstrap(&addr.to_string()))
        .collect::<Result<_, _>>()
        .map_err(StartError::Bootstrap)?;
    let bootstrap_role = config.role == p2p_node_protocol::Role::Bootstrap;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let swarm = SwarmConfig {
        seed: node_key.seed(),
        network: config.network.clone(),
        scope: config.address_scope,
        role: config.role,
        listen: (!config.listen.is_empty()).then(|| config.listen.clone()),
        max_connections: if bootstrap_role { MAX_BOOTSTRAP_CONNECTIONS } else { MAX_CONNECTIONS },
        agent_version: format!("p2p-node/{version}"),
    };
    let random = keystore::random_secret()?;
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&random[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut database = [0; 16];
    database.copy_from_slice(&random[..16]);
    let (store, floors) = match &config.data_dir {
        Some(dir) => {
            let (store, floors) = Store::open(dir, &config.network, now.unix_ms)?;
            (Some(store), floors)
        }
        None => (None, Vec::new()),
    };
    let setup = Setup {
        node_key,
        ephemeral: config.private_key.is_none(),
        agent: Some(agent),
        binding,
        name: config.name.clone(),
        role: config.role,
        version,
        port: config.port,
        bootstraps,
        connect: config.connect,
        stay_on_eof: config.on_eof == OnEof::Stay,
        drain_timeout: config.drain_timeout,
        scope: config.address_scope,
        boot: word(16),
        database,
        seed: word(24),
        floors,
    };
    Ok(Started { setup, swarm, lock, store })
}
