//! From a configuration and an identity to what a node is made of.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use p2p_node_protocol::ErrorCode;

use super::identity::Identity;
use crate::config::{Ack, Config, ConfigError, OnEof};
use crate::io::descriptors;
use crate::io::keystore::{self, InUse, KeyFileError};
use crate::io::store::{self, Contents, Store};
use crate::io::swarm::{PENDING, SwarmConfig, can_listen_on};
use p2p_node_core::CoreConfig;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::peers::bootstrap::parse_bootstrap;
use p2p_node_wire::time::Now;

/// Connections of an agent's node and of a bootstrap node (design §8).
const MAX_CONNECTIONS: u32 = 200;
const MAX_BOOTSTRAP_CONNECTIONS: u32 = 1000;
/// Connections below which a node does not go however few descriptors it may open: a few are better than none. Ours.
const LEAST_CONNECTIONS: u32 = 8;

/// How long a predecessor that was told to end may take, as far as its successor waits: its time to drain, which is taken to be as long as
/// ours, up to this. Ours: a supervisor waits no longer for a start.
const MAX_DRAIN_AWAITED: Duration = Duration::from_secs(10);
/// … and after that: to have its last lines read, and to close its store.
const LAST_LINES: Duration = Duration::from_secs(3);

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
    Lock(#[from] InUse),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] store::OpenError),
    /// A bootstrap address cannot be used.
    #[error("{0}")]
    Bootstrap(String),
    /// An address cannot be listened on, whoever else does.
    #[error(
        "--listen {0}: a node listens on /ip4/…/tcp/…, /ip6/…/tcp/…, /ip4/…/udp/…/quic-v1 and /ip6/…/udp/…/quic-v1 alone"
    )]
    Listen(Multiaddr),
    /// The command line names nothing that can be done.
    #[error("the command line is wrong: {0}; `p2p-node --help` tells what there is")]
    CommandLine(String),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system does not give what a node needs.
    #[error("the node cannot start: {0}; it may when the system has what it lacks")]
    System(String),
}

impl StartError {
    /// The system does not give something.
    pub fn system(what: &str, why: &dyn std::fmt::Display) -> Self {
        StartError::System(format!("{what}: {why}"))
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            StartError::Identity(_) => ErrorCode::IdentityInvalid,
            StartError::KeyFile(error) => error.code(),
            StartError::Lock(error) => error.code(),
            StartError::DataDir(error) => error.code(),
            StartError::Bootstrap(_)
            | StartError::Listen(_)
            | StartError::CommandLine(_)
            | StartError::Config(_) => ErrorCode::InvalidArgument,
            StartError::System(_) => ErrorCode::Internal,
        }
    }

    /// Whether the cause may pass by itself, so that another attempt may succeed.
    pub fn may_pass(&self) -> bool {
        self.exit_code() == ExitCode::Io
    }

    /// How the process ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StartError::Identity(_) | StartError::Bootstrap(_) | StartError::Listen(_) => ExitCode::Config,
            StartError::KeyFile(error) => error.exit_code(),
            StartError::Lock(error) => error.exit_code(),
            StartError::DataDir(error) => error.exit_code(),
            StartError::CommandLine(_) => ExitCode::Usage,
            StartError::Config(error) => error.exit_code(),
            StartError::System(_) => ExitCode::Software,
        }
    }
}

/// What a node is made of.
pub struct Started {
    /// For the core.
    pub setup: CoreConfig,
    /// For libp2p.
    pub swarm: SwarmConfig,
    /// Where floors outlive the process; none without a data directory.
    pub store: Option<Store>,
}

/// The most connections that a node may have, and why they are fewer than they should be.
fn connections(wanted: u32, sockets: impl FnOnce(u64) -> u64) -> (u32, Option<String>) {
    let room = sockets(u64::from(wanted + PENDING));
    let most = u32::try_from(room.saturating_sub(PENDING.into())).unwrap_or(wanted).min(wanted);
    if most == wanted {
        return (wanted, None);
    }
    let most = most.max(LEAST_CONNECTIONS);
    let message = format!(
        "the process may open too few files for {wanted} connections: it has at most {most}; raise the hard limit (ulimit -Hn)"
    );
    (most, Some(message))
}

/// How long a node waits for another process that has its identity.
pub fn patience(config: &Config) -> Duration {
    config.drain_timeout.min(MAX_DRAIN_AWAITED) + LAST_LINES
}

/// Makes what a node is made of; tells by `notice` what a person may want to know meanwhile.
pub fn start(
    config: &Config,
    identity: Identity,
    now: Now,
    notice: &mut dyn FnMut(String),
) -> Result<Started, StartError> {
    let Identity { node_key, agent, binding, key_source } = identity;
    if let Some(addr) = config.listen.iter().find(|addr| !can_listen_on(addr)) {
        return Err(StartError::Listen(addr.clone()));
    }
    let bootstraps: Vec<(PeerId, Multiaddr)> = config
        .bootstrap
        .iter()
        .map(|addr| parse_bootstrap(&addr.to_string()))
        .collect::<Result<_, _>>()
        .map_err(StartError::Bootstrap)?;
    let bootstrap_role = config.role == p2p_node_protocol::Role::Bootstrap;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let wanted = if bootstrap_role { MAX_BOOTSTRAP_CONNECTIONS } else { MAX_CONNECTIONS };
    let (max_connections, too_few) = connections(wanted, descriptors::make_room);
    too_few.into_iter().for_each(&mut *notice);
    let swarm = SwarmConfig {
        seed: node_key.seed(),
        network: config.network.clone(),
        scope: config.address_scope,
        role: config.role,
        listen: (!config.listen.is_empty()).then(|| config.listen.clone()),
        max_connections,
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
    let (store, contents) = match &config.data_dir {
        Some(dir) => {
            let (store, contents) =
                Store::open(dir, &config.network, binding.binding.account, now.unix_ms, &database)?;
            (Some(store), contents)
        }
        None => (None, Contents::default()),
    };
    let setup = CoreConfig {
        node_key,
        key_source,
        agent,
        binding,
        name: config.name.clone(),
        role: config.role,
        version,
        port: config.port,
        bootstraps,
        connect: config.connect,
        stay_on_eof: config.on_eof == OnEof::Stay,
        require_delivery: config.require_delivery,
        receive_after_eof: config.receive_after_eof,
        drain_timeout: config.drain_timeout,
        scope: config.address_scope,
        boot: word(16),
        database,
        kem_seed: keystore::random_secret()?,
        seed: word(24),
        durable: store.is_some(),
        manual_ack: config.ack == Ack::Manual,
        one_of_several: !config.instance.is_empty(),
        outbox: contents.mails,
        inbox: contents.taken,
        floors: contents.floors,
        standings: contents.standings,
    };
    Ok(Started { setup, swarm, store })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_there_are_descriptors_for_and_that_is_told() {
        assert_eq!(connections(200, |wanted| wanted), (200, None));
        let (most, told) = connections(200, |wanted| wanted - 50);
        assert_eq!(most, 150);
        assert!(told.unwrap().contains("at most 150"));
        assert_eq!(connections(200, |_| 0).0, LEAST_CONNECTIONS);
    }
}
