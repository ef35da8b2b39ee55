//! Connects libp2p with the core.
//!
//! [`SwarmDriver`] owns the swarm, executes the network commands of the core and converts events
//! into inputs. It stores the libp2p handles, which the core refers to by token. It makes no
//! decisions: the core decides which peers to dial or disconnect and what to store.

mod address_limits;
mod behaviour;
mod dht_store;
mod file_streams;
mod gossip;
mod gossip_watch;
mod handle_table;
mod handshakes;
mod inbound;
mod links;
mod listen;
mod mail;
mod meshes;
mod metrics;
mod nat;
mod outbound;
mod protocol_cache;
mod refused_hosts;
mod reports;
mod request;
mod transport;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::MessageId;
use libp2p::identity::Keypair;
use libp2p::kad::QueryId;
use libp2p::request_response::{OutboundRequestId, ResponseChannel};
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use prometheus_client::registry::Registry;

use self::behaviour::{Behaviour, ProtocolNames};
use self::file_streams::FileStreams;
use self::gossip_watch::GossipHealth;
use self::handle_table::HandleTable;
use self::handshakes::EvictedHandshakes;
use self::listen::Listeners;
use self::mail::Reply;
use self::metrics::NetworkMetrics;
use self::nat::NatState;
use self::protocol_cache::ProtocolCache;
use self::refused_hosts::RefusedHosts;
use self::reports::LinkReports;
use self::request::FailedReads;
use self::transport::{Built, Dialable};
use crate::io::byte_streams::Streams;
use p2p_node_core::gate::address_rules::AddressRules;
use p2p_node_core::input::{DropKind, Input, Token};
use p2p_node_core::local::addresses::Reachability;
use p2p_node_wire::identity::SecretBytes;
use p2p_node_wire::time::Instant;

pub use self::behaviour::{PENDING, PENDING_OUTGOING};
pub use self::dht_store::{KEY_BYTES, MAX_LIFETIME, MAX_RECORDS, MAX_VALUE_BYTES};
pub use self::gossip::{MAX_TOPIC_BYTES, MAX_TOPICS_PER_PEER, MAX_TRANSMIT};
pub use self::handshakes::{MAX_HANDSHAKES, MIN_HANDSHAKES};
pub use self::listen::can_listen_on;
pub use self::mail::{MAIL_TIMEOUT, MAX_MAIL, MAX_MAIL_RESPONSE};
pub use self::metrics::NETWORK_METRICS;
pub use self::nat::{DEFAULT_RELAY_BYTES, MIN_RELAY_BYTES};
pub use self::request::MAX_ADMISSION;
pub use self::transport::{
    DEFAULT_CONNECTION_TIMEOUT, KEY_LOG, MAX_CONNECTION_TIMEOUT, MIN_CONNECTION_TIMEOUT, key_log_warning,
};
pub use p2p_node_core::gate::address_scope::AddressScope;

/// Maximum number of received mail frames without a response. The core responds in the same turn,
/// except to frames that wait for the crypto pool. Eight connections with 128 frames each can fill
/// the table.
pub const MAX_MAIL_ASKED: usize = 1024;

/// Maximum number of received steps of admission without an answer: one for each of the 2,000 connections
/// of a bootstrap node. A new step replaces the oldest.
pub const MAX_ADMISSIONS_ASKED: usize = 2048;

/// Maximum number of received questions for agents without an answer. The core answers in the same
/// turn; a new question replaces the oldest.
const MAX_FINDS_ASKED: usize = 1024;

/// Maximum number of sent mail frames without a response: as many as 32 connections carry, with 128
/// frames each.
pub const MAX_MAIL_SENT: usize = 4096;

/// Maximum number of gossip messages without a verdict. At 60 KiB each, libp2p holds up to 60 MiB.
pub const MAX_GOSSIP_UNVALIDATED: usize = 1024;

/// Maximum number of concurrent DHT queries of libp2p: four times the 16 lookups that the core
/// allows, because each part of a lookup is a query.
pub const MAX_QUERIES: usize = 64;

/// Maximum number of addresses of a DHT server that Kademlia gets: the maximum of a record.
const MAX_ADDRS_PER_SERVER: usize = 8;

