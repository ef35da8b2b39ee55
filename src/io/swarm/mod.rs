//! libp2p behind the core's inputs and effects.
//!
//! [`SwarmDriver`] owns the swarm. It holds every handle that the core knows by token, and decides nothing: what a peer is
//! worth, whom to dial and what to store are for the core to say.

mod behaviour;
mod gossip;
mod held;
mod inbound;
mod listen;
mod mail;
mod outbound;
mod store;
mod transport;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::gossipsub::MessageId;
use libp2p::identity::Keypair;
use libp2p::kad::QueryId;
use libp2p::request_response::{InboundRequestId, OutboundRequestId, ResponseChannel};
use libp2p::{Multiaddr, PeerId, Swarm, swarm};
use p2p_node_protocol::Role;

use self::behaviour::{Behaviour, Names, UnreadRequests};
use self::held::HandleTable;
use self::listen::Listeners;
use p2p_node_core::input::{DropKind, Input, Token};
use p2p_node_wire::identity::SecretBytes;

pub use self::behaviour::{MAIL_TIMEOUT, PENDING};
pub use self::gossip::{MAX_TOPIC_BYTES, MAX_TOPICS_PER_PEER, MAX_TRANSMIT};
pub use self::listen::can_listen_on;
pub use self::mail::{MAX_HELLO, MAX_MAIL, MAX_MAIL_RESPONSE};
pub use self::store::{KEY_BYTES, MAX_BYTES, MAX_LIFETIME, MAX_RECORDS, MAX_VALUE_BYTES};
pub use self::transport::DIAL_TIMEOUT;
pub use p2p_node_core::gate::address_scope::AddressScope;

/// Frames of mail that may wait for the core's answer. The core answers in the turn in which it hears of one, except
/// for those that wait for a check in the crypto pool; eight connections can fill it (128 streams each).
pub const MAX_MAIL_ASKED: usize = 1024;

/// Hellos that may wait for the core's answer: one from each of as many peers as a bootstrap node has (design §8), and
/// the oldest goes first.
pub const MAX_HELLOS_ASKED: usize = 1024;

/// Frames of our mail that may wait for an answer: as many as 32 connections carry (128 streams each).
pub const MAX_MAIL_SENT: usize = 4096;

/// Gossip that may wait for a verdict. At 60 KiB each libp2p holds up to 64 MiB for them.
pub const MAX_GOSSIP_UNJUDGED: usize = 1024;

/// Reads of the DHT at once: four times what policy allows (16, design §8), since its parts count separately.
pub const MAX_QUERIES: usize = 64;

/// Addresses of a DHT server that are handed to Kademlia: as many as a record has (design §3).
const MAX_ADDRS_PER_SERVER: usize = 8;

/// A connection on which nothing is open ends after this long. One between peers that speak gossipsub never is.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest that [`SwarmDriver::close`] takes to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// What a node is on the network.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Seed of the Ed25519 node key.
    pub seed: SecretBytes,
    /// Name of the network; part of every protocol's and topic's name.
    pub network: String,
    /// Which addresses to deal with.
    pub scope: AddressScope,
    /// A bootstrap node serves the DHT; the others only use it.
    pub role: Role,
    /// Listen on exactly these, whatever port the core names; by default on the scope's interfaces, TCP and QUIC on one port.
    pub listen: Option<Vec<Multiaddr>>,
    /// Connections at most, all peers together (design §8: 200, bootstrap 1000).
    pub max_connections: u32,
    /// Name and version of this program, told to peers.
    pub agent_version: String,
}

