//! Digests of the numbers of a received stream.
//!
//! They tell a repeated message from another message under a number that was used before: the
//! sender's process was copied while it ran, or was set back to an earlier state.

use std::collections::VecDeque;

use p2p_node_wire::envelope::Message;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Number of digests per stream. Our choice: more than a sender has in flight in repeated frames,
/// and 1 KiB for each stream. For older numbers the time of acceptance decides.
pub const REMEMBERED: usize = 64;

/// A digest of the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentDigest(pub u64);

/// Returns the digest of the content of a message, which is the same in every attempt. The node
/// compares only messages of one sender, who gains nothing by two messages with one digest, so a fast
/// hash is enough.
pub fn digest(message: &Message) -> ContentDigest {
    let mut hash = 0;
    // The hash of a field is the seed of the next one, and depends on the length of the field.
    let mut field = |bytes: &[u8]| hash = xxh3_64_with_seed(bytes, hash);
    field(message.kind.as_bytes());
    field(&[message.priority as u8]);
    field(&message.sent_at_ms.to_be_bytes());
    field(message.reply_to.as_bytes());
    field(message.conversation.as_bytes());
    field(&[message.encoding as u8]);
    field(&message.data);
    message.parents.iter().for_each(|parent| field(parent.as_bytes()));
    message.call.iter().for_each(|call| field(&call.encode_to_vec()));
    message.file.iter().for_each(|file| field(&file.encode_to_vec()));
    ContentDigest(hash)
}

/// The latest accepted numbers of a stream, with their digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// Sorted. A number has several digests if another message, sent under another number, was
    /// originally accepted under this one.
    latest: VecDeque<(u64, ContentDigest)>,
    /// `latest` does not contain numbers up to this one any more.
    forgotten: u64,
    /// The latest time at which the sender accepted one of the messages, by the sender's clock, in
    /// ms since 1970.
    sent_at_ms: u64,
}

impl Digests {
    /// Restores stored digests. Returns `None` if this code cannot have written them.
    pub fn restored(latest: Vec<(u64, ContentDigest)>, forgotten: u64, sent_at_ms: u64) -> Option<Self> {
        let grows = latest.is_sorted_by(|one, other| one < other);
        let is_later = latest.first().is_none_or(|first| first.0 > forgotten || forgotten == 0);
        let fits = latest.len() <= REMEMBERED && grows && is_later;
        fits.then(|| Digests { latest: latest.into(), forgotten, sent_at_ms })
    }

    /// Returns the numbers and their digests, sorted.
    pub fn latest(&self) -> impl ExactSizeIterator<Item = (u64, ContentDigest)> {
        self.latest.iter().copied()
    }

    /// Returns the number up to which the digests are dropped.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns the latest time at which the sender accepted a message, in ms since 1970.
    pub fn sent_at_ms(&self) -> u64 {
        self.sent_at_ms
    }

    /// Returns the number of digests.
    pub fn len(&self) -> usize {
        self.latest.len()
    }

    /// Returns `true` if there is no digest.
    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Returns `true` if this number or a later one was accepted.
    pub fn cover(&self, seq: u64) -> bool {
        self.latest.back().is_some_and(|last| last.0 >= seq)
    }

    /// Returns `true` if the number is so old that its digest is dropped.
    fn is_forgotten(&self, seq: u64) -> bool {
        self.forgotten > 0 && seq <= self.forgotten
    }

    /// Returns `true` if the number of a message stands for another one. All numbers below `next`
    /// were accepted or skipped.
    pub fn contradict(&self, message: &Message, next: u64) -> bool {
        // Most messages are new.
        if message.seq >= next && !self.cover(message.seq) {
            return false;
        }
        if self.is_known(message.seq) {
            return self.latest.binary_search(&(message.seq, digest(message))).is_err();
        }
        match self.is_forgotten(message.seq) {
            // The sender accepted a repeated message no later than the latest one that arrived.
            true => message.sent_at_ms > self.sent_at_ms,
            // The number was skipped, so its message never arrived.
            false => message.seq < next,
        }
    }

    fn is_known(&self, seq: u64) -> bool {
        self.latest.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok()
    }

    /// Removes the digests of the numbers in a range that `is_void`: the parent never acked them.
    pub fn pass_over(&mut self, range: std::ops::Range<u64>, is_void: impl Fn(u64) -> bool) {
        if !range.is_empty() && self.cover(range.start) {
            self.latest.retain(|(seq, _)| !range.contains(seq) || !is_void(*seq));
        }
    }

    /// Records an accepted message, new or repeated.
    pub fn insert(&mut self, message: &Message) {
        if self.is_forgotten(message.seq) {
            return;
        }
        self.sent_at_ms = self.sent_at_ms.max(message.sent_at_ms);
        self.remember(message.seq, digest(message));
    }

    /// Records that the message with this number arrived under another number, so it need not
    /// arrive again. Returns `true` if this is new.
    pub fn insert_renamed(&mut self, seq: u64, digest: ContentDigest) -> bool {
        !self.is_forgotten(seq) && self.remember(seq, digest)
    }

