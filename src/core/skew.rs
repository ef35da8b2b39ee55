//! Whether our clock is off: what our neighbours date differs from when it arrives. One clock is one opinion; several that agree are
//! probably right.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use p2p_node_protocol::{ErrorCode, ErrorEvent, MAX_EXACT};

use super::Core;
use super::envelope::Frame;
use super::input::Now;

/// Neighbours that have to agree, and by how much their median has to differ (design §4).
const MIN_PEERS: usize = 5;
const TOLERANCE_MS: i64 = 15_000;
/// Neighbours whose clocks are remembered. Ours: their median is as good as that of more.
pub const MAX_CLOCKS: usize = 64;
/// How often a neighbour's clock is looked at. Ours: nodes speak once a minute at least, and a check of a signature is not free.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a look counts. Ours: five rounds of `node-status`.
const MAX_AGE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    /// How far ahead of ours the clock was, in ms. What a message took on its way makes it look behind.
    ahead_ms: i64,
}

/// The clocks of our neighbours.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    looks: BTreeMap<PeerId, Look>,
    told: bool,
}

impl Clocks {
    /// Whether it is time to look at this neighbour's clock, and there is room to remember it.
    fn wants(&self, peer: &PeerId, now: Duration) -> bool {
        match self.looks.get(peer) {
            Some(look) => now >= look.at + PERIOD,
            None => self.looks.len() < MAX_CLOCKS,
        }
    }

    fn look(&mut self, peer: PeerId, created_ms: u64, now: Now) {
        // The difference is told to the parent, whose reader of JSON may not keep a larger number exact.
        let signed = |ms: u64| ms.min(MAX_EXACT).cast_signed();
        let ahead_ms = signed(created_ms) - signed(now.unix_ms);
        self.looks.insert(peer, Look { at: now.mono, ahead_ms });
        self.looks.retain(|_, look| look.at + MAX_AGE > now.mono);
    }

    /// By how much the neighbours' clocks are ahead of ours, in ms, if enough of them are known.
    fn median(&self) -> Option<i64> {
        let mut ahead: Vec<i64> = self.looks.values().map(|look| look.ahead_ms).collect();
        ahead.sort_unstable();
        (ahead.len() >= MIN_PEERS).then(|| ahead[ahead.len() / 2])
    }

    /// By how much our clock is off, when that is news.
    fn news(&mut self) -> Option<i64> {
        let median = self.median()?;
        let is_off = median.saturating_abs() >= TOLERANCE_MS;
        (is_off && !std::mem::replace(&mut self.told, is_off)).then_some(median)
    }

    /// What was seen by another clock of ours says nothing of this one.
    pub(super) fn clock_jumped(&mut self) {
        self.looks.clear();
        self.told = false;
    }

    /// Clocks that are remembered.
    pub(super) fn len(&self) -> usize {
        self.looks.len()
    }
}

impl Core {
    /// Looks at the clock of a neighbour from whom a frame of its own has come, by whichever time. `verified`: whether its signature has
    /// been checked.
    pub(super) fn compare_clocks(&mut self, from: &PeerId, frame: &Frame, verified: bool, now: Now) {
        let is_own = frame.binding.binding.peer_id == *from && self.peers.contains_key(from);
        if !is_own || !self.clocks.wants(from, now.mono) || !verified && !frame.verify_signature() {
            return;
        }
        self.clocks.look(*from, frame.body.created_at_ms, now);
        let Some(median) = self.clocks.news() else { return };
        let (seconds, which) = (median.unsigned_abs() / 1000, if median > 0 { "behind" } else { "ahead" });
        let message = format!(
            "this machine's clock seems to be {seconds} s {which}: set it, for messages that look older than 2 minutes, or 30 s \
             ahead, are refused on both sides"
        );
        let details = serde_json::json!({ "aheadMs": -median });
        self.complain(ErrorEvent {
            details: Some(details),
            ..ErrorEvent::new(ErrorCode::ClockSkew, message)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Now {
        Now { mono: Duration::from_secs(secs), unix_ms: 1_790_000_000_000 }
    }

    fn look(clocks: &mut Clocks, ahead_ms: i64, secs: u64) -> PeerId {
        let peer = PeerId::random();
        clocks.look(peer, at(0).unix_ms.saturating_add_signed(ahead_ms), at(secs));
        peer
    }

    #[test]
    fn five_neighbours_have_to_agree_and_it_is_told_once() {
        let mut clocks = Clocks::default();
        for ahead in [20_000, -3_600_000, 15_000, 16_000] {
            look(&mut clocks, ahead, 0);
            assert_eq!(clocks.news(), None);
        }
        look(&mut clocks, 0, 0);
        assert_eq!(clocks.news(), Some(15_000), "one that is far off and one that is right do not matter");
        assert_eq!(clocks.news(), None);
        for _ in 0..6 {
            look(&mut clocks, 0, 0);
        }
        assert_eq!(clocks.news(), None);
        clocks.clock_jumped();
        for _ in 0..5 {
            look(&mut clocks, -15_000, 0);
        }
        assert_eq!(clocks.news(), Some(-15_000));
    }

    #[test]
    fn a_time_beyond_all_clocks_is_told_as_a_number_that_stays_exact() {
        let mut clocks = Clocks::default();
        for created_ms in [u64::MAX, u64::MAX, 1 << 63, 1 << 60, 0] {
            clocks.look(PeerId::random(), created_ms, at(0));
        }
        let ahead = clocks.news().unwrap();
        assert!(ahead > 0 && ahead.unsigned_abs() <= MAX_EXACT, "{ahead}");
    }

    #[test]
    fn looks_are_rare_bounded_and_forgotten() {
        let mut clocks = Clocks::default();
        let peer = look(&mut clocks, 20_000, 0);
        assert!(!clocks.wants(&peer, Duration::from_millis(9999)) && clocks.wants(&peer, PERIOD));
        for _ in 1..MAX_CLOCKS {
            look(&mut clocks, 20_000, 1);
        }
        assert_eq!(clocks.len(), MAX_CLOCKS);
        assert!(!clocks.wants(&PeerId::random(), PERIOD) && clocks.wants(&peer, PERIOD));
        look(&mut clocks, 0, 301);
        assert_eq!(clocks.len(), 1);
    }
}
