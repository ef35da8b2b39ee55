//! The clock skew detector: compares our wall clock with the clocks of connected peers. Our clock
//! is probably wrong if at least two peers agree and the median supports them.
//!
//! The node observes a peer's clock in data that comes over the peer's own connection or has the
//! peer's own signature: its admission, its frames, its refusal of our frame, and its own record from
//! the future. Only the latest observation of each peer counts. An attacker can invent peers, so
//! the detector only causes messages to the parent: the node never sets its clock, and it accepts
//! no data that it would otherwise reject, except for the allowance of `lag_ms` (ADR 0004).

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{ErrorCode, ErrorEvent, MAX_EXACT};
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::input::Now;
use crate::local::Local;

/// Smallest number of peers that must agree: our choice, because a single clock may be wrong
/// itself.
const MIN_AGREEING_PEERS: usize = 2;
/// Smallest difference that the node reports, in ms: half of the tolerated skew, so that it reports
/// the difference before peers reject its data.
const TOLERANCE_MS: i64 = 15_000;
/// Largest difference between clocks that agree, in ms: our choice, far more than synchronised
/// clocks differ and a message needs to arrive.
const AGREEMENT_MS: i64 = 10_000;
/// Largest difference that peers tolerate, in ms.
const MAX_SKEW_MS: i64 = (MAX_SKEW_SECS * 1000) as i64;
/// Largest number of observed peers: our choice. The median of more peers is no better.
pub const MAX_CLOCKS: usize = 64;
/// Interval between two observations of one peer, by `Now::mono`: our choice. Nodes send a status
/// at least once a minute, and an observation may cost a signature check.
const PERIOD: Duration = Duration::from_secs(10);
/// Life of an observation, by `Now::mono`: our choice, five rounds of `node-status`.
const MAX_AGE: Duration = Duration::from_secs(300);

/// An observation of a peer's clock.
#[derive(Clone, Copy, Debug)]
struct ClockSample {
    at: Instant,
    /// Difference of the peer's clock from ours, in ms; positive if it is ahead. The transmission
    /// time delays the peer's statement, so a peer appears slightly behind.
    ahead_ms: i64,
}

/// The observed clocks of connected peers.
#[derive(Debug, Default)]
pub(crate) struct ClockSkewDetector {
    samples: BTreeMap<PeerId, ClockSample>,
    is_reported: bool,
}

impl ClockSkewDetector {
    /// Returns `true` if an observation of this peer is due and the detector has capacity for it.
    fn needs_sample(&self, peer: &PeerId, now: Instant) -> bool {
        match self.samples.get(peer) {
            Some(sample) => now >= sample.at + PERIOD,
            None => self.samples.len() < MAX_CLOCKS,
        }
    }

    /// Inserts an observation and removes expired ones.
    fn insert(&mut self, peer: PeerId, time_ms: u64, now: Now) {
        let ahead_ms = ahead_of_us(time_ms, now);
        self.samples.insert(peer, ClockSample { at: now.mono, ahead_ms });
        self.samples.retain(|_, sample| sample.at + MAX_AGE > now.mono);
    }

    /// Returns the median of the peers' differences from our clock, in ms. Of an even number, it
    /// returns the smaller of the two in the middle, so that one half of the peers does not
    /// overrule the other.
    fn median(&self) -> Option<i64> {
        let mut ahead: Vec<i64> = self.samples.values().map(|sample| sample.ahead_ms).collect();
        ahead.sort_unstable();
        let (low, high) = (ahead.get(ahead.len().checked_sub(1)? / 2)?, ahead.get(ahead.len() / 2)?);
        Some(*if low.saturating_abs() <= high.saturating_abs() { low } else { high })
    }

    /// Returns the difference of the peers' clocks from ours, in ms, if it is too large and enough
    /// peers agree.
    pub(crate) fn skew(&self) -> Option<i64> {
        let median = self.median().filter(|median| median.saturating_abs() >= TOLERANCE_MS)?;
        let agrees =
            |sample: &&ClockSample| sample.ahead_ms.saturating_sub(median).saturating_abs() <= AGREEMENT_MS;
        (self.samples.values().filter(agrees).count() >= MIN_AGREEING_PEERS).then_some(median)
    }

    /// Returns the difference once, for the report to the parent.
    fn take_alarm(&mut self) -> Option<i64> {
        let skew = self.skew()?;
        (!std::mem::replace(&mut self.is_reported, true)).then_some(skew)
    }

