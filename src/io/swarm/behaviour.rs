//! Every protocol that a node speaks, and how each is set.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::kad::{BucketInserts, Mode, StoreInserts};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{StreamProtocol, allow_block_list, connection_limits, identify, kad, ping};
use p2p_node_protocol::Role;

use super::gossip::{self, Gossipsub};
use super::mail::{Codec, MAX_HELLO, MAX_MAIL, MAX_MAIL_RESPONSE, Unread};
use super::store::Store;
use super::{SetupError, SwarmConfig};
use p2p_node_wire::identity::binding::is_network_name;

/// Longest that a frame of mail waits for its answer, counted from when its stream opens.
pub const MAIL_TIMEOUT: Duration = Duration::from_secs(10);

/// Mail that may be in flight on one connection, both ways together: at most 1 MiB may be outstanding to a peer (design
/// §4), and a sender closes a frame every 2 ms, so that this much suffices up to a round trip of 250 ms.
const MAIL_STREAMS: usize = 128;

/// Hellos in flight on one connection: one each way, and one more each way while the first ends.
const HELLO_STREAMS: usize = 4;

/// Connections to one peer: with one, two peers that dial each other at once may close both.
const CONNECTIONS_PER_PEER: u32 = 3;

/// Connections in the making, each way (`reference/libp2p.md` §4).
const PENDING_INCOMING: u32 = 64;
const PENDING_OUTGOING: u32 = 32;
/// All of them.
pub const PENDING: u32 = PENDING_INCOMING + PENDING_OUTGOING;

/// A peer is pinged so often, and given so long. Since the first failure is forgiven, a peer that has gone silent is
/// found out within 50 s.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A query of the DHT ends after this long, with what it has.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a node looks for DHT servers near it, if it knows any.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(60);

/// Those that may deny a connection come first: the others note a connection when they are asked, and would keep one
/// that is denied afterwards for ever.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub limits: connection_limits::Behaviour,
    pub blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub kad: kad::Behaviour<Store>,
    pub hello: request_response::Behaviour<Codec>,
    pub mail: request_response::Behaviour<Codec>,
    pub gossip: Gossipsub,
}

/// What could not be read.
#[derive(Clone, Debug, Default)]
pub(super) struct UnreadRequests {
    pub hello: Unread,
    pub mail: Unread,
}

/// What the protocols and topics of a network are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Told to others by identify: says to which network the node belongs.
    pub version: String,
    /// Kademlia.
    pub kad: StreamProtocol,
    /// Exchange of records.
    pub hello: StreamProtocol,
    /// Direct mail.
    pub mail: StreamProtocol,
    /// What a topic is called begins with this.
    pub topic_prefix: String,
}

impl Names {
    /// The names of a network.
    pub(super) fn new(network: &str) -> Result<Self, SetupError> {
        let protocol = |name| StreamProtocol::try_from_owned(format!("/p2p-node/{network}/{name}/1"));
        Ok(Self {
            version: format!("/p2p-node/{network}/id/1"),
            kad: protocol("kad")?,
            hello: protocol("hello")?,
            mail: protocol("mail")?,
            topic_prefix: format!("/p2p-node/{network}/topic/1/"),
        })
    }

    /// The network of a node of this kind that belongs to another one, from what it tells by identify.
    pub(super) fn other_network(&self, version: &str) -> Option<String> {
        let network = version.strip_prefix("/p2p-node/")?.strip_suffix("/id/1")?;
        (version != self.version && is_network_name(network)).then(|| network.to_owned())
    }
}

impl Behaviour {
    /// Sets every protocol up.
    pub(super) fn new(
        keypair: &Keypair,
        config: &SwarmConfig,
        names: &Names,
        unread: UnreadRequests,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(config.max_connections)),
            blocked: allow_block_list::Behaviour::default(),
            identify: identify::Behaviour::new(
                identify::Config::new(names.version.clone(), keypair.public())
                    .with_agent_version(config.agent_version.clone())
                    .with_push_listen_addr_updates(true)
                    // Where a peer is dialled is for the core and for Kademlia to know.
                    .with_cache_size(0),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
            ),
            kad: kademlia(keypair, config.role, names.kad.clone()),
            hello: requests(&names.hello, Codec::new(MAX_HELLO, MAX_HELLO, unread.hello), HELLO_STREAMS),
            mail: requests(&names.mail, Codec::new(MAX_MAIL, MAX_MAIL_RESPONSE, unread.mail), MAIL_STREAMS),
            gossip: gossip::build(&names.topic_prefix, config.scope)?,
        })
    }
}

/// Neither direction may use up all connections, so that others can still reach us and we them.
fn limits(max: u32) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INCOMING))
        .with_max_pending_outgoing(Some(PENDING_OUTGOING))
        .with_max_established_incoming(Some((max - max / 4).max(1)))
        .with_max_established_outgoing(Some((max / 2).max(1)))
        .with_max_established(Some(max))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
}

/// A record is signed by its owner, who alone renews it: nothing is replicated, published again or cached on its behalf,
/// and what others want stored goes to the core first.
fn kademlia(keypair: &Keypair, role: Role, protocol: StreamProtocol) -> kad::Behaviour<Store> {
    let mut config = kad::Config::new(protocol);
    config
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL));
    let mut kad = kad::Behaviour::with_config(keypair.public().to_peer_id(), Store::default(), config);
    kad.set_mode(Some(match role {
        Role::Bootstrap => Mode::Server,
        Role::Full | Role::Unknown => Mode::Client,
    }));
    kad
}

fn requests(protocol: &StreamProtocol, codec: Codec, streams: usize) -> request_response::Behaviour<Codec> {
    let config = request_response::Config::default()
        .with_request_timeout(MAIL_TIMEOUT)
        .with_max_concurrent_streams(streams);
    request_response::Behaviour::with_codec(codec, [(protocol.clone(), ProtocolSupport::Full)], config)
}
