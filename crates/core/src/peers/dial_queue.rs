//! The dial queue: every dial of the node passes here, so that the node never dials too many peers at
//! the same time or in a second. A dial that must wait is queued. Dials for mail come first.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Counter;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::peers::Peers;
use crate::peers::bootstrap::MAX_BOOTSTRAPS;
use crate::peers::candidate::{Candidate, CandidateSource};
use crate::peers::limits::ConnectionLimits;

/// Largest number of dials of each kind that wait: our choice for mail, three times the 300 recipients
/// of a large broadcast by mail; each bootstrap peer once; and what the sources yield at once several
/// times.
const MAX_WAITING: [usize; 3] = [1024, MAX_BOOTSTRAPS, 256];
/// Largest number of dials that wait.
pub(crate) const MAX_QUEUED: usize = MAX_WAITING[0] + MAX_WAITING[1] + MAX_WAITING[2];
/// How many times as many dials may run at the same time if they are for mail: our choice. Dials of
/// the sources then never hold up mail, and the swarm has room for all.
const MAIL_SHARE: usize = 2;

/// The kinds of dials, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DialKind {
    /// Messages to the agent of this node wait.
    Mail,
    /// A bootstrap peer.
    Bootstrap,
    /// More connections.
    Peers,
}

/// A dial that waits.
#[derive(Clone, Debug)]
enum Waiting {
    Peer(Candidate),
    /// An address of a DNS seed whose PeerId is not known.
    Addr(Multiaddr),
}

/// The dials that wait, and the rate of those that do not.
#[derive(Debug, Default)]
pub(crate) struct DialQueue {
    /// By kind.
    waiting: [VecDeque<Waiting>; 3],
    /// When the dials of the recent past have used up their share of the time: the theoretical arrival
    /// time of the generic cell rate algorithm.
    paid_until: Instant,
}

impl DialQueue {
    /// Returns the number of dials that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Returns the time at which the rate permits a dial. As many as may run at the same time may begin
    /// at once.
    fn rate_permits_at(&self, limits: &ConnectionLimits) -> Instant {
        let burst = u32::try_from(limits.concurrent_dials).unwrap_or(u32::MAX);
        self.paid_until.saturating_sub(interval(limits) * burst.saturating_sub(1))
    }

    fn pay(&mut self, limits: &ConnectionLimits, now: Instant) {
        self.paid_until = self.paid_until.max(now) + interval(limits);
    }

    fn add(&mut self, kind: DialKind, dial: Waiting) -> bool {
        let queue = &mut self.waiting[kind as usize];
        let has_room = queue.len() < MAX_WAITING[kind as usize];
        if has_room {
            queue.push_back(dial);
        }
        has_room
    }

    /// Removes the dials that wait for a peer.
    fn remove(&mut self, peer: &PeerId) {
        for queue in &mut self.waiting {
            queue.retain(|dial| !matches!(dial, Waiting::Peer(candidate) if candidate.peer == *peer));
        }
    }
}

fn interval(limits: &ConnectionLimits) -> Duration {
    Duration::from_secs(1) / limits.dials_per_second.max(1)
}

impl Peers {
    /// Dials a candidate, unless the node is connected to the peer or is dialling it. The dial waits if
    /// there are too many.
    pub(crate) fn dial(&mut self, candidate: Candidate, cx: &mut Cx) {
        let kind = match candidate.source {
            CandidateSource::Bootstrap => DialKind::Bootstrap,
            _ => DialKind::Peers,
        };
        self.dial_as(kind, candidate, cx);
    }

    /// Dials the node of an agent to which messages wait. Such a dial comes before others, and only the
    /// number of dials at the same time limits it: the agent asked for each.
    pub(crate) fn dial_for_mail(&mut self, candidate: Candidate, cx: &mut Cx) {
        self.trimmer.forget(&candidate.peer);
        // A dial that waits for another reason becomes urgent.
        if self.table.queued_kind(&candidate.peer).is_some_and(|kind| kind != DialKind::Mail) {
            self.dial_queue.remove(&candidate.peer);
            self.table.unqueue(candidate.peer);
        }
        self.dial_as(DialKind::Mail, candidate, cx);
    }