    /// Returns the time by which this peer's clock is behind ours, in ms, at most the tolerated
    /// skew: its own observation, or else the median.
    fn lag_ms(&self, peer: &PeerId) -> u64 {
        let ahead = self.samples.get(peer).map(|sample| sample.ahead_ms).or_else(|| self.median());
        ahead.unwrap_or_default().saturating_neg().clamp(0, MAX_SKEW_MS).unsigned_abs()
    }

    /// Drops all observations, because they were made with our clock before its jump.
    pub(crate) fn clock_jumped(&mut self) {
        self.samples.clear();
        self.is_reported = false;
    }

    /// Returns the number of observed clocks.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }
}

/// Returns the difference from our clock of a clock that shows this time, in ms; positive if it is
/// ahead.
pub(crate) fn ahead_of_us(time_ms: u64, now: Now) -> i64 {
    // The parent receives the difference in JSON, where larger numbers may lose precision.
    let signed = |ms: u64| ms.min(MAX_EXACT).cast_signed();
    signed(time_ms) - signed(now.unix_ms)
}

/// Returns the difference in seconds and the direction of our clock, for log messages. `ahead_ms`
/// is the difference of the other clock from ours.
pub(crate) fn describe_skew(ahead_ms: i64) -> (u64, &'static str) {
    (ahead_ms.unsigned_abs() / 1000, if ahead_ms > 0 { "behind" } else { "ahead" })
}

impl Local {
    /// Returns the start time of this process on a peer's clock, as far as the node observed that
    /// clock. A frame with an earlier time may be a replay of a frame that an earlier process
    /// received.
    pub(crate) fn start_by(&self, peer: &PeerId, cx: &Cx) -> u64 {
        cx.identity.started_ms.saturating_sub(self.clock_skew.lag_ms(peer))
    }

    /// Observes the clock of a connected peer from its own frame. `verified` states if the frame's
    /// signature was checked.
    pub(crate) fn compare_clocks(
        &mut self,
        from: &PeerId,
        frame: &Frame,
        verified: bool,
        is_connected: bool,
        cx: &mut Cx,
    ) {
        let is_own = frame.binding.binding.peer_id == *from;
        if is_own && self.needs_clock_sample(from, is_connected, cx) && (verified || frame.is_authentic()) {
            self.observe_clock(from, frame.body.created_at_ms, is_connected, cx);
        }
    }

    /// Observes the clock of a node that issued a valid record in the future. The issue time is a
    /// lower bound of that clock.
    pub(crate) fn compare_future_record(&mut self, signed: &SignedRecord, is_connected: bool, cx: &mut Cx) {
        let now = cx.now;
        let (peer, issued_ms) = (signed.peer_id(), signed.record.issued_at_ms);
        if self.min_clock_lead(signed, cx) == ahead_of_us(issued_ms, now) {
            self.observe_clock(&peer, issued_ms, is_connected, cx);
        }
    }

    /// Returns the least difference by which the clock of a record's node is ahead of ours, in ms.
    /// The record may be some minutes old.
    pub(crate) fn min_clock_lead(&self, signed: &SignedRecord, cx: &Cx) -> i64 {
        let now = cx.now;
        let seen = self.clock_skew.samples.get(&signed.peer_id()).map_or(i64::MIN, |sample| sample.ahead_ms);
        seen.max(ahead_of_us(signed.record.issued_at_ms, now))
    }

    fn needs_clock_sample(&self, peer: &PeerId, is_connected: bool, cx: &Cx) -> bool {
        let now = cx.now;
        is_connected && self.clock_skew.needs_sample(peer, now.mono)
    }

