//! Other nodes: connections, dials, sources of peers and DHT servers.

pub(crate) mod admission;
pub(crate) mod bans;
pub mod bootstrap;
pub(crate) mod candidate;
pub(crate) mod dht_servers;
pub(crate) mod dial_queue;
pub(crate) mod dialer;
pub(crate) mod finder;
pub(crate) mod gossip_renewals;
pub(crate) mod history;
pub mod limits;
pub mod links;
pub(crate) mod local_network;
pub(crate) mod on_network;
mod on_registration;
pub mod relays;
pub(crate) mod score;
pub(crate) mod sources;
pub(crate) mod subnet;
pub(crate) mod subnet_pauses;
pub(crate) mod table;
pub(crate) mod trimmer;

use std::time::Duration;

use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::directory::lookups::MAX_LOOKUPS;
use crate::gate::Gate;
use crate::local::Local;
use crate::timers::TimerTable;
use crate::usage::Usage;
use admission::Admissions;
use dht_servers::DhtServers;
use dial_queue::DialQueue;
use dialer::Dialer;
use finder::Finder;
use gossip_renewals::GossipRenewals;
use history::Histories;
use limits::ConnectionLimits;
use local_network::LocalNetwork;
use relays::Relays;
use score::Sought;
use sources::dns_seeds::DnsSeeds;
use sources::peer_book::PeerBook;
use sources::regions::RegionPeers;
use sources::schedule::Schedule;
use subnet_pauses::SubnetPauses;
use table::PeerTable;
use trimmer::Trimmer;

/// The state of connections to other nodes.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// The peers that the node dials, is connected to, or must not dial yet.
    pub(crate) table: PeerTable,
    /// The schedule of work for new DHT servers.
    pub(crate) dht_servers: DhtServers,
    /// The schedule of dials to agents' nodes.
    pub(crate) dialer: Dialer,
    /// The schedule of samples of the rendezvous directory.
    pub(crate) samples: Schedule,
    /// The peers of earlier connections.
    pub(crate) book: PeerBook,
    /// The queries for DNS seeds.
    pub(crate) seeds: DnsSeeds,
    /// The peers of the region file.
    pub(crate) regions: RegionPeers,
    /// The questions which agents other nodes know.
    pub(crate) finder: Finder,
    /// The candidates that mDNS found.
    pub(crate) local_network: LocalNetwork,
    /// The relays that this node uses and could use.
    pub(crate) relays: Relays,
    /// The limits of connections and dials.
    pub(crate) limits: ConnectionLimits,
    /// The dials that wait.
    pub(crate) dial_queue: DialQueue,
    /// The subnets in which dials of records by hearsay failed.
    pub(crate) subnet_pauses: SubnetPauses,
    /// When the node trims connections, and whom it trimmed.
    pub(crate) trimmer: Trimmer,
    /// The renewals of connections without gossip.
    pub(crate) gossip_renewals: GossipRenewals,
    /// What the node observed of peers.
    pub(crate) histories: Histories,
    /// The handshakes with connected peers.
    pub(crate) admissions: Admissions,
    /// What the agent recently searched for.
    pub(crate) sought: Sought,
    /// When the node begins to dial peers on its own. `None` until it is ready.
    join_at: Option<Instant>,
}

impl Peers {
    /// Creates the component.
    pub(crate) fn new(limits: ConnectionLimits, admissions: Admissions) -> Self {
        Peers { limits, admissions, ..Peers::default() }
    }

    /// Enters the timers of connections.
    pub(crate) fn timers(
        &self,
        timers: &mut TimerTable,
        local: &Local,
        gate: &Gate,
        directory: &Directory,
        cx: &Cx,
    ) {
        timers.enter("bans", gate.reputations.next_end());
        if let Some(join_at) = self.join_at.filter(|join_at| *join_at > cx.now.mono) {
            timers.enter("join stagger", Some(join_at));
        } else {
            self.source_timers(timers, cx);
        }
        timers.enter("DHT servers", self.dht_servers.next_deadline());
        timers.enter("admission", self.admissions.next_deadline());
        timers.enter("dialer", self.selection_deadline(directory, cx));
        timers.enter("subscriptions of peers", self.subscriptions_deadline());
        timers.enter("gossip renewals", self.gossip_renewals.next_deadline());
        timers.enter("finder", self.find_deadline(cx));
        timers.enter("forwarded questions", self.forwarded_deadline());
        timers.enter("relays", self.relays_deadline(local, cx));
        timers.enter("dial queue", self.dial_queue_deadline());
        timers.enter("trimmer", self.trim_deadline());
        timers.enter("DHT mode", directory.dht_mode_deadline(local, cx));
    }

