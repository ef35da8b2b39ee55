//! Pauses of subnets: a record by hearsay names any address, so whoever makes many records can let all nodes
//! dial a victim of his choice. After some failed dials in a subnet, further dials of such records to this
//! subnet wait, each time longer.

use std::collections::BTreeMap;
use std::time::Duration;

use multiaddr::Multiaddr;
use p2p_node_wire::time::Instant;

use crate::backoff::{Backoff, BackoffPolicy, Jitter, Spread};
use crate::peers::subnet::Subnet;

/// Largest number of subnets with failed dials: our choice, as many as dials that fail in 200 s at 5 a
/// second.
pub(crate) const MAX_SUBNET_PAUSES: usize = 1024;
/// Number of failures in a row without a pause: our choice. In a small network behind one address some nodes
/// are always gone.
const FREE_FAILURES: u32 = 5;
/// Pauses after that: our choice. A node then dials a subnet in which nobody answers six times an hour.
const PAUSES: BackoffPolicy = BackoffPolicy {
    start: Duration::from_secs(5),
    cap: Duration::from_secs(600),
    spread: Spread::Around,
    counts_during_pause: false,
};

#[derive(Debug, Default)]
struct Failures {
    number: u32,
    backoff: Backoff,
    last: Instant,
}

/// The subnets in which dials of records by hearsay failed. A connection to one of their addresses ends the
/// pause.
#[derive(Debug, Default)]
pub(crate) struct SubnetPauses(BTreeMap<Subnet, Failures>);

impl SubnetPauses {
    /// Returns the number of subnets.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if the node may dial the address of a record by hearsay now.
    pub(crate) fn permits(&self, addr: &Multiaddr, now: Instant) -> bool {
        Subnet::of(addr)
            .and_then(|subnet| self.0.get(&subnet))
            .is_none_or(|failures| failures.backoff.ready(now))
    }

    /// Records a failed dial to these addresses. At the limit, the subnet whose last failure is oldest goes.
    pub(crate) fn failed<'a>(
        &mut self,
        addrs: impl IntoIterator<Item = &'a Multiaddr>,
        now: Instant,
        jitter: &mut Jitter,
    ) {
        for subnet in Subnet::of_all(addrs) {
            if self.0.len() >= MAX_SUBNET_PAUSES
                && !self.0.contains_key(&subnet)
                && let Some(oldest) =
                    self.0.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| *key)
            {
                self.0.remove(&oldest);
            }
            let failures = self.0.entry(subnet).or_default();
            failures.number = failures.number.saturating_add(1);
            failures.last = now;
            if failures.number > FREE_FAILURES {
                failures.backoff.fail_by(&PAUSES, now, Duration::ZERO, jitter);
            }
        }
    }

    /// Records that the node reached an address.
    pub(crate) fn reached(&mut self, addr: &Multiaddr) {
        if let Some(subnet) = Subnet::of(addr) {
            self.0.remove(&subnet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(third: usize, fourth: usize) -> Multiaddr {
        format!("/ip4/10.{}.{}.{fourth}/tcp/1", third / 256, third % 256).parse().expect("an address")
    }

    #[test]
    fn dials_to_a_subnet_in_which_nobody_answers_become_rare() {
        let (mut pauses, mut jitter) = (SubnetPauses::default(), Jitter::new(1));
        let mut dials = 0;
        // Five attempts a second for an hour, each to another host of the subnet.
        for number in 0..5 * 3600 {
            let (now, addr) = (Instant::from_millis(200 * number), addr(0, number as usize % 256));
            if pauses.permits(&addr, now) {
                dials += 1;
                pauses.failed([&addr], now, &mut jitter);
            }
        }
        assert!((10..30).contains(&dials), "{dials}");
    }

    #[test]
    fn other_subnets_relays_and_loopback_have_no_pause_and_a_connection_ends_it() {
        let (mut pauses, mut jitter, now) = (SubnetPauses::default(), Jitter::new(1), Instant::ZERO);
        let peer = libp2p_identity::PeerId::random();
        let relayed = addr(0, 1).with(multiaddr::Protocol::P2p(peer)).with(multiaddr::Protocol::P2pCircuit);
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        for _ in 0..=FREE_FAILURES {
            assert!(pauses.permits(&addr(0, 2), now));
            pauses.failed([&addr(0, 1), &relayed, &local], now, &mut jitter);
        }
        assert!(!pauses.permits(&addr(0, 2), now));
        assert!([&addr(1, 1), &relayed, &local].into_iter().all(|addr| pauses.permits(addr, now)));
        pauses.reached(&addr(0, 9));
        assert!(pauses.permits(&addr(0, 2), now));
    }

    #[test]
    fn subnets_are_bounded_and_the_oldest_failure_is_forgotten() {
        let (mut pauses, mut jitter) = (SubnetPauses::default(), Jitter::new(1));
        for number in 0..=MAX_SUBNET_PAUSES {
            for _ in 0..=FREE_FAILURES {
                pauses.failed([&addr(number, 1)], Instant::from_millis(number as u64), &mut jitter);
            }
        }
        let now = Instant::from_millis(MAX_SUBNET_PAUSES as u64);
        assert_eq!(pauses.len(), MAX_SUBNET_PAUSES);
        assert!(pauses.permits(&addr(0, 1), now) && !pauses.permits(&addr(1, 1), now));
    }
}
