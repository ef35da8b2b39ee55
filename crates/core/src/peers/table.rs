//! The table of peers: every node that this node dials, is connected to, or must not dial yet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_wire::time::Instant;

use crate::backoff::Jitter;
use crate::directory::record_table::MAX_AGENTS;
use crate::gate::reputation::MAX_BANS;
use crate::peers::bootstrap::{Bootstrap, MAX_BOOTSTRAPS, MIN_STABLE_CONNECTION};
use crate::peers::dial_queue::DialKind;
use crate::peers::dialer::{MAX_BACKOFFS, Pause};
use crate::peers::limits::MAX_CONNECTIONS;
use crate::peers::links::Links;

/// Limit of entries. The node dials only bootstrap peers and agents with a record, and the swarm
/// limits the connections. Banned peers have entries too.
pub(crate) const MAX_PEERS: usize = MAX_BOOTSTRAPS + MAX_AGENTS + MAX_CONNECTIONS + MAX_BACKOFFS + MAX_BANS;

/// The state of a connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// The topics that the peer subscribes to.
    pub(crate) topics: BTreeSet<String>,
    /// Those of them that the other components do not know, because the peer is not admitted.
    pub(crate) unannounced: BTreeSet<String>,
    pub(crate) connected_at: Instant,
    /// `true` if the peer has subscribed to mail by gossip on this connection.
    pub(crate) saw_mail_subscription: bool,
    /// `true` if all connections to the peer go through relays.
    pub(crate) is_relayed: bool,
    /// When gossipsub last reported that the peer's queue is full.
    pub(crate) slow_at: Option<Instant>,
    /// When the two nodes last exchanged mail or a search, or connected.
    pub(crate) used_at: Instant,
    /// Messages that the parent got over this connection, and messages sent over it.
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    /// The transport connections.
    pub(crate) links: Links,
    /// Number of reservations of the peer at this node as its relay, at most one on each link.
    pub(crate) reservations: u32,
    /// Set when this node closes the connection, with the reason for people.
    pub(crate) closing: Option<String>,
    /// The agent of the peer, once the node has admitted it.
    pub(crate) agent: Option<Address>,
    /// Set if one of the two nodes does not admit the other, with the shortest pause before the next
    /// dial.
    pub(crate) refused: Option<Duration>,
}

impl Connection {
    /// Returns `true` if the node has admitted the peer and the peer subscribes to a topic.
    pub(crate) fn subscribes(&self, topic: &str) -> bool {
        self.agent.is_some() && self.topics.contains(topic)
    }
}

/// The link between this node and a peer.
#[derive(Debug, Default)]
pub(crate) enum Link {
    /// The node neither dials the peer nor is connected to it.
    #[default]
    Down,
    /// A dial to the peer waits in the queue.
    Queued(DialKind),
    /// The node dials the peer.
    Dialing,
    /// The node is connected to the peer.
    Up(Box<Connection>),
}

/// The state of a peer, beside its record.
#[derive(Debug, Default)]
struct Entry {
    link: Link,
    /// Set if the peer is a bootstrap peer.
    bootstrap: Option<Bootstrap>,
    /// Set after a failed dial or a short connection.
    pause: Option<Pause>,
    serves_dht: bool,
    /// `true` while the node is banned. The node does not dial it.
    is_banned: bool,
}

impl Entry {
    fn is_idle(&self) -> bool {
        matches!(self.link, Link::Down)
            && self.bootstrap.is_none()
            && self.pause.is_none()
            && !self.serves_dht
            && !self.is_banned
    }

    fn may_be_dialled(&self) -> bool {
        matches!(self.link, Link::Down) && !self.is_banned
    }

    /// Returns the time of the next dial of a bootstrap peer that is down.
    fn redial_at(&self) -> Option<Instant> {
        let bootstrap = self.bootstrap.as_ref().filter(|_| self.may_be_dialled())?;
        Some(bootstrap.backoff.not_before())
    }
}

