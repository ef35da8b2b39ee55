//! Several connections to one peer: tests which of them still stand, and ends those that are of no use.
//!
//! A peer that restarts, or whose address changes, connects anew long before its old connection times
//! out. When a peer has several connections, each gets a probe: a stream that the peer opens and ends.
//! An old connection that does not answer although a newer one does is dead. The node then closes all
//! connections to the peer, because gossipsub announces subscriptions only to a peer that it considers
//! new. Of the connections that stand, those through relays end beside a direct one. Without a direct
//! one they are renewed now and then, because each brings an attempt of hole punching.

mod probe;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Sleep, sleep_until};

use super::mail::MAIL_TIMEOUT;
use probe::{Handler, SendProbe};

/// Time after the answer of the newest connection within which older ones must answer. Our choice: the
/// peer answers all in one turn, and a lost packet is repeated within a second.
const PROBE_LEAD: Duration = Duration::from_secs(1);
/// Time for the answer of a connection whose network changed. Our choice: several round trips, and
/// repeats of lost packets.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a connection through a relay stays beside a direct one. Our choice: mail in flight
/// gets its response meanwhile.
const RELAYED_LINGER: Duration = Duration::from_secs(2);
/// Time for which a second direct connection stays. Our choice: AutoNAT has ended its test meanwhile.
const DUPLICATE_LINGER: Duration = Duration::from_secs(5);
/// Time after which a peer that only relays reach is disconnected, so that the next connection brings
/// another attempt of hole punching: libp2p makes one for each. Doubles with each connection. Our
/// choice: twice the time in which the nodes learn the addresses at which others see them.
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// Most doublings of [`RENEW_AFTER`]: 85 minutes, longer than a relayed connection lives anyway.
const MAX_DOUBLINGS: u32 = 8;
/// Largest number of peers whose relayed connections the node counts: those of a bootstrap node. Above
/// it, the node counts anew.
const MAX_RENEWALS: usize = 2000;
/// Interval at which a connection with mail in flight is considered again.
const RECONSIDER: Duration = Duration::from_millis(500);

/// A connection that another one replaces, or should replace.
#[derive(Debug)]
pub(super) struct Superseded {
    pub peer: PeerId,
    pub connection: ConnectionId,
    /// `true` if the connection must end even with mail in flight.
    pub is_last_call: bool,
}

/// The connections of all peers. The limits of the swarm bound their number.
#[derive(Debug, Default)]
pub(super) struct Links {
    local: Option<PeerId>,
    peers: HashMap<PeerId, Vec<Link>>,
    /// Number of relayed connections to each peer since the last direct one.
    renewals: HashMap<PeerId, u32>,
    /// Peers with a probe or a connection to end.
    watched: HashSet<PeerId>,
    actions: VecDeque<ToSwarm<Superseded, SendProbe>>,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Link {
    connection: ConnectionId,
    is_relayed: bool,
    probe: Probe,
    /// When the connection was superseded, and when the driver is asked next to end it.
    superseded: Option<(Instant, Instant)>,
    /// When the driver is asked next to end a relayed connection without a direct one beside it.
    renew_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    /// Sent. With a time, the connection is dead if no answer comes until then.
    Sent(Option<Instant>),
    Answered(Instant),
}

impl Links {
    pub(super) fn new(local: PeerId) -> Self {
        Links { local: Some(local), ..Links::default() }
    }

    /// Reports an address at which others may be able to dial this node.
    pub(super) fn add_candidate(&mut self, addr: Multiaddr) {
        self.actions.push_back(ToSwarm::NewExternalAddrCandidate(addr));
    }

    /// Returns `true` if all connections to a peer go through relays.
    pub(super) fn is_relayed(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|links| links.iter().all(|link| link.is_relayed))
    }

    /// Tests all connections, because the network of this node has changed.
    pub(super) fn probe_all(&mut self) {
        let by = Some(Instant::now() + PROBE_TIMEOUT);
        for (peer, links) in &mut self.peers {
            links.iter_mut().for_each(|link| send_probe(*peer, link, by, &mut self.actions));
            self.watched.insert(*peer);
        }
    }

    fn on_established(&mut self, peer: PeerId, connection: ConnectionId, is_relayed: bool) {
        let renew_at = self.count_renewal(peer, is_relayed).map(|after| Instant::now() + after);
        let links = self.peers.entry(peer).or_default();
        links.push(Link { connection, is_relayed, probe: Probe::None, superseded: None, renew_at });
        if is_relayed {
            self.watched.insert(peer);
        }
        if links.len() > 1 {
            links.iter_mut().for_each(|link| send_probe(peer, link, None, &mut self.actions));
            self.watched.insert(peer);
        }
    }

