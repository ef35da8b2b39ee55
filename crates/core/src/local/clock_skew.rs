//! Whether our clock is off: how the clocks of our neighbours differ from it. One clock is one opinion; two that agree, and that most others do
//! not contradict, are probably right.
//!
//! A neighbour's clock is seen in what the neighbour itself says over its own connection or signs with its own key: its hello, its frames, its
//! refusal of a frame of ours, and a record of its own from the future. There is one observation of each peer. Peers are cheap to make up, so nothing but words comes of it:
//! the node never sets its time by others, and believes no frame or record that it would not believe otherwise, but for those of `lag_ms`.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{ErrorCode, ErrorEvent, MAX_EXACT};

use crate::Core;
use crate::input::Now;
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::record::SignedRecord;

/// Neighbours that have to agree. Ours: one may be wrong by itself.
const LEAST_AGREEING: usize = 2;
/// By how much they have to differ from us, in ms. Ours: half of what peers bear, so that it is told before it harms.
const TOLERANCE_MS: i64 = 15_000;
/// Clocks that differ by less agree, in ms. Ours: what synchronised clocks differ by and a message takes on its way, with much to spare.
const AGREEMENT_MS: i64 = 10_000;
/// Peers bear clocks that differ by so much, in ms.
const MAX_SKEW_MS: i64 = (MAX_SKEW_SECS * 1000) as i64;
/// Neighbours whose clocks are remembered. Ours: their median is as good as that of more.
pub const MAX_CLOCKS: usize = 64;
/// How often a neighbour's clock is looked at, by `Now::mono`. Ours: nodes speak once a minute at least, and a check of a signature is not free.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a look counts, by `Now::mono`. Ours: five rounds of `node-status`.
const MAX_AGE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    /// How far ahead of ours the clock was, in ms. What a message took on its way makes it look behind.
    ahead_ms: i64,
}

/// The clocks of our neighbours.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
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

    fn look(&mut self, peer: PeerId, time_ms: u64, now: Now) {
        let ahead_ms = ahead_of_us(time_ms, now);
        self.looks.insert(peer, Look { at: now.mono, ahead_ms });
        self.looks.retain(|_, look| look.at + MAX_AGE > now.mono);
    }

    /// By how much the neighbours' clocks are ahead of ours, in ms: the median, and of an even number the one of the two in the middle that says
    /// less, so that half of them do not outvote the other half.
    fn median(&self) -> Option<i64> {
        let mut ahead: Vec<i64> = self.looks.values().map(|look| look.ahead_ms).collect();
        ahead.sort_unstable();
        let (low, high) = (ahead.get(ahead.len().checked_sub(1)? / 2)?, ahead.get(ahead.len() / 2)?);
        Some(*if low.saturating_abs() <= high.saturating_abs() { low } else { high })
    }

    /// By how much the neighbours' clocks are ahead of ours, in ms, when enough of them agree that it is too much.
    pub(crate) fn off(&self) -> Option<i64> {
        let median = self.median().filter(|median| median.saturating_abs() >= TOLERANCE_MS)?;
        let agrees = |look: &&Look| look.ahead_ms.saturating_sub(median).saturating_abs() <= AGREEMENT_MS;
        (self.looks.values().filter(agrees).count() >= LEAST_AGREEING).then_some(median)
    }

    /// By how much our clock is off, when that is news.
    fn news(&mut self) -> Option<i64> {
        let off = self.off()?;
        (!std::mem::replace(&mut self.told, true)).then_some(off)
    }

    /// How far this peer's clock may lag behind ours, in ms, as far as peers bear it: as it was seen, or as those of our neighbours were.
    fn lag_ms(&self, peer: &PeerId) -> u64 {
        let ahead = self.looks.get(peer).map(|look| look.ahead_ms).or_else(|| self.median());
        ahead.unwrap_or_default().saturating_neg().clamp(0, MAX_SKEW_MS).unsigned_abs()
    }

    /// What was seen by another clock of ours says nothing of this one.
    pub(crate) fn clock_jumped(&mut self) {
        self.looks.clear();
        self.told = false;
    }

    /// Clocks that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.looks.len()
    }
}

/// How far ahead of ours a clock is that shows this time, in ms.
pub(crate) fn ahead_of_us(time_ms: u64, now: Now) -> i64 {
    // The difference is told to the parent, whose reader of JSON may not keep a larger number exact.
    let signed = |ms: u64| ms.min(MAX_EXACT).cast_signed();
    signed(time_ms) - signed(now.unix_ms)
}

/// How far apart two clocks are, for a person; `ahead_ms` is how far ahead of ours the other one is.
pub(crate) fn apart(ahead_ms: i64) -> (u64, &'static str) {
    (ahead_ms.unsigned_abs() / 1000, if ahead_ms > 0 { "behind" } else { "ahead" })
}

impl Core {
    /// When this process started, by the clock of a peer as far as that is known. What the peer made before may be a repetition of what an earlier process
    /// has heard.
    pub(crate) fn start_by(&self, peer: &PeerId) -> u64 {
        self.local.identity.started_ms.saturating_sub(self.local.clock_skew.lag_ms(peer))
    }

