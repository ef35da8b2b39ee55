//! Mail as it arrives: each stream is put in order, and nothing is handed on twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alloy::primitives::Address;
use bytes::Bytes;

use crate::core::envelope::{Message, Outcome};

/// Messages of one stream that wait for an earlier one (design §4).
pub const REORDER_MESSAGES: usize = 256;
/// Memory of one stream's messages that wait for an earlier one, in bytes (`reference/reliability.md` §4).
pub const REORDER_BYTES: usize = 1 << 20;
/// Memory of all streams' messages that wait, in bytes. Ours: 32 stalled senders.
pub const HELD_BYTES: usize = 32 << 20;
/// What a message that waits takes beside its texts and payload, in bytes: itself, and its place in the buffer.
const HELD_OVERHEAD: usize = 2 * size_of::<Message>();
/// Streams remembered. Ours: three for each of 5,000 senders, 100 bytes each.
pub const MAX_STREAMS: usize = 16_384;

/// Refusals remembered of each stream, so that an acknowledgement that is repeated says the same. Ours: more than a frame
/// can carry of messages that a parent with the shortest lines cannot take.
pub const MAX_REFUSALS: usize = 128;
/// Refusals remembered of all streams. Ours: 512 senders whose mail is refused as fast as it comes, in less than 8 MiB.
pub const MAX_ALL_REFUSALS: usize = 65_536;

type Key = (Address, [u8; 16]);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It, and what waited for it, may be handed on.
    Delivered,
    /// It was handed on before, or its sender had given it up.
    Duplicate,
    /// It waits for an earlier one.
    Held,
    /// It would have to wait and there is no room; its sender will try again.
    Refused,
}

#[derive(Debug, Default)]
struct Incoming {
    next: u64,
    held: BTreeMap<u64, Message>,
    held_bytes: usize,
    refusals: VecDeque<Outcome>,
    last_used: Duration,
}

/// The receiving end of every stream.
#[derive(Debug, Default)]
pub struct Inbox {
    streams: BTreeMap<Key, Incoming>,
    by_use: BTreeSet<(Duration, Key)>,
    held_bytes: usize,
    /// Streams in the order of their refusals.
    refused: VecDeque<Key>,
}

impl Inbox {
    /// Takes a message of `sender`; pushes to `ready` all that may be handed on now, in order.
    ///
    /// `base_seq` says from where on nothing earlier is still to come: a message is next when everything from there up to
    /// it is void. A sender with nothing earlier on its way says 0, so a stream may be forgotten, or joined late.
    pub fn offer(
        &mut self,
        sender: Address,
        message: Message,
        now: Duration,
        ready: &mut Vec<Message>,
    ) -> Offer {
        let Ok(stream) = <[u8; 16]>::try_from(message.stream.as_ref()) else { return Offer::Refused };
        let key = (sender, stream);
        if !self.streams.contains_key(&key) {
            self.make_room();
        }
        let incoming = self.streams.entry(key).or_default();
        self.by_use.remove(&(incoming.last_used, key));
        incoming.last_used = now;
        self.by_use.insert((now, key));
        if message.seq < incoming.next {
            return Offer::Duplicate;
        }
        if message.base_seq > incoming.next {
            let size = held_size(&message);
            if incoming.held.contains_key(&message.seq) {
                return Offer::Held;
            }
            if incoming.held.len() >= REORDER_MESSAGES
                || incoming.held_bytes + size > REORDER_BYTES
                || self.held_bytes + size > HELD_BYTES
            {
                return Offer::Refused;
            }
            incoming.held_bytes += size;
            self.held_bytes += size;
            incoming.held.insert(message.seq, detached(message));
            return Offer::Held;
        }
        incoming.next = message.seq.saturating_add(1);
        ready.push(message);
        while let Some(first) = incoming.held.first_entry() {
            let (seq, base_seq) = (*first.key(), first.get().base_seq);
            if seq >= incoming.next && base_seq > incoming.next {
                break;
            }
            let held = first.remove();
            let size = held_size(&held);
            incoming.held_bytes -= size;
            self.held_bytes -= size;
            if seq >= incoming.next {
                incoming.next = seq.saturating_add(1);
                ready.push(held);
            }
        }
        Offer::Delivered
    }

    /// The first message of a stream that is not settled.
    pub fn next_seq(&self, sender: &Address, stream: &[u8; 16]) -> u64 {
        self.streams.get(&(*sender, *stream)).map_or(0, |incoming| incoming.next)
    }

    /// Notes that a message was settled by refusing it.
    pub fn refuse(&mut self, sender: &Address, stream: &[u8; 16], outcome: Outcome) {
        let key = (*sender, *stream);
        let Some(incoming) = self.streams.get_mut(&key) else { return };
        incoming.refusals.push_back(outcome);
        if incoming.refusals.len() > MAX_REFUSALS {
            incoming.refusals.pop_front();
        }
        self.refused.push_back(key);
        if self.refused.len() > MAX_ALL_REFUSALS
            && let Some(oldest) = self.refused.pop_front()
            && let Some(incoming) = self.streams.get_mut(&oldest)
            && incoming.refusals.len() > 1
        {
            incoming.refusals.pop_front();
        }
    }

