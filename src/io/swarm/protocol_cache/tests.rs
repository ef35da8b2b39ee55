//! Tests of handlers that list their protocols when these may have changed.

use futures::StreamExt as _;
use libp2p::core::transport::{MemoryTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{identify, kad, noise, swarm, yamux};

use super::*;

/// A handler that counts how often it is asked for its protocols, and speaks those that its behaviour says.
#[derive(Default)]
struct Counted {
    names: Vec<&'static str>,
    asked: Mutex<usize>,
}

struct Named(Vec<&'static str>);

impl UpgradeInfo for Named {
    type Info = &'static str;
    type InfoIter = Vec<&'static str>;

    fn protocol_info(&self) -> Vec<&'static str> {
        self.0.clone()
    }
}

impl InboundUpgrade<Stream> for Named {
    type Output = ();
    type Error = ();
    type Future = futures::future::Ready<Result<(), ()>>;

    fn upgrade_inbound(self, _: Stream, _: &'static str) -> Self::Future {
        ready(Ok(()))
    }
}

impl ConnectionHandler for Counted {
    type FromBehaviour = Vec<&'static str>;
    type ToBehaviour = ();
    type InboundProtocol = Named;
    type OutboundProtocol = libp2p::core::upgrade::DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Named> {
        *self.asked.lock().unwrap() += 1;
        SubstreamProtocol::new(Named(self.names.clone()), ()).with_timeout(Duration::from_secs(3))
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), ()>> {
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, names: Vec<&'static str>) {
        self.names = names;
    }

    fn on_connection_event(&mut self, _: ConnectionEvent<Named, Self::OutboundProtocol>) {}
}

/// Polls a handler as a connection does, and returns the protocols that it lists then.
fn poll(handler: &mut Handler<Counted>) -> Vec<String> {
    assert!(handler.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
    let protocols = handler.listen_protocol();
    assert_eq!(*protocols.timeout(), Duration::from_secs(3));
    UpgradeInfo::protocol_info(protocols.upgrade()).map(|name| name.to_string()).collect()
}

fn times_asked(handler: &Handler<Counted>) -> usize {
    *lock(&handler.inner).asked.lock().unwrap()
}

#[test]
fn handler_that_is_polled_without_an_event_is_not_asked_for_its_protocols() {
    let mut handler = Handler::new(Counted { names: vec!["/a", "/b"], ..Counted::default() });
    let asked = times_asked(&handler);
    for _ in 0..10 {
        assert_eq!(poll(&mut handler), ["/a", "/b"]);
    }
    assert_eq!(times_asked(&handler), asked);
}

#[test]
fn protocols_of_a_handler_are_listed_anew_after_an_event() {
    let mut handler = Handler::new(Counted::default());
    assert_eq!(poll(&mut handler), [""; 0]);
    handler.on_behaviour_event(vec!["/a"]);
    assert_eq!(poll(&mut handler), ["/a"]);
    handler.on_behaviour_event(Vec::new());
    assert_eq!(poll(&mut handler), [""; 0]);
}

#[test]
fn handler_learns_of_no_stream_whose_protocol_it_does_not_speak_any_more() {
    let error = UpgradeError::Unsupported;
    let event = ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info: (), error });
    assert!(to_inner::<Counted>(event).is_none());
    let error = UpgradeError::Inner((), ());
    let event = ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info: (), error });
    assert!(matches!(to_inner::<Counted>(event), Some(ConnectionEvent::ListenUpgradeError(_))));
}

#[derive(NetworkBehaviour)]
struct Dht {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

fn dht(mode: kad::Mode) -> Swarm<ProtocolCache<Dht>> {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let mut kad = kad::Behaviour::new(peer, MemoryStore::new(peer));
    kad.set_mode(Some(mode));
    let identify = identify::Behaviour::new(identify::Config::new("/test".to_owned(), keypair.public()));
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Swarm::new(transport, ProtocolCache::new(Dht { identify, kad }), peer, config)
}

/// Waits until a node has told the other one whether it speaks Kademlia.
async fn until_identified(
    of: &mut Swarm<ProtocolCache<Dht>>,
    by: &mut Swarm<ProtocolCache<Dht>>,
    is_server: bool,
) {
    loop {
        let event = tokio::select! {
            _ = of.select_next_some() => continue,
            event = by.select_next_some() => event,
        };
        if let SwarmEvent::Behaviour(DhtEvent::Identify(identify::Event::Received { info, .. })) = event
            && info.protocols.contains(&kad::PROTOCOL_NAME) == is_server
        {
            return;
        }
    }
}

#[tokio::test]
async fn peer_learns_of_a_protocol_that_a_node_begins_to_speak_and_speaks_it() {
    let (mut node, mut peer) = (dht(kad::Mode::Client), dht(kad::Mode::Client));
    node.listen_on("/memory/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = node.select_next_some().await {
            break address;
        }
    };
    peer.dial(address.clone()).unwrap();
    until_identified(&mut node, &mut peer, false).await;
    node.behaviour_mut().kad.set_mode(Some(kad::Mode::Server));
    let told = until_identified(&mut node, &mut peer, true);
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("the peer is told");
    peer.behaviour_mut().kad.add_address(node.local_peer_id(), address);
    peer.behaviour_mut().kad.get_closest_peers(*node.local_peer_id());
    loop {
        let event = tokio::select! {
            _ = node.select_next_some() => continue,
            event = peer.select_next_some() => event,
        };
        let SwarmEvent::Behaviour(DhtEvent::Kad(kad::Event::OutboundQueryProgressed {
            result, stats, ..
        })) = event
        else {
            continue;
        };
        if let kad::QueryResult::GetClosestPeers(_) = result {
            assert_eq!((stats.num_successes(), stats.num_failures()), (1, 0));
            return;
        }
    }
}
