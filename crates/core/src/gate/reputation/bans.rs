//! The bans. While a ban lasts, the reputation of its party rises evenly from what it was to the
//! threshold. So a ban ends when the reputation has recovered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_node_wire::time::Instant;

use super::conduct::Conduct;
use super::{Party, THRESHOLD};
use crate::gate::host::Host;
use crate::input::Now;

/// Time of the first ban of a party; each further one takes twice as long. Our choice: long enough
/// that an attacker who waits for the end gets nowhere, short enough for one who repairs a node.
const FIRST_BAN: Duration = Duration::from_secs(3600);
/// Longest time of a ban, as in Lighthouse (`BANNED_BEFORE_DECAY`).
const LONGEST_BAN: Duration = Duration::from_secs(12 * 3600);
/// Largest number of bans. Our choice, as many as access rules. At the limit the ban ends that would
/// end first.
pub const MAX_BANS: usize = 4096;

/// The ban of a party.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ban {
    since: Instant,
    pub(crate) until: Instant,
    /// The reputation at the beginning.
    initial: f64,
    /// The last fault.
    pub(crate) reason: Conduct,
    /// Number of bans in a row.
    pub(crate) number: u32,
    /// The host of a node.
    host: Option<Host>,
}

/// A ban, as the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistedBan {
    /// End of the ban, in ms since 1970.
    pub until_ms: u64,
    /// The last fault.
    pub reason: Conduct,
    /// Number of bans in a row.
    pub number: u32,
    /// The host of a node.
    pub host: Option<Host>,
}

impl Ban {
    pub(super) fn new(initial: f64, reason: Conduct, earlier: u32, host: Option<Host>, now: Instant) -> Self {
        let length = FIRST_BAN.saturating_mul(2_u32.saturating_pow(earlier)).min(LONGEST_BAN);
        Ban { since: now, until: now + length, initial, reason, number: earlier.saturating_add(1), host }
    }

    /// Returns the reputation of the party.
    pub(crate) fn score(&self, now: Instant) -> f64 {
        let length = self.until.saturating_since(self.since).as_secs_f64().max(1.0);
        let passed = now.saturating_since(self.since).as_secs_f64() / length;
        self.initial + (THRESHOLD - self.initial) * passed.min(1.0)
    }

    /// Returns the time of the end, in ms since 1970.
    pub(crate) fn until_ms(&self, now: Now) -> u64 {
        now.unix_ms.saturating_add(self.until.saturating_since(now.mono).as_millis() as u64)
    }

    /// Returns the form for the store.
    pub(crate) fn persisted(&self, now: Now) -> PersistedBan {
        PersistedBan {
            until_ms: self.until_ms(now),
            reason: self.reason,
            number: self.number,
            host: self.host,
        }
    }
}

/// The bans, by party and by their ends.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_party: BTreeMap<Party, Ban>,
    ends: BTreeSet<(Instant, Party)>,
}

impl Bans {
    /// Restores the bans that have not ended. One that would last longer than the longest comes from a
    /// clock that was wrong, and is shortened.
    pub(super) fn restore(persisted: &[(Party, PersistedBan)], now: Now) -> Self {
        let mut bans = Bans::default();
        for (party, ban) in persisted {
            let left = Duration::from_millis(ban.until_ms.saturating_sub(now.unix_ms)).min(LONGEST_BAN);
            // An ended one is kept until its end is reported, which also removes it from the store.
            let until = now.mono + left;
            let PersistedBan { reason, number, host, .. } = *ban;
            bans.insert(*party, Ban { since: now.mono, until, initial: 0.0, reason, number, host });
        }
        bans
    }

    /// Adds a ban. Returns the party whose ban ends for it.
    pub(super) fn insert(&mut self, party: Party, ban: Ban) -> Option<Party> {
        self.remove(&party);
        let first = self.ends.first().map(|(_, party)| *party);
        let evicted = first.filter(|_| self.by_party.len() >= MAX_BANS);
        if let Some(evicted) = evicted {
            self.remove(&evicted);
        }
        self.ends.insert((ban.until, party));
        self.by_party.insert(party, ban);
        evicted
    }

    pub(super) fn remove(&mut self, party: &Party) -> Option<Ban> {
        let ban = self.by_party.remove(party)?;
        self.ends.remove(&(ban.until, *party));
        Some(ban)
    }

    /// Removes a ban that is over.
    pub(super) fn pop_ended(&mut self, now: Instant) -> Option<(Party, Ban)> {
        let (_, party) = self.ends.first().filter(|(until, _)| *until <= now).copied()?;
        self.remove(&party).map(|ban| (party, ban))
    }

    pub(super) fn get(&self, party: &Party) -> Option<&Ban> {
        self.by_party.get(party)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Party, &Ban)> {
        self.by_party.iter()
    }

    pub(super) fn nodes_of(&self, host: Host) -> usize {
        self.by_party.values().filter(|ban| ban.host == Some(host)).count()
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(until, _)| *until)
    }

    pub(super) fn len(&self) -> usize {
        self.by_party.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_party.is_empty()
    }
}