/// All peers. An entry exists while the node has a reason to remember the peer.
#[derive(Debug, Default)]
pub(crate) struct PeerTable {
    entries: BTreeMap<PeerId, Entry>,
    /// The connected peers: an index of `entries`.
    connected: BTreeSet<PeerId>,
    /// The bootstrap peers that are down, by the time of the next dial: an index of `entries`.
    redials: BTreeSet<(Instant, PeerId)>,
    /// Numbers of entries that wait for a dial, are dialled, are bootstrap peers, pause, and serve the
    /// DHT.
    queued: usize,
    dialing: usize,
    bootstraps: usize,
    pauses: usize,
    servers: usize,
}

impl PeerTable {
    /// Changes the entry of a peer and the indexes with it. Removes an entry without content.
    fn update<R>(&mut self, peer: PeerId, change: impl FnOnce(&mut Entry) -> R) -> R {
        let mut entry = self.entries.remove(&peer).unwrap_or_default();
        self.queued -= usize::from(matches!(entry.link, Link::Queued(_)));
        self.dialing -= usize::from(matches!(entry.link, Link::Dialing));
        self.bootstraps -= usize::from(entry.bootstrap.is_some());
        self.pauses -= usize::from(entry.pause.is_some());
        self.servers -= usize::from(entry.serves_dht);
        if let Some(at) = entry.redial_at() {
            self.redials.remove(&(at, peer));
        }
        let result = change(&mut entry);
        self.queued += usize::from(matches!(entry.link, Link::Queued(_)));
        self.dialing += usize::from(matches!(entry.link, Link::Dialing));
        self.bootstraps += usize::from(entry.bootstrap.is_some());
        self.pauses += usize::from(entry.pause.is_some());
        self.servers += usize::from(entry.serves_dht);
        self.redials.extend(entry.redial_at().map(|at| (at, peer)));
        if matches!(entry.link, Link::Up(_)) {
            self.connected.insert(peer);
        } else {
            self.connected.remove(&peer);
        }
        if !entry.is_idle() {
            self.entries.insert(peer, entry);
        }
        result
    }

    /// Adds an address of a bootstrap peer. Returns `false` if a limit is reached.
    pub(crate) fn add_bootstrap(&mut self, peer: PeerId, addr: Multiaddr) -> bool {
        let full = self.bootstraps >= MAX_BOOTSTRAPS;
        self.update(peer, |entry| {
            if full && entry.bootstrap.is_none() {
                return false;
            }
            entry.bootstrap.get_or_insert_default().add(addr)
        })
    }

    /// Removes a peer from the bootstrap peers. Returns `true` if it was one.
    pub(crate) fn remove_bootstrap(&mut self, peer: PeerId) -> bool {
        self.update(peer, |entry| {
            if matches!(entry.link, Link::Queued(DialKind::Bootstrap)) {
                entry.link = Link::Down;
            }
            entry.bootstrap.take().is_some()
        })
    }

    /// Returns the first bootstrap peer to dial now, with its addresses.
    pub(crate) fn redial_due(&self, now: Instant) -> Option<(PeerId, Vec<Multiaddr>)> {
        let (_, peer) = self.redials.first().filter(|(at, _)| *at <= now)?;
        let bootstrap = self.entries.get(peer)?.bootstrap.as_ref()?;
        Some((*peer, bootstrap.addrs().to_vec()))
    }

    /// Returns the time of the next dial of a bootstrap peer.
    pub(crate) fn next_redial(&self) -> Option<Instant> {
        self.redials.first().map(|(at, _)| *at)
    }

    /// Returns `true` if the node dials a bootstrap peer or is connected to one.
    pub(crate) fn has_bootstrap_in_touch(&self) -> bool {
        self.bootstraps > self.redials.len()
    }

