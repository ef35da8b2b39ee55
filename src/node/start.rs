//! Builds the components of a node from its configuration and identity.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use libp2p::Multiaddr;
use p2p_node_protocol::{ErrorCode, Role};

use super::identity::Identity;
use super::sources::{self, OpenSources};
use crate::chain::{Chain, ChainConfig};
use crate::config::{Ack, Config, ConfigError, OnEof};
use crate::grpc::{GrpcAddr, ListenError};
use crate::io::descriptors;
use crate::io::keystore::{self, InUse, KeyFileError};
use crate::io::sources::Sources;
use crate::io::swarm::{
    MAX_HANDSHAKES, MIN_HANDSHAKES, PENDING, PENDING_OUTGOING, SwarmConfig, can_listen_on, key_log_warning,
};
use crate::io::traces::Traces;
use crate::side_runtime::SideRuntime;
use crate::socket::SocketError;
use p2p_node_core::CoreConfig;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::local::dht_mode::DhtMode;
use p2p_node_core::peers::limits::{ConnectionLimits, MIN_CONNECTIONS};
use p2p_node_store::disk::Cause;
use p2p_node_store::{OpenError, Snapshot, Store};

use p2p_node_wire::identity::{AgentKey, NodeKey};
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Now;

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Maximum time to wait for the drain of a previous process, which probably has our
/// `--drain-timeout`. Supervisors usually wait no longer than 10 s for a start.
const MAX_DRAIN_AWAITED: Duration = Duration::from_secs(10);
/// Additional time for the previous process to write its last lines and close its store.
const LAST_LINES: Duration = Duration::from_secs(3);

/// Errors of the start of a node.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The agent's key or the binding is invalid.
    #[error("{0}")]
    Identity(String),
    /// A key file is missing, unreadable or invalid.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// Another process uses the identity.
    #[error(transparent)]
    Lock(#[from] InUse),
    /// Opening the data directory failed.
    #[error(transparent)]
    DataDir(#[from] OpenError),
    /// A bootstrap address or the region file is invalid.
    #[error("{0}")]
    Bootstrap(String),
    /// A light node is to serve others.
    #[error(
        "a light node serves nothing to others: start it without --relay and --dht-mode, or with --role full"
    )]
    LightServes,
    /// The node does not support the transport of a listen address.
    #[error(
        "--listen {0}: unsupported address; use /ip4/…/tcp/…, /ip6/…/tcp/…, /ip4/…/udp/…/quic-v1 or /ip6/…/udp/…/quic-v1"
    )]
    Listen(Multiaddr),
    /// The command line is invalid.
    #[error("invalid command line: {0}; `p2p-node --help` lists the commands and flags")]
    CommandLine(String),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory for received files cannot be used.
    #[error("--files-dir {path}: {why}; use another directory, or correct its permissions", path = path.display())]
    FilesDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        why: std::io::Error,
    },
    /// The HTTP server cannot listen.
    #[error("--http {addr}: the HTTP server cannot listen: {why}; free the port, or use another one")]
    Http {
        /// The address of the setting.
        addr: SocketAddr,
        /// The error of the system.
        why: std::io::Error,
    },
    /// The gRPC server cannot listen.
    #[error("--grpc {addr}: the gRPC server cannot listen: {why}")]
    Grpc {
        /// The address of the setting.
        addr: GrpcAddr,
        /// The reason.
        why: ListenError,
    },
    /// The A2A gateway cannot listen.
    #[error("--a2a {addr}: the A2A gateway cannot listen: {why}; free the port, or use another one")]
    A2a {
        /// The address of the setting.
        addr: SocketAddr,
        /// The error of the system.
        why: std::io::Error,
    },
    /// The socket for clients cannot listen.
    #[error("--socket {0}")]
    Socket(#[from] SocketError),
    /// No node listens at the socket.
    #[error("no node listens at {path}: {why}; start `p2p-node daemon`, or use `attach --start`")]
    Attach {
        /// The path of the socket.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The operating system refused a resource.
    #[error("the node cannot start: {0}; start it again when the system has free resources")]
    System(String),
}

impl StartError {
    /// Creates an error for a refused resource.
    pub fn system(what: &str, why: &dyn std::fmt::Display) -> Self {
        StartError::System(format!("{what}: {why}"))
    }

    /// Returns the stable error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            StartError::Identity(_) => ErrorCode::IdentityInvalid,
            StartError::KeyFile(error) => error.code(),
            StartError::Lock(error) => error.code(),
            StartError::DataDir(error) => error.code(),
            StartError::Bootstrap(_)
            | StartError::Listen(_)
            | StartError::LightServes
            | StartError::CommandLine(_)
            | StartError::Config(_) => ErrorCode::InvalidArgument,
            StartError::FilesDir { .. } => ErrorCode::InvalidArgument,
            StartError::Http { .. } | StartError::Grpc { .. } | StartError::A2a { .. } => {
                ErrorCode::ListenFailed
            }
            StartError::Socket(error) => error.code(),
            StartError::Attach { .. } => ErrorCode::NotConnected,
            StartError::System(_) => ErrorCode::Internal,
        }
    }

    /// Returns `true` if the cause may be temporary, so that another attempt may succeed.
    pub fn is_transient(&self) -> bool {
        self.exit_code() == ExitCode::Io
    }

    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StartError::Identity(_)
            | StartError::Bootstrap(_)
            | StartError::Listen(_)
            | StartError::LightServes => ExitCode::Config,
            StartError::KeyFile(error) => error.exit_code(),
            StartError::FilesDir { why, .. } => Cause::of(why.kind()).exit_code(),
            StartError::Lock(error) => error.exit_code(),
            StartError::DataDir(error) => error.exit_code(),
            StartError::CommandLine(_) => ExitCode::Usage,
            StartError::Config(error) => error.exit_code(),
            StartError::Http { .. } | StartError::Grpc { .. } | StartError::A2a { .. } => {
                ExitCode::Unavailable
            }
            StartError::Socket(error) => error.exit_code(),
            StartError::Attach { .. } => ExitCode::Unavailable,
            StartError::System(_) => ExitCode::Software,
        }
    }
}

