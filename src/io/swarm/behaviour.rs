//! The network protocols of a node and their settings.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::kad::{BucketInserts, Mode, StoreInserts};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, allow_block_list, autonat, connection_limits, dcutr, identify, kad, mdns, ping,
    relay, upnp,
};

use super::address_limits::{AddressLimits, Places};
use super::dht_store::DhtStore;
use super::file_streams::FileStreams;
use super::gossip;
use super::gossip_watch::Watched;
use super::handshakes::MAX_HANDSHAKES;
use super::links::Links;
use super::mail::Mail;
use super::nat::{self, AutonatClient};
use super::refused_hosts::RefusedHosts;
use super::request::{Codec, FailedReads};
use super::{SetupError, SwarmConfig};
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::local::addresses::Reachability;
use p2p_node_wire::identity::binding::is_network_name;

/// Maximum time from opening the stream of a step of admission to its answer.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of steps of admission in flight on one connection: one in each direction, and a second one
/// while the first completes.
const ADMISSION_STREAMS: usize = 4;

/// Maximum time from opening the stream of a question for agents to its answer. Our choice: a
/// `discover` without a timeout ends after 2 s, others after up to 60 s.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of questions for agents in flight on one connection: as many as the core allows in
/// all.
const FIND_STREAMS: usize = 64;

/// Maximum number of connections to one peer. With a limit of 1, two peers that dial each other at
/// the same time may close both connections.
const CONNECTIONS_PER_PEER: u32 = 3;

/// Maximum number of outgoing connections during the handshake.
pub const PENDING_OUTGOING: u32 = 32;
/// Maximum number of connections during the handshake, both directions together.
pub const PENDING: u32 = MAX_HANDSHAKES + PENDING_OUTGOING;

/// Interval of the pings. libp2p ignores the first failure, so with [`PING_TIMEOUT`] the node
/// detects a silent peer within 50 s.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Time for the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time of a DHT query, which then returns the results found so far.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of disjoint paths of a DHT query, each of which asks one server at a time. Our choice: one more than
/// the alpha of Kademlia. Each server is asked on one path only, so liars on one never lead the others
/// astray (S/Kademlia).
const PATHS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Interval of the search for nearby DHT servers, if the node knows any server.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(60);

/// The behaviours of the swarm, called in this order. Those that may deny a connection come first:
/// the others record a connection when they are asked, and would never remove one that a later
/// behaviour denies.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub limits: connection_limits::Behaviour,
    pub addresses: AddressLimits,
    pub blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub relay: Toggle<relay::Behaviour>,
    pub relay_client: relay::client::Behaviour,
    pub hole_punching: dcutr::Behaviour,
    pub autonat_client: Toggle<AutonatClient>,
    pub autonat_server: Toggle<autonat::v2::server::Behaviour>,
    pub upnp: Toggle<upnp::tokio::Behaviour>,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    pub links: Links,
    pub kad: kad::Behaviour<DhtStore>,
    pub admission: request_response::Behaviour<Codec>,
    pub find: request_response::Behaviour<Codec>,
    pub mail: Mail,
    pub files: FileStreams,
    pub gossip: Watched,
}

/// Names of the protocols and topics of a network.
#[derive(Clone, Debug)]
pub(super) struct ProtocolNames {
    /// Protocol version for identify; contains the network of the node.
    pub version: String,
    /// Protocol name of Kademlia.
    pub kad: StreamProtocol,
    /// Protocol name of admission.
    pub admission: StreamProtocol,
    /// Protocol name of questions for agents.
    pub find: StreamProtocol,
    /// Protocol name of direct messages.
    pub mail: StreamProtocol,
    /// Protocol name of files.
    pub files: StreamProtocol,
    /// Prefix of topic names on the network.
    pub topic_prefix: String,
}

impl ProtocolNames {
    /// Returns the names for a network.
    pub(super) fn new(network: &str) -> Result<Self, SetupError> {
        let protocol = |name| StreamProtocol::try_from_owned(format!("/p2p-node/{network}/{name}/1"));
        Ok(Self {
            version: format!("/p2p-node/{network}/id/1"),
            kad: protocol("kad")?,
            admission: protocol("admission")?,
            find: protocol("find")?,
            mail: protocol("mail")?,
            files: protocol("files")?,
            topic_prefix: format!("/p2p-node/{network}/topic/1/"),
        })
    }

    /// Returns the network of a p2p-node peer that belongs to another network, from its identify
    /// version.
    pub(super) fn other_network(&self, version: &str) -> Option<String> {
        let network = version.strip_prefix("/p2p-node/")?.strip_suffix("/id/1")?;
        (version != self.version && is_network_name(network)).then(|| network.to_owned())
    }
}