    /// Marks a peer as being dialled. Returns `false` if it is connected or is being dialled.
    pub(crate) fn start_dial(&mut self, peer: PeerId) -> bool {
        self.update(peer, |entry| {
            let may_start = matches!(entry.link, Link::Down | Link::Queued(_)) && !entry.is_banned;
            if may_start {
                entry.link = Link::Dialing;
            }
            may_start
        })
    }

    /// Marks a peer that is down as waiting for a dial.
    pub(crate) fn queue_dial(&mut self, peer: PeerId, kind: DialKind) {
        self.update(peer, |entry| {
            if entry.may_be_dialled() {
                entry.link = Link::Queued(kind);
            }
        });
    }

    /// Marks a peer that waits for a dial as down.
    pub(crate) fn unqueue(&mut self, peer: PeerId) {
        self.update(peer, |entry| {
            if matches!(entry.link, Link::Queued(_)) {
                entry.link = Link::Down;
            }
        });
    }

    /// Returns the kind of the dial for which a peer waits.
    pub(crate) fn queued_kind(&self, peer: &PeerId) -> Option<DialKind> {
        match self.entries.get(peer)?.link {
            Link::Queued(kind) => Some(kind),
            Link::Down | Link::Dialing | Link::Up(_) => None,
        }
    }