/// Components of a node.
pub struct Components {
    /// Configuration of the core.
    pub core_config: CoreConfig,
    /// Configuration of libp2p.
    pub swarm: SwarmConfig,
    /// Persistent store; `None` without a data directory.
    pub store: Option<Store>,
    /// Sources of peers outside of libp2p.
    pub sources: Sources,
    /// The chain of the registry and of names, or none.
    pub chain: Chain,
    /// The exporter of spans, if the configuration names a collector.
    pub traces: Option<Traces>,
}

/// The largest numbers of connections and of incoming handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sockets {
    connections: u32,
    handshakes: u32,
}

/// Returns what the limit of open files has room for, and a warning if that is less than `wanted`.
fn sockets(wanted: u32, available: impl FnOnce(u64) -> u64) -> (Sockets, Option<String>) {
    let room = available(u64::from(wanted + PENDING));
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let most = room.saturating_sub(PENDING).min(wanted);
    if most == wanted {
        return (Sockets { connections: wanted, handshakes: MAX_HANDSHAKES }, None);
    }
    let most = most.max(MIN_CONNECTIONS as u32);
    let handshakes = room.saturating_sub(most + PENDING_OUTGOING).clamp(MIN_HANDSHAKES, MAX_HANDSHAKES);
    let message = format!(
        "the limit of open files is too low for {wanted} connections: the node uses at most {most}; raise the hard limit (ulimit -Hn)"
    );
    (Sockets { connections: most, handshakes }, Some(message))
}

/// Returns how long a node waits for another process with its identity to exit.
pub fn patience(config: &Config) -> Duration {
    config.drain_timeout.min(MAX_DRAIN_AWAITED) + LAST_LINES
}

/// Returns the configuration of the network. Calls `notice` with warnings for the user.
fn swarm_config(
    config: &Config,
    node_key: &NodeKey,
    notice: &mut dyn FnMut(String),
) -> Result<SwarmConfig, StartError> {
    if let Some(addr) = config.listen.iter().find(|addr| !can_listen_on(addr)) {
        return Err(StartError::Listen(addr.clone()));
    }
    if config.role == Role::Light && (config.relay || config.dht_mode != DhtMode::Client) {
        return Err(StartError::LightServes);
    }
    let (sockets, too_few) = sockets(config.max_connections as u32, descriptors::raise_limit);
    too_few.into_iter().chain(key_log_warning()).for_each(notice);
    Ok(SwarmConfig {
        seed: node_key.seed(),
        network: config.network.clone(),
        scope: config.address_scope,
        address_rules: Arc::new(config.address_rules()),
        serves_dht: config.dht_mode.serves(false),
        dns_server: config.dns_server,
        reachability: config.reachability,
        relay_bytes: config.relay.then_some(config.relay_bytes),
        upnp: config.upnp,
        mdns: config.mdns,
        listen: (!config.listen.is_empty()).then(|| config.listen.clone()),
        max_connections: sockets.connections,
        max_handshakes: sockets.handshakes,
        connections_per_address: config.connections_per_address,
        connection_timeout: config.connection_timeout,
        agent_version: format!("p2p-node/{VERSION}"),
    })
}

/// Opens the store of the data directory, if there is one, and reads what it holds.
fn open_store(
    config: &Config,
    account: Address,
    database: &[u8; 16],
    now: Now,
) -> Result<(Option<Store>, Snapshot), StartError> {
    let Some(dir) = &config.data_dir else { return Ok((None, Snapshot::default())) };
    let (store, snapshot) = Store::open(dir, &config.network, account, now.unix_ms, database)?;
    Ok((Some(store), snapshot))
}

/// Opens the chain: the registry, contract wallets and names. Connects to nobody.
fn open_chain(config: &Config, agent: Option<&AgentKey>) -> Result<Chain, StartError> {
    let failed = |error| ConfigError::Registry(format!("RPC_URL: {error}"));
    let reporter = agent.filter(|_| config.report_interactions).cloned();
    let chain = config.chain()?.map(|chain| ChainConfig { reporter, ..chain });
    Ok(Chain::open(chain).map_err(failed)?)
}

