//! The places for handshakes of incoming connections. A handshake that takes long loses its place to a
//! newcomer, so that hosts that connect and stay silent keep nobody out.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::oneshot;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};
use p2p_node_core::local::addresses::{ip_of, is_relayed};
use tokio::time::{Instant, Sleep, sleep};

use super::address_limits::{Block, prefix_of};
use super::refused_hosts::RefusedHosts;

/// Maximum number of handshakes of incoming connections. It bounds the handshakes that strangers can
/// cause at once.
pub const MAX_HANDSHAKES: u32 = 64;
/// Number of handshakes that a node with few descriptors accepts at the same time: our choice, twice as
/// many as one address may always have.
pub const MIN_HANDSHAKES: u32 = 8;
/// Maximum time of a handshake. Our choice: ten round trips of half a second. A dialer waits longer,
/// because its time includes the connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that a handshake always has, before it can lose its place. Our choice: two round trips of half a
/// second. Without it, many honest nodes that dial at the same time would take each other's places, and
/// none would complete.
const GUARANTEED: Duration = Duration::from_secs(1);

type Connection = (PeerId, StreamMuxerBox);
type Upgrade = <Boxed<Connection> as Transport>::ListenerUpgrade;

/// Counts the handshakes that lost their place or got none.
#[derive(Clone, Debug, Default)]
pub(super) struct EvictedHandshakes(Arc<AtomicU64>);

impl EvictedHandshakes {
    /// Returns the number since the last call.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Entry {
    block: Option<Block>,
    began: Instant,
    /// Dropped to end the handshake.
    _end: oneshot::Sender<()>,
}

/// The handshakes in progress, in the order of their start.
#[derive(Debug)]
struct HandshakeTable {
    max: usize,
    entries: BTreeMap<u64, Entry>,
    next: u64,
}

impl HandshakeTable {
    fn new(max: u32) -> Self {
        HandshakeTable { max: max as usize, entries: BTreeMap::new(), next: 0 }
    }

    /// Takes a place, if necessary that of another handshake: the oldest of the addresses with the most
    /// handshakes. Returns `None` if all places are taken by handshakes that began a moment ago.
    fn take(&mut self, block: Option<Block>, now: Instant) -> Option<(u64, oneshot::Receiver<()>)> {
        if self.entries.len() >= self.max {
            let victim = self.victim(now)?;
            self.entries.remove(&victim);
        }
        let (end, ended) = oneshot::channel();
        let place = self.next;
        self.next += 1;
        self.entries.insert(place, Entry { block, began: now, _end: end });
        Some((place, ended))
    }

    fn victim(&self, now: Instant) -> Option<u64> {
        let mut crowds: HashMap<Option<Block>, usize> = HashMap::new();
        for entry in self.entries.values() {
            *crowds.entry(entry.block).or_default() += 1;
        }
        let replaceable = self.entries.iter().filter(|(_, entry)| now >= entry.began + GUARANTEED);
        let by_crowd = replaceable.map(|(place, entry)| (crowds[&entry.block], *place));
        by_crowd.max_by_key(|(crowd, place)| (*crowd, std::cmp::Reverse(*place))).map(|(_, place)| place)
    }
}

type Shared = Arc<Mutex<HandshakeTable>>;

fn lock(places: &Shared) -> MutexGuard<'_, HandshakeTable> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transport with a limited number of incoming handshakes.
pub(super) struct LimitedHandshakes {
    inner: Boxed<Connection>,
    places: Shared,
    refused: RefusedHosts,
    evicted: EvictedHandshakes,
}

impl LimitedHandshakes {
    pub(super) fn new(
        inner: Boxed<Connection>,
        max: u32,
        refused: RefusedHosts,
        evicted: EvictedHandshakes,
    ) -> Self {
        let places = Arc::new(Mutex::new(HandshakeTable::new(max)));
        LimitedHandshakes { inner, places, refused, evicted }
    }

    fn begin(&self, upgrade: Upgrade, from: &Multiaddr) -> Handshake {
        // The swarm refuses the connection. Here it must not take the place of another.
        if self.refused.refusal(from).is_some() {
            return Handshake::Unwanted;
        }
        // The address of a relayed connection is that of the relay.
        let ip = ip_of(from).filter(|_| !is_relayed(from));
        let block = ip.map(|ip| prefix_of(ip.to_canonical()));
        let taken = lock(&self.places).take(block, Instant::now());
        let evicted = self.evicted.clone();
        let Some((place, ended)) = taken else {
            return Handshake::Refused(evicted);
        };
        Handshake::Running {
            upgrade,
            deadline: Box::pin(sleep(HANDSHAKE_TIMEOUT)),
            ended,
            _place: HeldPlace { place, places: Arc::clone(&self.places) },
            evicted,
        }
    }
}

