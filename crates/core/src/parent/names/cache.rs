//! The addresses of names, as far as the node knows them.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::time::Instant;

use crate::chain::ens_name::EnsName;

/// Largest number of names in the cache: our choice, more than a parent writes to in a day. The one that
/// was used longest ago gives way.
pub(super) const MAX_NAMES: usize = 1024;
/// Time for which an address counts: 10 min, as the entry of a registered agent (ADR 0058).
const FRESH: Duration = Duration::from_secs(600);
/// Time for which a name counts as one without an address: our choice, so that a new name does not wait
/// long.
const FRESH_ABSENCE: Duration = Duration::from_secs(60);
/// Part of that time (four fifths) after which a use of an address begins a new read, so that names in use
/// do not make commands wait: our choice.
const REFRESH_AFTER_FIFTHS: u32 = 4;
/// Time for which the node uses an old address while the servers do not answer: 24 h, as for the registry
/// (ADR 0058).
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Time for which an old address counts after a read that failed, so that not each command waits for
/// servers that do not answer: our choice.
const RETRY: Duration = Duration::from_secs(30);

/// What the node knows of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The name has this address. `is_due` states that it is time for a new read.
    Address { address: Address, is_due: bool },
    /// The servers do not answer, and this was the address when they last did.
    Stale(Address),
    /// The name has no address.
    Absent,
    /// The node has to ask.
    Unknown,
}

/// The last answer about a name.
#[derive(Clone, Copy, Debug)]
struct Entry {
    address: Option<Address>,
    at: Instant,
    /// An old address counts until this time, because a read failed.
    stale_until: Option<Instant>,
}

/// The answers of the servers about names.
#[derive(Debug, Default)]
pub(super) struct Cache(LruMap<EnsName, Entry>);

impl Cache {
    /// Returns what the node knows of a name that a command uses.
    pub(super) fn look_up(&mut self, name: &EnsName, now: Instant) -> Known {
        let Some(entry) = self.0.touch(name) else { return Known::Unknown };
        let age = now.saturating_since(entry.at);
        match entry.address {
            None if age < FRESH_ABSENCE => Known::Absent,
            Some(address) if age < FRESH => {
                Known::Address { address, is_due: age >= FRESH * REFRESH_AFTER_FIFTHS / 5 }
            }
            Some(address) if age < STALE && entry.stale_until.is_some_and(|until| now < until) => {
                Known::Stale(address)
            }
            _ => Known::Unknown,
        }
    }

    /// Takes the answer of the servers.
    pub(super) fn insert(&mut self, name: EnsName, address: Option<Address>, now: Instant) {
        self.0.insert(name, Entry { address, at: now, stale_until: None });
        self.0.shrink_to(MAX_NAMES);
    }

    /// Takes the failure of a read. Returns the last address of the name, if it is not too old.
    pub(super) fn on_failure(&mut self, name: &EnsName, now: Instant) -> Option<Address> {
        let entry = self.0.get_mut(name)?;
        entry.stale_until = Some(now + RETRY);
        entry.address.filter(|_| now.saturating_since(entry.at) < STALE)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Address = Address::repeat_byte(0xa1);

    fn name(text: &str) -> EnsName {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn address_is_read_again_after_ten_minutes_and_an_absence_after_one() {
        let (mut cache, ann, bob) = (Cache::default(), name("ann.eth"), name("bob.eth"));
        assert_eq!(cache.look_up(&ann, at(0)), Known::Unknown);
        cache.insert(ann.clone(), Some(ANN), at(0));
        cache.insert(bob.clone(), None, at(0));
        assert_eq!(cache.look_up(&ann, at(479)), Known::Address { address: ANN, is_due: false });
        assert_eq!(cache.look_up(&ann, at(480)), Known::Address { address: ANN, is_due: true });
        assert_eq!(cache.look_up(&ann, at(600)), Known::Unknown);
        assert_eq!(cache.look_up(&bob, at(59)), Known::Absent);
        assert_eq!(cache.look_up(&bob, at(60)), Known::Unknown);
    }

    #[test]
    fn old_address_counts_for_a_day_while_reads_fail_and_an_old_absence_never() {
        let (mut cache, ann, bob) = (Cache::default(), name("ann.eth"), name("bob.eth"));
        cache.insert(ann.clone(), Some(ANN), at(0));
        cache.insert(bob.clone(), None, at(0));
        assert_eq!(cache.on_failure(&ann, at(700)), Some(ANN));
        assert_eq!(cache.look_up(&ann, at(729)), Known::Stale(ANN));
        assert_eq!(cache.look_up(&ann, at(730)), Known::Unknown, "the node asks again");
        assert_eq!(cache.on_failure(&ann, at(24 * 3600)), None);
        assert_eq!(cache.look_up(&ann, at(24 * 3600)), Known::Unknown);
        assert_eq!(cache.on_failure(&bob, at(700)), None);
        assert_eq!(cache.look_up(&bob, at(701)), Known::Unknown);
        assert_eq!(cache.on_failure(&name("carl.eth"), at(0)), None);
    }

    #[test]
    fn name_that_was_used_longest_ago_gives_way() {
        let mut cache = Cache::default();
        let numbered = |number: usize| name(&format!("a{number}.eth"));
        for number in 0..MAX_NAMES {
            cache.insert(numbered(number), Some(ANN), at(0));
        }
        cache.look_up(&numbered(0), at(1));
        cache.insert(name("new.eth"), Some(ANN), at(1));
        assert_eq!(cache.len(), MAX_NAMES);
        assert_eq!(cache.look_up(&numbered(1), at(1)), Known::Unknown);
        assert_ne!(cache.look_up(&numbered(0), at(1)), Known::Unknown);
    }
}