    fn remember(&mut self, seq: u64, digest: ContentDigest) -> bool {
        let Err(at) = self.latest.binary_search(&(seq, digest)) else { return false };
        self.latest.insert(at, (seq, digest));
        if self.latest.len() > REMEMBERED
            && let Some((seq, _)) = self.latest.pop_front()
        {
            self.forgotten = seq;
            while self.latest.front().is_some_and(|(other, _)| *other <= seq) {
                self.latest.pop_front();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(seq: u64, sent_at_ms: u64, data: &'static str) -> Message {
        Message { seq, sent_at_ms, data: Bytes::from_static(data.as_bytes()), ..Message::default() }
    }

    #[test]
    fn digest_covers_exactly_the_fields_that_attempts_share() {
        let one = message(1, 5, "a");
        assert_eq!(digest(&Message { seq: 2, base_seq: 2, ttl_left_ms: 9, ..one.clone() }), digest(&one));
        let others = [
            Message { kind: "a".to_owned(), ..one.clone() },
            Message { priority: 1, ..one.clone() },
            Message { sent_at_ms: 6, ..one.clone() },
            Message { reply_to: "a".to_owned(), ..one.clone() },
            Message { conversation: "a".to_owned(), ..one.clone() },
            Message { encoding: 1, ..one.clone() },
            Message { data: Bytes::from_static(b"b"), ..one.clone() },
            Message { parents: vec![String::new()], ..one.clone() },
        ];
        let mut digests: Vec<_> = others.iter().chain([&one]).map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), others.len() + 1);
        assert_eq!(digest(&one), ContentDigest(0x009f_bb08_c401_9c22), "stores contain this digest");
    }

    #[test]
    fn repeated_message_is_a_duplicate_and_other_content_is_a_conflict() {
        let mut digests = Digests::default();
        for seq in [1, 2, 5] {
            digests.insert(&message(seq, seq, "a"));
        }
        assert!(!digests.contradict(&message(2, 2, "a"), 6));
        assert!(digests.contradict(&message(2, 2, "b"), 6));
        assert!(digests.contradict(&message(4, 4, "a"), 6), "4 was skipped");
        assert!(!digests.contradict(&message(6, 1, "b"), 6), "6 is new");
        // A restarted process waits for the messages that its parent did not ack.
        assert!(!digests.contradict(&message(2, 2, "a"), 2) && digests.contradict(&message(2, 2, "b"), 2));
        assert!(!digests.contradict(&message(4, 4, "b"), 2), "4 was never delivered");
    }

    #[test]
    fn renumbered_message_is_acked_under_both_numbers() {
        let mut digests = Digests::default();
        for seq in [1, 3] {
            digests.insert(&message(seq, seq, "a"));
        }
        let (passed_over, reused) = (message(2, 2, "b"), message(3, 3, "b"));
        assert!(digests.contradict(&passed_over, 4) && digests.contradict(&reused, 4));
        for renamed in [&passed_over, &reused] {
            assert!(digests.insert_renamed(renamed.seq, digest(renamed)));
            assert!(!digests.insert_renamed(renamed.seq, digest(renamed)), "the digest is known");
            assert!(!digests.contradict(renamed, 4));
        }
        assert!(!digests.contradict(&message(3, 3, "a"), 4) && digests.contradict(&message(3, 3, "c"), 4));
        let latest: Vec<_> = digests.latest().collect();
        assert_eq!(Digests::restored(latest, 0, 3), Some(digests));
    }

    #[test]
    fn digest_of_a_contradicted_number_is_forgotten() {
        let mut digests = Digests::default();
        digests.insert(&message(1, 1, "a"));
        digests.insert_renamed(1, digest(&message(1, 1, "b")));
        for seq in 2..=REMEMBERED as u64 {
            digests.insert(&message(seq, seq, "a"));
        }
        assert_eq!((digests.len(), digests.forgotten()), (REMEMBERED - 1, 1));
        assert!(!digests.insert_renamed(1, ContentDigest(5)), "1 is too old");
    }

    #[test]
    fn skipped_range_is_never_reported_as_acked() {
        let mut digests = Digests::default();
        for seq in 1..=4 {
            digests.insert(&message(seq, seq, "a"));
        }
        digests.pass_over(2..4, |seq| seq != 3);
        assert!(digests.contradict(&message(2, 2, "a"), 5));
        assert!([1, 3, 4].iter().all(|seq| !digests.contradict(&message(*seq, *seq, "a"), 5)));
    }

    #[test]
    fn redelivery_after_a_restart_changes_nothing() {
        let mut digests = Digests::default();
        let count = REMEMBERED as u64 + 10;
        for seq in 1..=count {
            digests.insert(&message(seq, 1000 + seq, "a"));
        }
        let before = digests.clone();
        for seq in 3..=count {
            assert!(!digests.contradict(&message(seq, 1000 + seq, "a"), seq), "{seq}");
            digests.insert(&message(seq, 1000 + seq, "a"));
        }
        assert_eq!(digests, before);
        assert!(digests.contradict(&message(4, 2000 + count, "b"), 3), "4 was delivered with other content");
    }

    #[test]
    fn digests_are_bounded_and_older_numbers_are_compared_by_time() {
        let mut digests = Digests::default();
        let count = REMEMBERED as u64 + 10;
        for seq in 1..=count {
            digests.insert(&message(seq, 1000 + seq, "a"));
        }
        assert_eq!((digests.len(), digests.forgotten()), (REMEMBERED, 10));
        assert!(!digests.contradict(&message(5, 1005, "a"), count + 1));
        assert!(digests.contradict(&message(5, 1001 + count, "b"), count + 1), "accepted later");
        let latest: Vec<_> = digests.latest().collect();
        assert_eq!(Digests::restored(latest.clone(), 10, 1000 + count), Some(digests));
        assert_eq!(Digests::restored(latest.iter().rev().copied().collect(), 10, 0), None);
        assert_eq!(Digests::restored(latest, 11, 0), None);
        assert_eq!(Digests::restored((1..=count).map(|seq| (seq, ContentDigest(1))).collect(), 0, 0), None);
    }
}