    /// Dials a candidate. No address outside of the address scope, and no blocked one, leaves the core,
    /// whoever named it.
    fn dial_as(&mut self, kind: DialKind, mut candidate: Candidate, cx: &mut Cx) {
        candidate.addrs.retain(|addr| cx.identity.may_dial(addr));
        if !self.table.is_down(&candidate.peer) {
            return;
        }
        if self.may_dial(kind, cx.now.mono)
            && self.dial_queue.waiting[..=kind as usize].iter().all(VecDeque::is_empty)
        {
            self.start_dial(kind, candidate, cx);
        } else {
            let peer = candidate.peer;
            if self.dial_queue.add(kind, Waiting::Peer(candidate)) {
                self.table.queue_dial(peer, kind);
                cx.stats.count(Counter::DialsQueued);
            } else {
                cx.stats.count(Counter::DialsDropped);
            }
        }
    }

    /// Dials an address of an unknown peer. The dial waits if there are too many.
    pub(crate) fn dial_addr(&mut self, addr: Multiaddr, cx: &mut Cx) {
        if !cx.identity.may_dial(&addr) {
            return;
        }
        if self.may_dial(DialKind::Peers, cx.now.mono) && self.dial_queue.len() == 0 {
            self.dial_queue.pay(&self.limits, cx.now.mono);
            cx.network(NetworkCommand::DialAddr { addr });
        } else if self.dial_queue.add(DialKind::Peers, Waiting::Addr(addr)) {
            cx.stats.count(Counter::DialsQueued);
        } else {
            cx.stats.count(Counter::DialsDropped);
        }
    }

    /// Returns `true` if a dial of this kind may begin now.
    fn may_dial(&self, kind: DialKind, now: Instant) -> bool {
        let running = self.table.dialing_len();
        match kind {
            DialKind::Mail => running < MAIL_SHARE * self.limits.concurrent_dials,
            DialKind::Bootstrap | DialKind::Peers => {
                running < self.limits.concurrent_dials && self.dial_queue.rate_permits_at(&self.limits) <= now
            }
        }
    }

    fn start_dial(&mut self, kind: DialKind, candidate: Candidate, cx: &mut Cx) {
        let Candidate { peer, addrs, .. } = candidate;
        if !self.table.start_dial(peer) {
            return;
        }
        if kind != DialKind::Mail {
            self.dial_queue.pay(&self.limits, cx.now.mono);
        }
        cx.stats.count(Counter::Dials);
        cx.network(NetworkCommand::Dial { peer, addrs });
    }

    /// Begins the dials that wait, as far as the limits permit.
    pub(crate) fn start_queued_dials(&mut self, cx: &mut Cx) {
        for kind in [DialKind::Mail, DialKind::Bootstrap, DialKind::Peers] {
            while self.may_dial(kind, cx.now.mono)
                && let Some(dial) = self.dial_queue.waiting[kind as usize].pop_front()
            {
                match dial {
                    // Meanwhile the peer may have connected, or its dial may have become urgent.
                    Waiting::Peer(candidate) if self.table.queued_kind(&candidate.peer) == Some(kind) => {
                        self.start_dial(kind, candidate, cx);
                    }
                    Waiting::Peer(_) => {}
                    Waiting::Addr(addr) => {
                        self.dial_queue.pay(&self.limits, cx.now.mono);
                        cx.network(NetworkCommand::DialAddr { addr });
                    }
                }
            }
        }
    }

    /// Removes a peer from the queue.
    pub(crate) fn forget_queued_dial(&mut self, peer: &PeerId) {
        if self.dial_queue.len() > 0 {
            self.dial_queue.remove(peer);
        }
    }

    /// Returns the time at which a dial that waits may begin. The end of another dial may be sooner.
    pub(crate) fn dial_queue_deadline(&self) -> Option<Instant> {
        let has_others = !self.dial_queue.waiting[1].is_empty() || !self.dial_queue.waiting[2].is_empty();
        let has_slot = self.table.dialing_len() < self.limits.concurrent_dials;
        (has_others && has_slot).then(|| self.dial_queue.rate_permits_at(&self.limits))
    }
}

#[cfg(test)]
mod tests;