/// Why a [`SwarmDriver`] could not be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The seed is no Ed25519 key.
    #[error("node key: {0}")]
    Key(#[from] libp2p::identity::DecodingError),
    /// The network's name does not fit into a protocol's name.
    #[error("network name: {0}")]
    Network(#[from] libp2p::swarm::InvalidProtocol),
    /// Noise refused the key.
    #[error("noise: {0}")]
    Noise(#[from] libp2p::noise::Error),
    /// The gossipsub settings contradict each other, which is a defect.
    #[error("gossipsub: {0}")]
    Gossip(String),
}

/// The network, as the core sees it: effects go in by [`SwarmDriver::apply`], inputs come out by [`SwarmDriver::next`].
pub struct SwarmDriver {
    swarm: Swarm<Behaviour>,
    names: Names,
    scope: AddressScope,
    listen_exactly: Option<Vec<Multiaddr>>,
    listeners: Listeners,
    /// What is to be told next. Emptied before the swarm is asked for more, so that it holds what one event and the
    /// effects of one turn have brought.
    inputs: VecDeque<Input>,
    /// Peers to be reported as connected or not. Each has a dial under way, so that the limit of those bounds them.
    dials: HashSet<PeerId>,
    hellos_asked: HandleTable<ResponseChannel<Bytes>>,
    mail_asked: HandleTable<(InboundRequestId, ResponseChannel<Bytes>)>,
    /// Mail whose answer is on its way; libp2p tells of each how that ended.
    mail_answering: HashSet<InboundRequestId>,
    mail_sent: HashMap<OutboundRequestId, Token>,
    gossip_unjudged: HandleTable<(MessageId, PeerId)>,
    queries: HashMap<QueryId, Token>,
    unread: UnreadRequests,
}

impl SwarmDriver {
    /// Sets everything up; opens no socket yet. Must be called within a tokio runtime.
    pub fn new(config: SwarmConfig) -> Result<Self, SetupError> {
        let keypair = Keypair::ed25519_from_bytes(*config.seed)?;
        let names = Names::new(&config.network)?;
        let (transport, degraded) = transport::build(&keypair, config.scope)?;
        let unread = UnreadRequests::default();
        let behaviour = Behaviour::new(&keypair, &config, &names, unread.clone())?;
        let swarm_config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_smart_dial()
            // A stream's first message travels with the proposal of its protocol: mail takes one round trip, not two.
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config);
        Ok(Self {
            swarm,
            names,
            scope: config.scope,
            listen_exactly: config.listen,
            listeners: Listeners::default(),
            inputs: degraded.into_iter().map(|reason| Input::Degraded { reason }).collect(),
            dials: HashSet::new(),
            hellos_asked: HandleTable::new(MAX_HELLOS_ASKED),
            mail_asked: HandleTable::new(MAX_MAIL_ASKED),
            mail_answering: HashSet::new(),
            mail_sent: HashMap::new(),
            gossip_unjudged: HandleTable::new(MAX_GOSSIP_UNJUDGED),
            queries: HashMap::new(),
            unread,
        })
    }

    /// Our own name on the network.
    pub fn peer_id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// Waits for what happens next. Cancel-safe: nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Input {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What has happened already, if anything. Nobody is woken for what comes later: after a `None`, [`SwarmDriver::next`] must be
    /// waited for.
    pub fn try_next(&mut self) -> Option<Input> {
        match self.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(input) => Some(input),
            Poll::Pending => None,
        }
    }

    /// Stops listening, lets answers go out, and closes every connection, for at most 200 ms; what is in flight then is lost.
    pub async fn close(mut self) {
        self.listeners.close(&mut self.swarm);
        // Mail that was taken would otherwise count as lost with its sender.
        let last_words = async {
            while !self.mail_answering.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.take_in(event);
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT / 2, last_words).await;
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
            match self.swarm.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => self.take_in(event),
                // A swarm never ends.
                Poll::Ready(None) | Poll::Pending => match self.listeners.settled(&self.swarm) {
                    Some(report) => return Poll::Ready(report),
                    None if self.tell_unread() => {}
                    None => return Poll::Pending,
                },
            }
        }
    }

    /// Reports what could not be read since the last time; whether there was anything.
    fn tell_unread(&mut self) -> bool {
        let UnreadRequests { hello, mail } = &self.unread;
        let unread = [(DropKind::HelloUnread, hello.take()), (DropKind::MailUnread, mail.take())];
        let lost = unread.into_iter().filter(|(_, number)| *number > 0);
        self.inputs.extend(lost.map(|(what, number)| Input::Dropped { what, number }));
        !self.inputs.is_empty()
    }
}