/// Starts the exporter of spans. Connects to nobody.
fn start_traces(config: &Config, node_key: &NodeKey) -> Result<Option<Traces>, StartError> {
    let Some(traces) = config.traces(node_key.peer_id().to_string())? else { return Ok(None) };
    let side = SideRuntime::start("traces")
        .map_err(|error| StartError::system("starting the thread of the exporter failed", &error))?;
    let failed = |error| StartError::system("setting up the exporter of spans failed", &error);
    Traces::start(traces, side).map(Some).map_err(failed)
}

/// Numbers that no other process has.
struct Random {
    database: [u8; 16],
    boot: u64,
    seed: u64,
    trace_seed: u64,
}

impl Random {
    fn new() -> Result<Self, KeyFileError> {
        let (random, more) = (keystore::random_secret()?, keystore::random_secret()?);
        let word =
            |bytes: &[u8; 32], at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let database = std::array::from_fn(|at| random[at]);
        Ok(Random { database, boot: word(&random, 16), seed: word(&random, 24), trace_seed: word(&more, 0) })
    }
}

/// Returns the limits of connections that the limit of open files has room for.
fn connections(config: &Config, swarm: &SwarmConfig) -> ConnectionLimits {
    ConnectionLimits { max: swarm.max_connections as usize, ..config.connections() }.lowered()
}

/// Reports a warning of the start.
pub type Notice<'a> = &'a mut dyn FnMut(String);

/// Builds the components of a node. Calls `notice` with warnings for the user.
pub fn start(config: &Config, me: Identity, now: Now, notice: Notice<'_>) -> Result<Components, StartError> {
    let OpenSources { sources, bootstraps, peer_book, regions } = sources::open(config, notice)?;
    let (swarm, traces) = (swarm_config(config, &me.node_key, notice)?, start_traces(config, &me.node_key)?);
    let (random, chain) = (Random::new()?, open_chain(config, me.agent.as_ref())?);
    let (store, snapshot) = open_store(config, me.binding.binding.account, &random.database, now)?;
    let core_config = CoreConfig {
        node_key: me.node_key,
        key_source: me.key_source,
        agent: me.agent,
        binding: me.binding,
        name: config.name.clone(),
        role: config.role,
        version: VERSION.to_owned(),
        port: config.port,
        http: None,
        grpc: None,
        a2a: None,
        bootstraps,
        rendezvous: sources.rendezvous.is_some(),
        peer_book,
        regions,
        preferred_regions: config.preferred_regions.clone(),
        dns_seeds: sources.dns_seeds.is_some(),
        has_parent: config.has_parent,
        stay_on_eof: config.on_eof == OnEof::Stay,
        require_delivery: config.require_delivery,
        receive_after_eof: config.receive_after_eof,
        drain_timeout: config.drain_timeout,
        scope: config.address_scope,
        address_rules: Arc::clone(&swarm.address_rules),
        reachability: config.reachability,
        external_addrs: config.external_addrs.clone(),
        dht_mode: config.dht_mode,
        admission: config.admission,
        serves_relay: config.relay,
        observes: config.observe || config.http.is_some(),
        forget_nodes_after: config.forget_nodes_after,
        limits_apply: config.limits,
        has_chain: config.rpc_urls.is_some(),
        registry: config.registry_config()?,
        flow: config.flow(),
        connections: connections(config, &swarm),
        boot: random.boot,
        database: random.database,
        kem_seed: keystore::random_secret()?,
        suite: Suite::of_this_processor(),
        seed: random.seed,
        trace_seed: traces.is_some().then_some(random.trace_seed),
        durable: store.is_some(),
        manual_ack: config.ack == Ack::Manual,
        one_of_several: !config.instance.is_empty(),
        files: config.files(),
        outbox: snapshot.messages,
        inbox: snapshot.checkpoints,
        highest_seen: snapshot.highest_seen,
        access_rules: snapshot.access_rules,
        bans: snapshot.bans,
    };
    Ok(Components { core_config, swarm, store, sources, chain, traces })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_handshakes_follow_available_descriptors_and_lowering_them_is_reported() {
        let all = Sockets { connections: 200, handshakes: MAX_HANDSHAKES };
        assert_eq!(sockets(200, |wanted| wanted), (all, None));
        let (fewer, notice) = sockets(200, |wanted| wanted - 50);
        assert_eq!(fewer, Sockets { connections: 150, handshakes: MAX_HANDSHAKES });
        assert!(notice.unwrap().contains("at most 150"));
        let least = MIN_CONNECTIONS as u32;
        let of = |available: u64| sockets(200, |_| available).0;
        assert_eq!(of(0), Sockets { connections: least, handshakes: MIN_HANDSHAKES });
        assert_eq!(of(60), Sockets { connections: least, handshakes: 60 - least - PENDING_OUTGOING });
    }
}