    /// Enters the timers of the sources.
    fn source_timers(&self, timers: &mut TimerTable, cx: &Cx) {
        timers.enter("bootstrap peers", self.table.next_redial());
        timers.enter("local nodes", self.next_sample(cx));
        timers.enter("regions", self.region_deadline());
        timers.enter("DNS seeds", self.next_seed_query(cx));
        timers.enter("peer book", self.next_book_deadline());
        timers.enter("local network", self.local_network_deadline());
    }

    /// Returns `true` if the node may dial its first peers: a random time after it is ready, so that the
    /// nodes of a fleet that start together do not all dial the same bootstrap peers at once.
    fn may_join(&mut self, cx: &mut Cx) -> bool {
        let stagger = self.limits.join_stagger;
        let join_at = *self.join_at.get_or_insert_with(|| {
            let wait = if stagger.is_zero() { Duration::ZERO } else { cx.jitter.full_jitter(stagger) };
            cx.now.mono + wait
        });
        join_at <= cx.now.mono
    }

    /// Does the work that is due: asks the sources and dials their peers, asks relays, disconnects
    /// useless peers.
    pub(crate) fn handle_timeout(
        &mut self,
        local: &mut Local,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        self.end_bans(gate, cx);
        self.start_queued_dials(cx);
        directory.follow_dht_mode(local, cx);
        if self.may_join(cx) {
            self.poll_sources(directory, cx);
            self.dial_local_network(cx);
        }
        self.reserve_relays(local, cx);
        self.end_overdue_forwarded(directory, cx);
        self.renew_waiting_gossip(cx);
        self.disconnect_unsubscribed_peers(cx);
        self.poll_admissions(local, cx);
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let (offers, reservations, pauses) = self.relays.lens();
        let (lookups, forwarded, forwarding) = self.finder.lookups().lens();
        let (renewed, renewals) = self.gossip_renewals.lens();
        [
            ("peers", self.table.len(), table::MAX_PEERS),
            ("bootstrap peers", self.table.bootstraps_len(), bootstrap::MAX_BOOTSTRAPS),
            ("peers with renewed gossip", renewed, gossip_renewals::MAX_RENEWED),
            ("peers that wait for a renewal", renewals, limits::MAX_CONNECTIONS),
            (
                "peers with awaited subscriptions",
                self.dialer.awaiting_subscriptions(),
                dialer::MAX_AWAITING_SUBSCRIPTIONS,
            ),
            ("peers of DNS seeds", self.seeds.len(), sources::dns_seeds::MAX_SEED_PEERS),
            ("region peers", self.regions.len(), bootstrap::MAX_BOOTSTRAPS),
            ("peer book", self.book.len(), sources::peer_book::MAX_BOOK_PEERS),
            ("peers with a dial pause", self.table.pauses_len(), dialer::MAX_BACKOFFS),
            ("questions for agents", self.finder.questions(), finder::MAX_QUESTIONS),
            ("peers that ask for agents", self.finder.peers_answered(), limits::MAX_CONNECTIONS),
            ("lookups at peers", lookups, MAX_LOOKUPS),
            ("forwarded questions", forwarded, finder::peer_lookups::MAX_FORWARDED),
            ("peers with forwarded questions", forwarding, limits::MAX_CONNECTIONS),
            ("local candidates", self.local_network.len(), local_network::MAX_LOCAL_CANDIDATES),
            ("offered relays", offers, relays::MAX_OFFERS),
            ("relay reservations", reservations, relays::MAX_RELAYS),
            ("relays with a pause", pauses, relays::MAX_RELAY_PAUSES),
            ("servers in the routing table", self.dht_servers.len(), dht_servers::MAX_ROUTED),
            ("subnets with a dial pause", self.subnet_pauses.len(), subnet_pauses::MAX_SUBNET_PAUSES),
            ("dials that wait", self.dial_queue.len(), dial_queue::MAX_QUEUED),
            ("trimmed peers", self.trimmer.len(), trimmer::MAX_TRIMMED),
            ("histories of peers", self.histories.len(), history::MAX_HISTORIES),
            ("recent searches", self.sought.len(), score::MAX_SOUGHT),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .chain(self.admissions.usage())
        .collect()
    }
}

#[cfg(test)]
mod tests;