    /// Looks at the clock of a neighbour from whom a frame of its own has come, by whichever time. `verified`: whether its signature has
    /// been checked.
    pub(crate) fn compare_clocks(&mut self, from: &PeerId, frame: &Frame, verified: bool, now: Now) {
        let is_own = frame.binding.binding.peer_id == *from;
        if is_own && self.wants_clock(from, now) && (verified || frame.verify_signature()) {
            self.observe_clock(from, frame.body.created_at_ms, now);
        }
    }

    /// A record whose signature is good comes from the future: the clock of its node is ahead of ours by so much at least.
    pub(crate) fn compare_future(&mut self, signed: &SignedRecord, now: Now) {
        let (peer, issued_ms) = (signed.peer_id(), signed.record.issued_at_ms);
        if self.least_ahead(signed, now) == ahead_of_us(issued_ms, now) {
            self.observe_clock(&peer, issued_ms, now);
        }
    }

    /// How far ahead of ours the clock of a record's node is, in ms, as far as is known: the record may be some minutes old.
    pub(crate) fn least_ahead(&self, signed: &SignedRecord, now: Now) -> i64 {
        let seen = self.local.clock_skew.looks.get(&signed.peer_id()).map_or(i64::MIN, |look| look.ahead_ms);
        seen.max(ahead_of_us(signed.record.issued_at_ms, now))
    }

    fn wants_clock(&self, peer: &PeerId, now: Now) -> bool {
        self.peers.connected.contains_key(peer) && self.local.clock_skew.wants(peer, now.mono)
    }

    /// A neighbour says what time it is; 0: it does not.
    pub(crate) fn observe_clock(&mut self, peer: &PeerId, time_ms: u64, now: Now) {
        if time_ms == 0 || !self.wants_clock(peer, now) {
            return;
        }
        self.local.clock_skew.look(*peer, time_ms, now);
        let Some(ahead_ms) = self.local.clock_skew.news() else { return };
        let (seconds, which) = apart(ahead_ms);
        let message = format!(
            "this machine's clock seems to be {seconds} s {which}: set it, for messages that look older than 2 minutes, or 30 s \
             ahead, are refused on both sides"
        );
        let details = serde_json::json!({ "aheadMs": -ahead_ms });
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

    fn off(ahead: &[i64]) -> Option<i64> {
        let mut clocks = Clocks::default();
        ahead.iter().for_each(|ahead_ms| {
            look(&mut clocks, *ahead_ms, 0);
        });
        clocks.off()
    }

    #[test]
    fn two_that_agree_are_enough_and_one_is_not() {
        assert_eq!(off(&[]), None);
        assert_eq!(off(&[60_000]), None);
        assert_eq!(off(&[60_000, 55_000]), Some(55_000));
        assert_eq!(off(&[-60_000, -55_000]), Some(-55_000));
        assert_eq!(off(&[60_000, 49_999]), None, "they do not agree");
        assert_eq!(off(&[60_000, -60_000]), None);
        assert_eq!(off(&[15_000, 15_000]), Some(15_000));
        assert_eq!(off(&[14_999, 15_000]), None);
    }

    #[test]
    fn liars_have_to_be_more_than_all_others() {
        assert_eq!(off(&[60_000, 60_000, 0, 0]), None);
        assert_eq!(off(&[60_000, 60_000, 0, 100, -100]), None);
        assert_eq!(
            off(&[20_000, -3_600_000, 15_000, 16_000, 0]),
            Some(15_000),
            "neither matters that stands alone"
        );
        assert_eq!(off(&[i64::MIN, i64::MAX, 0, 0]), None);
        assert!(
            off(&[i64::MIN, i64::MIN]).is_some() && off(&[i64::MAX, i64::MAX]).is_some_and(|ahead| ahead > 0)
        );
    }

    #[test]
    fn it_is_told_once_for_each_clock_of_ours() {
        let mut clocks = Clocks::default();
        look(&mut clocks, 60_000, 0);
        assert_eq!(clocks.news(), None);
        look(&mut clocks, 60_000, 0);
        assert_eq!(clocks.news(), Some(60_000));
        look(&mut clocks, 60_000, 0);
        assert_eq!(clocks.news(), None);
        clocks.clock_jumped();
        assert_eq!((clocks.len(), clocks.off()), (0, None));
        for _ in 0..2 {
            look(&mut clocks, -15_000, 0);
        }
        assert_eq!(clocks.news(), Some(-15_000));
    }

    #[test]
    fn a_lag_is_that_of_the_peer_else_of_the_neighbours_and_no_more_than_peers_bear() {
        let mut clocks = Clocks::default();
        let stranger = PeerId::random();
        assert_eq!(clocks.lag_ms(&stranger), 0);
        let late = look(&mut clocks, -25_000, 0);
        assert_eq!((clocks.lag_ms(&late), clocks.lag_ms(&stranger)), (25_000, 25_000));
        let early = look(&mut clocks, 25_000, 0);
        look(&mut clocks, -100, 0);
        assert_eq!((clocks.lag_ms(&early), clocks.lag_ms(&stranger)), (0, 100));
        let far = look(&mut clocks, i64::MIN, 0);
        assert_eq!(clocks.lag_ms(&far), 30_000);
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