impl Behaviour {
    /// Creates all protocols.
    pub(super) fn new(
        keypair: &Keypair,
        config: &SwarmConfig,
        names: &ProtocolNames,
        relay_client: relay::client::Behaviour,
        refused: RefusedHosts,
        failed_admission_reads: FailedReads,
        files: FileStreams,
    ) -> Result<Self, SetupError> {
        let peer = keypair.public().to_peer_id();
        let serves_relay = config.relay_bytes.is_some();
        let asks_autonat = config.reachability == Reachability::Auto;
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(config)),
            addresses: AddressLimits::new(places(config), refused),
            blocked: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(
                identify::Config::new(names.version.clone(), keypair.public())
                    .with_agent_version(config.agent_version.clone())
                    .with_push_listen_addr_updates(true)
                    // The core and Kademlia choose the addresses to dial.
                    .with_cache_size(0),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
            relay: config.relay_bytes.map(|bytes| relay_server(peer, bytes)).into(),
            relay_client,
            hole_punching: dcutr::Behaviour::new(peer),
            autonat_client: asks_autonat.then(|| AutonatClient::new(config.scope)).into(),
            autonat_server: serves_relay.then(autonat::v2::server::Behaviour::default).into(),
            upnp: config.upnp.then(upnp::tokio::Behaviour::default).into(),
            mdns: config.mdns.then(|| mdns_behaviour(peer)).flatten().into(),
            links: Links::new(peer),
            kad: kademlia(keypair, config.serves_dht, names.kad.clone()),
            admission: admission(&names.admission, Codec::admission(failed_admission_reads)),
            find: find(&names.find),
            mail: Mail::new(names.mail.clone()),
            files,
            gossip: Watched::new(gossip::build(&names.topic_prefix, config.scope)?),
        })
    }
}

/// Creates mDNS, if the system tells its interfaces.
fn mdns_behaviour(peer: PeerId) -> Option<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), peer)
        .inspect_err(|error| tracing::warn!(%error, "mDNS is not available: the node finds no peers by it"))
        .ok()
}

/// Creates a relay. It offers to relay from the start, because its operator has decided so.
fn relay_server(peer: PeerId, max_circuit_bytes: u64) -> relay::Behaviour {
    let mut relay = relay::Behaviour::new(peer, nat::relay_config(max_circuit_bytes));
    relay.set_status(Some(relay::Status::Enable));
    relay
}

fn places(config: &SwarmConfig) -> Places {
    Places {
        pending: config.max_handshakes,
        established: max_incoming(config.max_connections),
        of_address: config.connections_per_address,
        exempts_loopback: config.scope == AddressScope::Loopback,
    }
}

fn max_incoming(max: u32) -> u32 {
    (max - max / 4).max(1)
}

/// Limits each direction to less than all connections, so that the node can always dial and always
/// accept.
fn limits(config: &SwarmConfig) -> connection_limits::ConnectionLimits {
    let max = config.max_connections;
    connection_limits::ConnectionLimits::default()
        // The transport ends slow handshakes for new ones, and the swarm learns of it a moment later.
        .with_max_pending_incoming(Some(2 * config.max_handshakes))
        .with_max_pending_outgoing(Some(PENDING_OUTGOING))
        .with_max_established_incoming(Some(max_incoming(max)))
        .with_max_established_outgoing(Some((max / 2).max(1)))
        .with_max_established(Some(max))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
}

/// Creates Kademlia without replication, republication and caching, because only the owner of a
/// record can sign and renew it. The core verifies records before the node stores them.
fn kademlia(keypair: &Keypair, serves_dht: bool, protocol: StreamProtocol) -> kad::Behaviour<DhtStore> {
    let mut config = kad::Config::new(protocol);
    config
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .disjoint_query_paths(true)
        .set_parallelism(PATHS)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL));
    let mut kad = kad::Behaviour::with_config(keypair.public().to_peer_id(), DhtStore::default(), config);
    kad.set_mode(Some(dht_mode(serves_dht)));
    kad
}

/// Returns the mode of Kademlia. Its own automatic mode would follow each candidate of an address.
pub(super) fn dht_mode(serves_dht: bool) -> Mode {
    if serves_dht { Mode::Server } else { Mode::Client }
}

fn admission(protocol: &StreamProtocol, codec: Codec) -> request_response::Behaviour<Codec> {
    let config = request_response::Config::default()
        .with_request_timeout(ADMISSION_TIMEOUT)
        .with_max_concurrent_streams(ADMISSION_STREAMS);
    request_response::Behaviour::with_codec(codec, [(protocol.clone(), ProtocolSupport::Full)], config)
}

fn find(protocol: &StreamProtocol) -> request_response::Behaviour<Codec> {
    let config = request_response::Config::default()
        .with_request_timeout(FIND_TIMEOUT)
        .with_max_concurrent_streams(FIND_STREAMS);
    request_response::Behaviour::with_codec(
        Codec::find(),
        [(protocol.clone(), ProtocolSupport::Full)],
        config,
    )
}