    /// Counts a new connection. Returns after which time a relayed one should be renewed.
    fn count_renewal(&mut self, peer: PeerId, is_relayed: bool) -> Option<Duration> {
        if !is_relayed {
            self.renewals.remove(&peer);
            return None;
        }
        if self.renewals.len() >= MAX_RENEWALS {
            self.renewals.clear();
        }
        let renewals = self.renewals.entry(peer).or_default();
        let after = RENEW_AFTER * 2_u32.pow((*renewals).min(MAX_DOUBLINGS));
        *renewals = renewals.saturating_add(1);
        Some(after)
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(links) = self.peers.get_mut(&peer) {
            links.retain(|link| link.connection != connection);
            if links.is_empty() {
                self.peers.remove(&peer);
            }
        }
    }

    /// Decides about the connections of a peer. Returns the time of the next decision, or `None` if
    /// nothing is left to decide.
    fn judge(&mut self, peer: PeerId, now: Instant) -> Option<Instant> {
        let links = self.peers.get_mut(&peer)?;
        let newest_answer = match links.last()?.probe {
            Probe::Answered(at) if links.len() > 1 => Some(at + PROBE_LEAD),
            _ => None,
        };
        let deadline = |link: &Link| match link.probe {
            Probe::Sent(by) => [by, newest_answer].into_iter().flatten().min(),
            Probe::None | Probe::Answered(_) => None,
        };
        if links.iter().filter_map(deadline).any(|by| by <= now) {
            let close = ToSwarm::CloseConnection { peer_id: peer, connection: CloseConnection::All };
            self.actions.push_back(close);
            links.iter_mut().for_each(|link| link.probe = Probe::None);
            return None;
        }
        let mut next: Vec<Instant> = links.iter().filter_map(deadline).collect();
        let answered = |link: &Link| matches!(link.probe, Probe::Answered(_));
        let kept = links.iter().find(|link| !link.is_relayed && answered(link)).map(|link| link.connection);
        // One of the two nodes decides, so that they never end one connection each.
        let decides = self.local.is_some_and(|local| local < peer);
        if decides && links.iter().all(|link| link.is_relayed) {
            for link in links.iter_mut() {
                let Some(at) = &mut link.renew_at else { continue };
                if *at <= now {
                    *at = now + RECONSIDER;
                    let renewed = Superseded { peer, connection: link.connection, is_last_call: false };
                    self.actions.push_back(ToSwarm::GenerateEvent(renewed));
                }
                next.push(*at);
            }
        }
        for link in links.iter_mut().filter(|link| answered(link)) {
            let linger = if link.is_relayed { RELAYED_LINGER } else { DUPLICATE_LINGER };
            if kept.is_none_or(|kept| kept == link.connection) || !link.is_relayed && !decides {
                link.superseded = None;
                continue;
            }
            let (first, due) = link.superseded.get_or_insert((now, now + linger));
            if *due <= now {
                *due = now + RECONSIDER;
                let is_last_call = now >= *first + linger + MAIL_TIMEOUT;
                let connection = link.connection;
                let superseded = Superseded { peer, connection, is_last_call };
                self.actions.push_back(ToSwarm::GenerateEvent(superseded));
            }
            next.push(*due);
        }
        next.into_iter().min()
    }

    /// Decides about all watched peers and sets the timer. Returns `true` if the timer has run out
    /// meanwhile.
    fn judge_all(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for peer in self.watched.iter().copied().collect::<Vec<_>>() {
            match self.judge(peer, now) {
                Some(at) => next = Some(next.map_or(at, |earlier| earlier.min(at))),
                None if self.has_open_probe(&peer) => {}
                None => drop(self.watched.remove(&peer)),
            }
        }
        self.timer = next.map(|at| Box::pin(sleep_until(at)));
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    /// Returns `true` if an answer would lead to a decision.
    fn has_open_probe(&self, peer: &PeerId) -> bool {
        let links = self.peers.get(peer).map(Vec::as_slice).unwrap_or_default();
        links.iter().any(|link| matches!(link.probe, Probe::Sent(_)))
    }
}

fn send_probe(
    peer_id: PeerId,
    link: &mut Link,
    by: Option<Instant>,
    actions: &mut VecDeque<ToSwarm<Superseded, SendProbe>>,
) {
    link.probe = match link.probe {
        Probe::Sent(earlier) => Probe::Sent(earlier.or(by)),
        Probe::None | Probe::Answered(_) => {
            let handler = NotifyHandler::One(link.connection);
            actions.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: SendProbe });
            Probe::Sent(by)
        }
    };
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = Superseded;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => self.on_established(peer_id, connection_id, endpoint.is_relayed()),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.on_closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        _answered: THandlerOutEvent<Self>,
    ) {
        let links = self.peers.get_mut(&peer).into_iter().flatten();
        for link in links.filter(|link| link.connection == connection) {
            link.probe = Probe::Answered(Instant::now());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Superseded, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            if self.watched.is_empty() {
                self.timer = None;
                return Poll::Pending;
            }
            if !self.judge_all(cx) && self.actions.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests;