    /// Records a connection.
    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        self.update(peer, |entry| match &mut entry.link {
            Link::Up(connection) => {
                (connection.connected_at, connection.agent, connection.refused) = (now, None, None);
            }
            Link::Down | Link::Queued(_) | Link::Dialing => {
                let connection = Connection { connected_at: now, used_at: now, ..Connection::default() };
                entry.link = Link::Up(Box::new(connection));
            }
        });
    }

    /// Records the end of the connection. Returns the shortest pause before the next dial if the
    /// connection was shorter than [`MIN_STABLE_CONNECTION`] and this node did not close it on purpose,
    /// or if one of the two nodes does not admit the other.
    pub(crate) fn disconnected(
        &mut self,
        peer: PeerId,
        now: Instant,
        jitter: &mut Jitter,
    ) -> Option<Duration> {
        self.update(peer, |entry| {
            entry.serves_dht = false;
            let (connected_at, is_ours, refused) = match std::mem::take(&mut entry.link) {
                Link::Up(connection) => {
                    (connection.connected_at, connection.closing.is_some(), connection.refused)
                }
                Link::Down | Link::Queued(_) | Link::Dialing => (now, false, None),
            };
            let is_short = !is_ours && now.saturating_since(connected_at) < MIN_STABLE_CONNECTION;
            let pause = refused.or(is_short.then_some(Duration::ZERO));
            if let Some(bootstrap) = &mut entry.bootstrap {
                bootstrap.disconnected(pause, now, jitter);
            }
            pause
        })
    }

    /// Records a failed dial. Returns `true` if the peer is a bootstrap peer and this is its first
    /// failure in a row.
    pub(crate) fn dial_failed(&mut self, peer: PeerId, now: Instant, jitter: &mut Jitter) -> bool {
        self.update(peer, |entry| {
            if matches!(entry.link, Link::Dialing) {
                entry.link = Link::Down;
            }
            entry.bootstrap.as_mut().is_some_and(|bootstrap| bootstrap.failed(now, jitter))
        })
    }

    /// Changes the pause of a peer, or creates one. If the table has [`MAX_BACKOFFS`] pauses, it
    /// first removes those that have ended, and ignores the change if none has.
    pub(crate) fn update_pause(&mut self, peer: PeerId, now: Instant, change: impl FnOnce(&mut Pause)) {
        if self.pauses >= MAX_BACKOFFS {
            let ended = |entry: &Entry| entry.pause.as_ref().is_some_and(|pause| pause.is_over(now));
            let ended: Vec<PeerId> =
                self.entries.iter().filter(|(_, entry)| ended(entry)).map(|(peer, _)| *peer).collect();
            ended.into_iter().for_each(|peer| self.end_pause(peer));
        }
        if self.pauses < MAX_BACKOFFS {
            self.update(peer, |entry| change(entry.pause.get_or_insert_default()));
        }
    }

    /// Removes the pause of a peer.
    pub(crate) fn end_pause(&mut self, peer: PeerId) {
        self.update(peer, |entry| entry.pause = None);
    }

    /// Returns the pause of a peer.
    pub(crate) fn pause(&self, peer: &PeerId) -> Option<&Pause> {
        self.entries.get(peer)?.pause.as_ref()
    }

    /// Records whether a peer serves the DHT. Returns `true` if that is new.
    pub(crate) fn set_serves_dht(&mut self, peer: PeerId, serves: bool) -> bool {
        self.update(peer, |entry| std::mem::replace(&mut entry.serves_dht, serves) != serves)
    }

    /// Returns `true` if the peer is a bootstrap peer.
    pub(crate) fn is_bootstrap(&self, peer: &PeerId) -> bool {
        self.entries.get(peer).is_some_and(|entry| entry.bootstrap.is_some())
    }

    /// Returns `true` if the peer serves the DHT.
    pub(crate) fn is_dht_server(&self, peer: &PeerId) -> bool {
        self.entries.get(peer).is_some_and(|entry| entry.serves_dht)
    }

    /// Returns the connection to a peer.
    pub(crate) fn connection(&self, peer: &PeerId) -> Option<&Connection> {
        match &self.entries.get(peer)?.link {
            Link::Up(connection) => Some(connection),
            Link::Down | Link::Queued(_) | Link::Dialing => None,
        }
    }

    /// Returns the connection to a peer, to change it.
    pub(crate) fn connection_mut(&mut self, peer: &PeerId) -> Option<&mut Connection> {
        match &mut self.entries.get_mut(peer)?.link {
            Link::Up(connection) => Some(connection),
            Link::Down | Link::Queued(_) | Link::Dialing => None,
        }
    }

    /// Returns all connections, in the order of PeerIds.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (&PeerId, &Connection)> {
        self.connected.iter().filter_map(|peer| Some((peer, self.connection(peer)?)))
    }

    /// Returns the peers that the node has admitted, in the order of PeerIds.
    pub(crate) fn admitted(&self) -> impl Iterator<Item = PeerId> {
        self.connections().filter(|(_, connection)| connection.agent.is_some()).map(|(peer, _)| *peer)
    }

    /// Returns the admitted DHT servers, in the order of PeerIds.
    pub(crate) fn connected_servers(&self) -> impl Iterator<Item = PeerId> {
        self.admitted().filter(|peer| self.is_dht_server(peer))
    }

    /// Records whether a peer is banned.
    pub(crate) fn set_banned(&mut self, peer: PeerId, is_banned: bool) {
        self.update(peer, |entry| entry.is_banned = is_banned);
    }

    /// Returns `true` if the node may dial the peer: it neither is connected to the peer nor dials it,
    /// now or soon, and the peer is not banned.
    pub(crate) fn is_down(&self, peer: &PeerId) -> bool {
        self.entries.get(peer).is_none_or(Entry::may_be_dialled)
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of connections.
    pub(crate) fn connections_len(&self) -> usize {
        self.connected.len()
    }

    /// Returns the number of peers that the node dials.
    pub(crate) fn dialing_len(&self) -> usize {
        self.dialing
    }

    /// Returns the number of peers that the node dials now or soon.
    pub(crate) fn pending_dials_len(&self) -> usize {
        self.dialing + self.queued
    }

    /// Returns the number of bootstrap peers.
    pub(crate) fn bootstraps_len(&self) -> usize {
        self.bootstraps
    }

    /// Returns the number of peers with a pause.
    pub(crate) fn pauses_len(&self) -> usize {
        self.pauses
    }

    /// Returns the number of known DHT servers.
    pub(crate) fn servers_len(&self) -> usize {
        self.servers
    }
}

#[cfg(test)]
mod tests;