    /// Observes the clock of a peer from a time in its message. 0 means that the message has no
    /// time.
    pub(crate) fn observe_clock(&mut self, peer: &PeerId, time_ms: u64, is_connected: bool, cx: &mut Cx) {
        let now = cx.now;
        if time_ms == 0 || !self.needs_clock_sample(peer, is_connected, cx) {
            return;
        }
        self.clock_skew.insert(*peer, time_ms, now);
        let Some(ahead_ms) = self.clock_skew.take_alarm() else { return };
        let (seconds, which) = describe_skew(ahead_ms);
        let message = format!(
            "the clock of this machine seems to be {seconds} s {which}: correct it, because peers and this node reject messages that look \
             more than 2 minutes old or more than 30 s ahead"
        );
        let details = serde_json::json!({ "aheadMs": -ahead_ms });
        cx.emit_error(ErrorEvent {
            details: Some(details),
            ..ErrorEvent::new(ErrorCode::ClockSkew, message)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Now {
        Now { mono: Instant::from_secs(secs), unix_ms: 1_790_000_000_000 }
    }

    fn sample(clocks: &mut ClockSkewDetector, ahead_ms: i64, secs: u64) -> PeerId {
        let peer = PeerId::random();
        clocks.insert(peer, at(0).unix_ms.saturating_add_signed(ahead_ms), at(secs));
        peer
    }

    fn skew_of(ahead: &[i64]) -> Option<i64> {
        let mut clocks = ClockSkewDetector::default();
        ahead.iter().for_each(|ahead_ms| {
            sample(&mut clocks, *ahead_ms, 0);
        });
        clocks.skew()
    }

    #[test]
    fn clock_skew_needs_two_agreeing_peers() {
        assert_eq!(skew_of(&[]), None);
        assert_eq!(skew_of(&[60_000]), None);
        assert_eq!(skew_of(&[60_000, 55_000]), Some(55_000));
        assert_eq!(skew_of(&[-60_000, -55_000]), Some(-55_000));
        assert_eq!(skew_of(&[60_000, 49_999]), None, "the two clocks do not agree");
        assert_eq!(skew_of(&[60_000, -60_000]), None);
        assert_eq!(skew_of(&[15_000, 15_000]), Some(15_000));
        assert_eq!(skew_of(&[14_999, 15_000]), None);
    }

    #[test]
    fn minority_of_wrong_clocks_causes_no_alarm() {
        assert_eq!(skew_of(&[60_000, 60_000, 0, 0]), None);
        assert_eq!(skew_of(&[60_000, 60_000, 0, 100, -100]), None);
        assert_eq!(
            skew_of(&[20_000, -3_600_000, 15_000, 16_000, 0]),
            Some(15_000),
            "a single outlier does not count"
        );
        assert_eq!(skew_of(&[i64::MIN, i64::MAX, 0, 0]), None);
        assert!(
            skew_of(&[i64::MIN, i64::MIN]).is_some()
                && skew_of(&[i64::MAX, i64::MAX]).is_some_and(|ahead| ahead > 0)
        );
    }

    #[test]
    fn clock_skew_alarm_is_taken_once_until_clock_jump() {
        let mut clocks = ClockSkewDetector::default();
        sample(&mut clocks, 60_000, 0);
        assert_eq!(clocks.take_alarm(), None);
        sample(&mut clocks, 60_000, 0);
        assert_eq!(clocks.take_alarm(), Some(60_000));
        sample(&mut clocks, 60_000, 0);
        assert_eq!(clocks.take_alarm(), None);
        clocks.clock_jumped();
        assert_eq!((clocks.len(), clocks.skew()), (0, None));
        for _ in 0..2 {
            sample(&mut clocks, -15_000, 0);
        }
        assert_eq!(clocks.take_alarm(), Some(-15_000));
    }

    #[test]
    fn lag_is_sample_of_peer_or_median_and_is_limited() {
        let mut clocks = ClockSkewDetector::default();
        let stranger = PeerId::random();
        assert_eq!(clocks.lag_ms(&stranger), 0);
        let late = sample(&mut clocks, -25_000, 0);
        assert_eq!((clocks.lag_ms(&late), clocks.lag_ms(&stranger)), (25_000, 25_000));
        let early = sample(&mut clocks, 25_000, 0);
        sample(&mut clocks, -100, 0);
        assert_eq!((clocks.lag_ms(&early), clocks.lag_ms(&stranger)), (0, 100));
        let far = sample(&mut clocks, i64::MIN, 0);
        assert_eq!(clocks.lag_ms(&far), 30_000);
    }

    #[test]
    fn extreme_peer_clock_gives_exact_json_number() {
        let mut clocks = ClockSkewDetector::default();
        for created_ms in [u64::MAX, u64::MAX, 1 << 63, 1 << 60, 0] {
            clocks.insert(PeerId::random(), created_ms, at(0));
        }
        let ahead = clocks.take_alarm().unwrap();
        assert!(ahead > 0 && ahead.unsigned_abs() <= MAX_EXACT, "{ahead}");
    }

    #[test]
    fn clock_samples_are_rate_limited_counted_and_expire() {
        let mut clocks = ClockSkewDetector::default();
        let peer = sample(&mut clocks, 20_000, 0);
        assert!(
            !clocks.needs_sample(&peer, Instant::from_millis(9999))
                && clocks.needs_sample(&peer, Instant::after_start(PERIOD))
        );
        for _ in 1..MAX_CLOCKS {
            sample(&mut clocks, 20_000, 1);
        }
        assert_eq!(clocks.len(), MAX_CLOCKS);
        assert!(
            !clocks.needs_sample(&PeerId::random(), Instant::after_start(PERIOD))
                && clocks.needs_sample(&peer, Instant::after_start(PERIOD))
        );
        sample(&mut clocks, 0, 301);
        assert_eq!(clocks.len(), 1);
    }
}