/// Time after which a connection without open streams is closed. Gossipsub keeps a stream open, so
/// this does not affect connections between nodes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time between the last response and the end of its connection. A peer that reads both at once drops
/// the response with the connection: libp2p ends a connection before its handlers see what came last.
/// Measured: without it 9 of 60 closes on loopback lost a response. Our choice: longer than a busy peer
/// takes to read.
const RESPONSE_LINGER: Duration = Duration::from_millis(50);
/// Maximum time of [`SwarmDriver::close`]: half for the last responses, and half for the connections.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// Network configuration of a node.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Seed of the Ed25519 node key.
    pub seed: SecretBytes,
    /// Name of the network; every protocol and topic name contains it.
    pub network: String,
    /// Limits the addresses that the node listens on and dials.
    pub scope: AddressScope,
    /// IP addresses and networks that the operator blocked or allowed.
    pub address_rules: Arc<AddressRules>,
    /// DNS server for host names, instead of those of the system.
    pub dns_server: Option<SocketAddr>,
    /// `true` if the node begins as a DHT server.
    pub serves_dht: bool,
    /// How the node finds out whether others can dial it.
    pub reachability: Reachability,
    /// Makes the node relay connections of others, at most so many bytes each, and test their
    /// addresses.
    pub relay_bytes: Option<u64>,
    /// Asks the gateway of the local network to map the node's ports.
    pub upnp: bool,
    /// Announces the node in the local network, and finds others there.
    pub mdns: bool,
    /// Addresses to listen on; they override the port from the core. `None` selects TCP and QUIC on
    /// one port, on the interfaces of the scope.
    pub listen: Option<Vec<Multiaddr>>,
    /// Maximum number of connections to all peers together.
    pub max_connections: u32,
    /// Maximum number of handshakes of incoming connections at the same time.
    pub max_handshakes: u32,
    /// Number of connections that one IP address may always have.
    pub connections_per_address: u32,
    /// Longest time to set up a connection that this node dials.
    pub connection_timeout: Duration,
    /// Name and version of this program, sent to peers by identify.
    pub agent_version: String,
}