impl Transport for LimitedHandshakes {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = Handshake;
    type Dial = <Boxed<Connection> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
        let from = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => send_back_addr.clone(),
            _ => Multiaddr::empty(),
        };
        Poll::Ready(event.map_upgrade(|upgrade| self.begin(upgrade, &from)))
    }
}

/// Gives a place back when it is dropped.
pub(super) struct HeldPlace {
    place: u64,
    places: Shared,
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        lock(&self.places).entries.remove(&self.place);
    }
}

/// A handshake of an incoming connection.
pub(super) enum Handshake {
    /// The host may not connect.
    Unwanted,
    /// All places are taken.
    Refused(EvictedHandshakes),
    /// The handshake has a place.
    Running {
        upgrade: Upgrade,
        deadline: Pin<Box<Sleep>>,
        /// Ends with an error when another handshake takes the place.
        ended: oneshot::Receiver<()>,
        _place: HeldPlace,
        evicted: EvictedHandshakes,
    },
}

impl Future for Handshake {
    type Output = io::Result<Connection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Handshake::Unwanted => Poll::Ready(Err(io::ErrorKind::PermissionDenied.into())),
            Handshake::Refused(evicted) => {
                evicted.0.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Err(io::Error::other("too many handshakes at the same time")))
            }
            Handshake::Running { upgrade, deadline, ended, evicted, .. } => {
                if let Poll::Ready(done) = Pin::new(upgrade).poll(cx) {
                    return Poll::Ready(done);
                }
                if Pin::new(ended).poll(cx).is_ready() {
                    evicted.0.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(Err(io::Error::other(
                        "a newcomer took the place of a slow handshake",
                    )));
                }
                deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use libp2p::core::transport::dummy::DummyTransport;
    use p2p_node_core::gate::address_rules::AddressRules;
    use p2p_node_core::gate::host::Host;

    use super::*;

    fn block(third: u8) -> Option<Block> {
        Some(prefix_of(IpAddr::from([192, 0, third, 1])))
    }

    #[test]
    fn newcomer_takes_the_place_of_the_oldest_handshake_of_the_most_crowded_addresses() {
        let (mut places, start) = (HandshakeTable::new(MAX_HANDSHAKES), Instant::now());
        let mut held = Vec::new();
        for number in 0..u64::from(MAX_HANDSHAKES) {
            let crowd = if number % 4 == 0 { number as u8 } else { 200 };
            held.push(places.take(block(crowd), start + Duration::from_millis(number)));
        }
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(block(1), start + GUARANTEED / 2).is_none(), "each has its guaranteed time");
        let later = start + GUARANTEED + Duration::from_secs(1);
        for expected in [1, 2, 3, 5] {
            assert!(places.take(block(201), later).is_some());
            assert!(!places.entries.contains_key(&expected), "{expected} is the oldest of the crowd");
            assert_eq!(places.entries.len(), MAX_HANDSHAKES as usize);
        }
        assert!(places.entries.contains_key(&0), "a handshake from elsewhere stays");
    }

    #[tokio::test]
    async fn handshake_of_a_blocked_or_banned_host_takes_no_place() {
        let blocked = "192.0.2.0/24".parse().unwrap();
        let refused = RefusedHosts::new(AddressRules::new(&[], &[blocked]).into());
        let inner = DummyTransport::<Connection>::new().boxed();
        let transport = LimitedHandshakes::new(inner, 1, refused.clone(), EvictedHandshakes::default());
        let begin = |from: &str| {
            transport.begin(Box::pin(futures::future::pending()), &from.parse::<Multiaddr>().unwrap())
        };
        let banned = Host::of_ip(IpAddr::from([198, 51, 100, 1]));
        refused.ban(banned);
        for from in ["/ip4/192.0.2.9/tcp/5", "/ip4/198.51.100.1/tcp/5"] {
            assert!(matches!(begin(from), Handshake::Unwanted), "{from}");
            assert!(lock(&transport.places).entries.is_empty(), "{from}");
        }
        refused.unban(&banned);
        assert!(matches!(begin("/ip4/198.51.100.1/tcp/5"), Handshake::Running { .. }));
    }

    #[test]
    fn evicted_handshake_ends_and_a_dropped_one_gives_its_place_back() {
        let places = Arc::new(Mutex::new(HandshakeTable::new(3)));
        let start = Instant::now();
        let mut first = lock(&places).take(None, start).unwrap();
        for _ in 1..3 {
            assert!(lock(&places).take(None, start).is_some());
        }
        assert_eq!(first.1.try_recv(), Ok(None), "in progress");
        let last = lock(&places).take(None, start + GUARANTEED).unwrap();
        assert!(first.1.try_recv().is_err(), "evicted");
        drop(HeldPlace { place: last.0, places: Arc::clone(&places) });
        assert_eq!(lock(&places).entries.len(), 2);
        drop(HeldPlace { place: first.0, places: Arc::clone(&places) });
        assert_eq!(lock(&places).entries.len(), 2, "its place belongs to another");
    }
}