    /// What of a stream was refused lately.
    pub fn refusals(&self, sender: &Address, stream: &[u8; 16]) -> impl Iterator<Item = &Outcome> {
        self.streams.get(&(*sender, *stream)).into_iter().flat_map(|incoming| &incoming.refusals)
    }

    /// Forgets the stream that was used longest ago. Its sender says `base_seq` 0 as soon as all before is settled, and
    /// what was settled is sent again only if our answer to it was lost.
    fn make_room(&mut self) {
        while self.streams.len() >= MAX_STREAMS {
            let Some((_, key)) = self.by_use.pop_first() else { return };
            if let Some(incoming) = self.streams.remove(&key) {
                self.held_bytes -= incoming.held_bytes;
            }
        }
    }

    /// Streams remembered.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Memory of what waits for earlier messages, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// Memory that a message takes while it waits, in bytes.
fn held_size(message: &Message) -> usize {
    let texts = [&message.kind, &message.reply_to, &message.conversation];
    let texts = texts.into_iter().chain(&message.parents).map(|text| size_of::<String>() + text.len());
    HELD_OVERHEAD + texts.sum::<usize>() + message.stream.len() + message.data.len()
}

/// The message in memory of its own: as received it keeps the whole frame in which it came.
fn detached(message: Message) -> Message {
    let own = Bytes::copy_from_slice;
    Message { stream: own(&message.stream), data: own(&message.data), ..message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(stream: u8, seq: u64, base_seq: u64, size: usize) -> Message {
        Message {
            stream: Bytes::from(vec![stream; 16]),
            seq,
            base_seq,
            data: Bytes::from(vec![0; size]),
            ..Message::default()
        }
    }

    fn sender(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    fn offer(inbox: &mut Inbox, message: Message) -> (Offer, Vec<u64>) {
        let mut ready = Vec::new();
        let offer = inbox.offer(sender(1), message, Duration::ZERO, &mut ready);
        (offer, ready.iter().map(|message| message.seq).collect())
    }

    #[test]
    fn messages_come_out_in_order_and_once() {
        let mut inbox = Inbox::default();
        assert_eq!(offer(&mut inbox, message(1, 2, 2, 1)), (Offer::Held, vec![]));
        assert_eq!(offer(&mut inbox, message(1, 3, 3, 1)), (Offer::Held, vec![]));
        assert_eq!(offer(&mut inbox, message(1, 1, 0, 1)), (Offer::Delivered, vec![1, 2, 3]));
        assert_eq!(offer(&mut inbox, message(1, 2, 2, 1)), (Offer::Duplicate, vec![]));
        assert_eq!(inbox.next_seq(&sender(1), &[1; 16]), 4);
        assert_eq!(inbox.held_bytes(), 0);
    }

    #[test]
    fn gaps_that_the_sender_gave_up_are_skipped() {
        let mut inbox = Inbox::default();
        assert_eq!(offer(&mut inbox, message(1, 500, 0, 1)).1, [500], "joined late");
        assert_eq!(offer(&mut inbox, message(1, 510, 505, 1)).0, Offer::Held);
        assert_eq!(offer(&mut inbox, message(1, 510, 501, 1)).1, [510], "501 to 509 are void");
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_bytes() {
        let mut inbox = Inbox::default();
        for seq in 0..REORDER_MESSAGES as u64 {
            assert_eq!(offer(&mut inbox, message(1, 10 + seq, 9, 1)).0, Offer::Held);
        }
        assert_eq!(offer(&mut inbox, message(1, 5000, 9, 1)).0, Offer::Refused);
        let largest = REORDER_BYTES - held_size(&message(2, 10, 9, 0));
        assert_eq!(offer(&mut inbox, message(2, 10, 9, largest)).0, Offer::Held);
        assert_eq!(offer(&mut inbox, message(2, 11, 9, 0)).0, Offer::Refused);
        for stream in 3..=34 {
            offer(&mut inbox, message(stream, 10, 9, largest));
        }
        assert!(inbox.held_bytes() <= HELD_BYTES);
    }

    #[test]
    fn what_waits_counts_with_all_that_it_keeps_in_memory() {
        let mut inbox = Inbox::default();
        let parents = vec!["p".repeat(128); 16];
        let texts = Message { kind: "k".repeat(64), parents, ..message(1, 10, 9, 0) };
        offer(&mut inbox, texts);
        assert!(inbox.held_bytes() > 64 + 16 * 128, "{}", inbox.held_bytes());
        offer(&mut inbox, message(1, 9, 0, 0));
        assert_eq!(inbox.held_bytes(), 0);

        // A byte of a frame must not keep the frame.
        let frame = Bytes::from(vec![7; 1 << 20]);
        let part = Message { stream: frame.slice(..16), data: frame.slice(99..100), ..message(7, 10, 9, 0) };
        offer(&mut inbox, part);
        assert!(frame.try_into_mut().is_ok(), "nothing else refers to it");
    }

    #[test]
    fn streams_are_bounded_and_the_longest_unused_goes() {
        let mut inbox = Inbox::default();
        let mut ready = Vec::new();
        for index in 0..MAX_STREAMS as u64 + 10 {
            let mut message = message(0, 1, 0, 1);
            message.stream = Bytes::from([index.to_be_bytes(), [0; 8]].concat());
            inbox.offer(sender(1), message, Duration::from_secs(index), &mut ready);
        }
        assert_eq!(inbox.len(), MAX_STREAMS);
        let first: [u8; 16] = [0; 16];
        assert_eq!(inbox.next_seq(&sender(1), &first), 0);
    }

    #[test]
    fn refusals_are_remembered_up_to_the_bound() {
        let mut inbox = Inbox::default();
        offer(&mut inbox, message(1, 1, 0, 1));
        for seq in 0..=MAX_REFUSALS as u64 {
            inbox.refuse(&sender(1), &[1; 16], Outcome { seq, code: "X".into() });
        }
        let seqs: Vec<u64> = inbox.refusals(&sender(1), &[1; 16]).map(|outcome| outcome.seq).collect();
        assert_eq!((seqs.len(), seqs[0]), (MAX_REFUSALS, 1));
        assert_eq!(inbox.refusals(&sender(2), &[1; 16]).count(), 0);
    }

    #[test]
    fn refusals_of_all_streams_are_bounded_together() {
        let mut inbox = Inbox::default();
        let name = |number: usize| {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&number.to_be_bytes());
            name
        };
        let streams = 2 * MAX_ALL_REFUSALS / MAX_REFUSALS;
        for number in 0..streams {
            let first = Message { stream: Bytes::copy_from_slice(&name(number)), ..message(0, 1, 0, 1) };
            offer(&mut inbox, first);
            for seq in 0..MAX_REFUSALS as u64 {
                inbox.refuse(&sender(1), &name(number), Outcome { seq, code: "X".into() });
            }
        }
        let remembered = |number| inbox.refusals(&sender(1), &name(number)).count();
        let in_all: usize = (0..streams).map(remembered).sum();
        assert!(in_all <= MAX_ALL_REFUSALS + streams, "{in_all}");
        assert_eq!((remembered(0), remembered(streams - 1)), (1, MAX_REFUSALS));
    }

    proptest! {
        /// A naive sender whose frames are lost, repeated and reordered, and whose mail may expire at any moment, against
        /// the inbox: what comes out ascends, and all that is never given up comes out in the end.
        #[test]
        fn any_network_delivers_in_order_and_once(
            steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..200),
            number in 1u64..40,
        ) {
            let mut inbox = Inbox::default();
            let mut live: Vec<u64> = (1..=number).collect();
            let mut wire: Vec<Message> = Vec::new();
            let mut out: Vec<u64> = Vec::new();
            let with_base = |live: &[u64], index: usize| {
                let base = index.checked_sub(1).map_or(0, |previous| live[previous] + 1);
                message(1, live[index], base, 1)
            };
            let mut gave_up = Vec::new();
            let deliver = |inbox: &mut Inbox, out: &mut Vec<u64>, message: Message| {
                let mut ready = Vec::new();
                inbox.offer(sender(1), message, Duration::ZERO, &mut ready);
                out.extend(ready.iter().map(|message| message.seq));
            };
            for (kind, at) in steps {
                match kind {
                    0 if !live.is_empty() => wire.push(with_base(&live, at.index(live.len()))),
                    1 if !wire.is_empty() => { let message = wire[at.index(wire.len())].clone(); deliver(&mut inbox, &mut out, message); }
                    2 if !wire.is_empty() => { wire.remove(at.index(wire.len())); }
                    3 if !live.is_empty() => gave_up.push(live.remove(at.index(live.len()))),
                    _ => {}
                }
                let next = inbox.next_seq(&sender(1), &[1; 16]);
                live.retain(|seq| *seq >= next);
            }
            while !live.is_empty() {
                deliver(&mut inbox, &mut out, with_base(&live, 0));
                let next = inbox.next_seq(&sender(1), &[1; 16]);
                live.retain(|seq| *seq >= next);
            }
            prop_assert!(out.windows(2).all(|pair| pair[0] < pair[1]), "{out:?}");
            for seq in 1..=number {
                prop_assert!(out.contains(&seq) || gave_up.contains(&seq), "{seq} is lost");
            }
        }
    }
}