/// Errors of [`SwarmDriver::new`].
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The seed is not an Ed25519 key.
    #[error("the node key is not a valid Ed25519 key: {0}")]
    Key(#[from] libp2p::identity::DecodingError),
    /// The name of the network is not allowed in a protocol name.
    #[error("the network name is not allowed in a protocol name: {0}")]
    Network(#[from] libp2p::swarm::InvalidProtocol),
    /// Noise rejected the key.
    #[error("the Noise protocol rejected the node key: {0}")]
    Noise(#[from] libp2p::noise::Error),
    /// The gossipsub settings contradict each other, which is a bug.
    #[error("the gossipsub settings are invalid, please report this bug: {0}")]
    Gossip(String),
}

/// The swarm of a node.
type NodeSwarm = Swarm<ProtocolCache<Behaviour>>;

/// Driver of the libp2p swarm. [`SwarmDriver::apply`] executes commands of the core;
/// [`SwarmDriver::next`] returns inputs for it.
pub struct SwarmDriver {
    swarm: NodeSwarm,
    names: ProtocolNames,
    scope: AddressScope,
    listen_exactly: Option<Vec<Multiaddr>>,
    listeners: Listeners,
    /// Inputs that the core has not received yet. The driver empties the queue before it polls the
    /// swarm, so it holds the inputs of one event and of the commands of one turn.
    inputs: VecDeque<Input>,
    /// Peers with a dial in progress whose result the core expects. The limit of pending
    /// connections bounds the set.
    dials: HashSet<PeerId>,
    admission_requests: HandleTable<ResponseChannel<Bytes>>,
    /// Steps of admission without an answer. The core sends one at a time on each connection.
    admissions: HashMap<OutboundRequestId, (PeerId, Token)>,
    find_requests: HandleTable<ResponseChannel<Bytes>>,
    /// Questions for agents without an answer. The core limits their number.
    finds: HashMap<OutboundRequestId, Token>,
    mail_requests: HandleTable<Reply>,
    /// Number of sent mail frames without a response.
    mail_sent: usize,
    gossip_unvalidated: HandleTable<(MessageId, PeerId)>,
    gossip_health: GossipHealth,
    queries: HashMap<QueryId, Token>,
    failed_admission_reads: FailedReads,
    /// The streams of files, until the driver of files takes them.
    file_streams: Option<Streams>,
    evicted_handshakes: EvictedHandshakes,
    nat: NatState,
    reports: LinkReports,
    metrics: Option<NetworkMetrics>,
    /// When the driver last reported the meshes.
    meshes_at: Option<Instant>,
}

impl SwarmDriver {
    /// Creates the swarm without opening a socket. Must be called within a tokio runtime.
    pub fn new(config: SwarmConfig) -> Result<Self, SetupError> {
        Self::measured(config, None)
    }

    /// As [`SwarmDriver::new`]. Registers the metrics of libp2p with the registry, if there is one.
    pub fn measured(config: SwarmConfig, mut metrics: Option<&mut Registry>) -> Result<Self, SetupError> {
        let keypair = Keypair::ed25519_from_bytes(*config.seed)?;
        let names = ProtocolNames::new(&config.network)?;
        let evicted_handshakes = EvictedHandshakes::default();
        let refused = RefusedHosts::new(Arc::clone(&config.address_rules));
        let Built { transport, relay_client, degraded } = transport::build(
            &keypair,
            &Dialable { scope: config.scope, rules: Arc::clone(&config.address_rules) },
            config.dns_server,
            config.connection_timeout,
            (config.max_handshakes, refused.clone(), evicted_handshakes.clone()),
            metrics.as_deref_mut(),
        )?;
        let failed_admission_reads = FailedReads::default();
        let (file_streams, streams) = FileStreams::new(names.files.clone());
        let failed_reads = failed_admission_reads.clone();
        let behaviour =
            Behaviour::new(&keypair, &config, &names, relay_client, refused, failed_reads, file_streams)?;
        let swarm_config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_smart_dial()
            // Sends the first message together with the protocol negotiation: a mail frame needs
            // one round trip instead of two.
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let swarm =
            Swarm::new(transport, ProtocolCache::new(behaviour), keypair.public().to_peer_id(), swarm_config);
        Ok(Self {
            swarm,
            names,
            scope: config.scope,
            listen_exactly: config.listen,
            listeners: Listeners::default(),
            inputs: degraded.into_iter().map(|reason| Input::Degraded { reason }).collect(),
            dials: HashSet::new(),
            admission_requests: HandleTable::new(MAX_ADMISSIONS_ASKED),
            admissions: HashMap::new(),
            find_requests: HandleTable::new(MAX_FINDS_ASKED),
            finds: HashMap::new(),
            mail_requests: HandleTable::new(MAX_MAIL_ASKED),
            mail_sent: 0,
            gossip_unvalidated: HandleTable::new(MAX_GOSSIP_UNVALIDATED),
            gossip_health: GossipHealth::default(),
            queries: HashMap::new(),
            failed_admission_reads,
            file_streams: Some(streams),
            evicted_handshakes,
            nat: NatState::default(),
            reports: LinkReports::default(),
            metrics: metrics.map(NetworkMetrics::new),
            meshes_at: None,
        })
    }

    /// Returns the streams of files, the first time.
    pub fn take_file_streams(&mut self) -> Option<Streams> {
        self.file_streams.take()
    }

    /// Returns the PeerId of this node.
    pub fn peer_id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// Waits for the next input. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Input {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Returns the next input if one is available. Does not register a waker: after `None`, wait
    /// for [`SwarmDriver::next`].
    pub fn try_next(&mut self) -> Option<Input> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(input) => Some(input),
            Poll::Pending => None,
        }
    }

    /// Stops listening, sends pending responses, and closes all connections. Takes at most
    /// [`CLOSE_TIMEOUT`] and, after responses, [`RESPONSE_LINGER`].
    pub async fn close(mut self) {
        self.listeners.close(&mut self.swarm);
        // Without the response the sender would treat an accepted message as failed.
        if self.swarm.behaviour().mail.has_unsent_responses() {
            let responses_sent = poll_fn(|cx| {
                let input = self.poll_next(cx);
                match self.swarm.behaviour().mail.has_unsent_responses() {
                    false => Poll::Ready(()),
                    true if input.is_ready() => {
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                    true => Poll::Pending,
                }
            });
            let _ = tokio::time::timeout(CLOSE_TIMEOUT / 2, responses_sent).await;
            let rest = async {
                loop {
                    self.next().await;
                }
            };
            let _: Result<(), _> = tokio::time::timeout(RESPONSE_LINGER, rest).await;
        }
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let goodbye = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT / 2, goodbye).await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            if let Some(input) = self.inputs.pop_front() {
                return Poll::Ready(input);
            }
            if let Some(event) = self.swarm.behaviour().mail.poll_event(cx) {
                self.on_mail_event(event);
                continue;
            }
            match self.swarm.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => self.on_swarm_event(event),
                // The stream of a swarm never ends.
                Poll::Ready(None) | Poll::Pending => match self.listeners.poll_ready(&self.swarm) {
                    Some(report) => return Poll::Ready(report),
                    None if self.report_failed_reads() => {}
                    None => return Poll::Pending,
                },
            }
        }
    }

    /// Reports handshakes that ended early and requests that could not be read since the last call.
    /// Returns `true` if there were any.
    fn report_failed_reads(&mut self) -> bool {
        let mail = self.swarm.behaviour().mail.take_failed_reads();
        let admission = self.failed_admission_reads.take();
        let evicted = self.evicted_handshakes.take();
        let failed = [
            (DropKind::Handshake, evicted),
            (DropKind::AdmissionReadFailed, admission),
            (DropKind::MailReadFailed, mail),
        ];
        let lost = failed.into_iter().filter(|(_, number)| *number > 0);
        self.inputs.extend(lost.map(|(what, number)| Input::Dropped { what, number }));
        !self.inputs.is_empty()
    }
}
