use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_wire::envelope::{Call, Rejection};
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;
use proptest::prelude::*;

use crate::mail::inbound::inbox::inbox_limits::{
    MAX_ALL_REFUSALS, MAX_REFUSALS, REORDER_MESSAGES, SENDER_REORDER_BYTES,
};
use crate::mail::inbound::inbox::reorder_buffer::buffered_size;
use crate::mail::inbound::inbox::*;

mod stream_limits;

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

/// Returns the sender of a stream: one sender for each 32 streams, which is less than its share.
fn stranger(number: u64) -> Address {
    Address::left_padding_from(&(number / 32).to_be_bytes())
}

fn insert(inbox: &mut Inbox, message: Message) -> (InsertOutcome, Vec<u64>) {
    let mut ready = Vec::new();
    let insert = inbox.insert(sender(1), message, Instant::ZERO, &mut ready);
    (insert, ready.iter().map(|message| message.seq).collect())
}

#[test]
fn messages_are_delivered_once_in_order() {
    let mut inbox = Inbox::default();
    assert_eq!(insert(&mut inbox, message(1, 2, 2, 1)), (InsertOutcome::Buffered, vec![]));
    assert_eq!(insert(&mut inbox, message(1, 3, 3, 1)), (InsertOutcome::Buffered, vec![]));
    assert_eq!(insert(&mut inbox, message(1, 1, 0, 1)), (InsertOutcome::Ready, vec![1, 2, 3]));
    assert_eq!(insert(&mut inbox, message(1, 2, 2, 1)), (InsertOutcome::Duplicate, vec![]));
    assert_eq!(inbox.next_seq(&sender(1), &StreamId([1; 16])), 4);
    assert_eq!(inbox.buffered_bytes(), 0);
}

#[test]
fn gaps_that_the_sender_abandoned_are_skipped() {
    let mut inbox = Inbox::default();
    assert_eq!(insert(&mut inbox, message(1, 500, 0, 1)).1, [500], "joined late");
    assert_eq!(insert(&mut inbox, message(1, 510, 505, 1)).0, InsertOutcome::Buffered);
    assert_eq!(insert(&mut inbox, message(1, 510, 501, 1)).1, [510], "501 to 509 are void");
}

#[test]
fn pending_writes_are_bounded_by_count_and_bytes() {
    let mut inbox = Inbox::default();
    for seq in 0..REORDER_MESSAGES as u64 {
        assert_eq!(insert(&mut inbox, message(1, 10 + seq, 9, 1)).0, InsertOutcome::Buffered);
    }
    assert_eq!(insert(&mut inbox, message(1, 50_000, 9, 1)).0, InsertOutcome::NoCapacity);
    let mut inbox = Inbox::default();
    let largest = SENDER_REORDER_BYTES - buffered_size(&message(2, 10, 9, 0));
    assert_eq!(insert(&mut inbox, message(2, 10, 9, largest)).0, InsertOutcome::Buffered);
    assert_eq!(insert(&mut inbox, message(3, 10, 9, 0)).0, InsertOutcome::NoCapacity);
    for who in 2..=34 {
        inbox.insert(sender(who), message(2, 10, 9, largest), Instant::ZERO, &mut Vec::new());
    }
    assert!(inbox.buffered_bytes() <= REORDER_BYTES);
}

#[test]
fn waiting_message_counts_all_its_memory() {
    let mut inbox = Inbox::default();
    let parents = vec!["p".repeat(128); 16];
    let call = Box::new(Call { reason: "r".repeat(1024), ..Call::default() });
    let texts = Message { kind: "k".repeat(64), parents, call: Some(call), ..message(1, 10, 9, 0) };
    insert(&mut inbox, texts);
    assert!(inbox.buffered_bytes() > 64 + 16 * 128 + 1024, "{}", inbox.buffered_bytes());
    insert(&mut inbox, message(1, 9, 0, 0));
    assert_eq!(inbox.buffered_bytes(), 0);

    // A buffered byte must not keep the whole frame in memory.
    let frame = Bytes::from(vec![7; 1 << 20]);
    let part = Message { stream: frame.slice(..16), data: frame.slice(99..100), ..message(7, 10, 9, 0) };
    insert(&mut inbox, part);
    assert!(frame.try_into_mut().is_ok(), "nothing else refers to it");
}

#[test]
fn rejections_are_bounded() {
    let mut inbox = Inbox::default();
    insert(&mut inbox, message(1, 1, 0, 1));
    for seq in 0..=MAX_REFUSALS as u64 {
        inbox.refuse(&sender(1), &StreamId([1; 16]), Rejection { seq, code: "X".into() });
    }
    let seqs: Vec<u64> = inbox.refusals(&sender(1), &StreamId([1; 16])).map(|outcome| outcome.seq).collect();
    assert_eq!((seqs.len(), seqs[0]), (MAX_REFUSALS, 1));
    assert_eq!(inbox.refusals(&sender(2), &StreamId([1; 16])).count(), 0);
}

#[test]
fn rejections_of_all_streams_share_one_limit() {
    let mut inbox = Inbox::default();
    let senders = 2 * MAX_ALL_REFUSALS / MAX_REFUSALS;
    let name = |number: usize| Address::left_padding_from(&number.to_be_bytes());
    for number in 0..senders {
        inbox.insert(name(number), message(1, 1, 0, 1), Instant::ZERO, &mut Vec::new());
        for seq in 0..MAX_REFUSALS as u64 {
            inbox.refuse(&name(number), &StreamId([1; 16]), Rejection { seq, code: "X".into() });
        }
    }
    let remembered = |number| inbox.refusals(&name(number), &StreamId([1; 16])).count();
    let in_all: usize = (0..senders).map(remembered).sum();
    assert_eq!(in_all, MAX_ALL_REFUSALS);
    assert_eq!((remembered(0), remembered(senders - 1)), (0, MAX_REFUSALS));
}

#[test]
fn rejections_are_forgotten_once_their_sender_has_them() {
    let mut inbox = Inbox::default();
    for seq in 1..=5 {
        insert(&mut inbox, message(1, seq, seq - 1, 1));
        inbox.refuse(&sender(1), &StreamId([1; 16]), Rejection { seq, code: "X".into() });
    }
    assert_eq!(inbox.refusals(&sender(1), &StreamId([1; 16])).count(), 5);
    insert(&mut inbox, message(1, 4, 0, 1));
    let left: Vec<u64> = inbox.refusals(&sender(1), &StreamId([1; 16])).map(|outcome| outcome.seq).collect();
    assert_eq!(left, [4, 5], "the sender still has message 4");
}

#[test]
fn buffer_share_of_one_sender_is_limited_and_expires() {
    let mut inbox = Inbox::default();
    let half = SENDER_REORDER_BYTES / 2;
    let mut insert = |who: u8, stream: u8, seconds: u64| {
        let buffered = message(stream, 10, 9, half);
        inbox.insert(sender(who), buffered, Instant::from_secs(seconds), &mut Vec::new())
    };
    let taken = (0..20).filter(|stream| insert(1, *stream, 0) == InsertOutcome::Buffered).count();
    assert_eq!(taken, 1, "the second message does not fit with its overhead");
    for who in 2..40 {
        for stream in 0..5 {
            insert(who, stream, 0);
        }
    }
    assert_eq!(insert(50, 0, 1), InsertOutcome::NoCapacity, "no sender has room");
    assert_eq!(
        insert(50, 0, 1 + REORDER_TIMEOUT.as_secs()),
        InsertOutcome::Buffered,
        "the idle messages were dropped"
    );
    assert!(inbox.buffered_bytes() < 2 * half);
}

proptest! {
    /// A naive sender whose frames are lost, repeated and reordered, and whose messages may expire
    /// at any moment, against the inbox. The delivered numbers ascend, and every message that the
    /// sender does not give up is delivered in the end.
    #[test]
    fn reorder_and_loss_of_the_network_still_deliver_once_in_order(
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
            inbox.insert(sender(1), message, Instant::ZERO, &mut ready);
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
            let next = inbox.next_seq(&sender(1), &StreamId([1; 16]));
            live.retain(|seq| *seq >= next);
        }
        while !live.is_empty() {
            deliver(&mut inbox, &mut out, with_base(&live, 0));
            let next = inbox.next_seq(&sender(1), &StreamId([1; 16]));
            live.retain(|seq| *seq >= next);
        }
        prop_assert!(out.windows(2).all(|pair| pair[0] < pair[1]), "{out:?}");
        for seq in 1..=number {
            prop_assert!(out.contains(&seq) || gave_up.contains(&seq), "{seq} is lost");
        }
    }
}

/// Inserts messages of one stream and delivers those that are ready. Returns the number of unacked
/// messages that this added.
fn deliver(inbox: &mut Inbox, stream: u8, seqs: std::ops::Range<u64>) -> usize {
    // The first message has no earlier one.
    let base_seq = |seq| if seq == 1 { 0 } else { seq };
    let before = inbox.senders[&sender(1)].outstanding;
    for seq in seqs {
        let (_, ready) = insert(inbox, message(stream, seq, base_seq(seq), 1));
        for seq in ready {
            inbox.deliver((sender(1), StreamId([stream; 16])), seq);
        }
    }
    inbox.senders[&sender(1)].outstanding - before
}

#[test]
fn message_that_fills_the_gap_displaces_buffered_ones() {
    let mut inbox = Inbox::new(AckPolicy::Manual);
    insert(&mut inbox, message(9, 1, 0, 1));
    let window = ACK_WINDOW as u64;
    assert_eq!(deliver(&mut inbox, 1, window + 1..2 * window + 1), 0, "all earlier messages are missing");
    assert_eq!(inbox.buffered_of(&sender(1)).count(), ACK_WINDOW);
    assert_eq!(deliver(&mut inbox, 1, 1..window + 1), ACK_WINDOW);
    assert_eq!((inbox.buffered_of(&sender(1)), inbox.buffered_bytes()), (Budget::default(), 0));
    assert_eq!(inbox.drain_dropped(), window);
    assert_eq!(
        insert(&mut inbox, message(1, window + 1, window + 1, 1)).0,
        InsertOutcome::NoCapacity,
        "the window is full"
    );
}

#[test]
fn unacked_messages_of_one_sender_are_bounded() {
    let mut inbox = Inbox::new(AckPolicy::Manual);
    insert(&mut inbox, message(9, 1, 0, 1));
    let handed: Vec<usize> = (1..=4).map(|stream| deliver(&mut inbox, stream, 1..5000)).collect();
    assert_eq!(handed, [ACK_WINDOW, ACK_WINDOW, ACK_WINDOW, 0]);
    assert_eq!(MAX_UNACKED_PER_SENDER, 3 * ACK_WINDOW);
    let mut ready = Vec::new();
    assert_eq!(inbox.insert(sender(2), message(1, 1, 0, 1), Instant::ZERO, &mut ready), InsertOutcome::Ready);
}

/// Returns a durable inbox with message 1 in the parent's pipe, followed by `number` rejected
/// messages.
fn refused_behind_one(number: u64) -> Inbox {
    let mut inbox = Inbox::new(AckPolicy::OnPersisted);
    let key = (sender(1), StreamId([1; 16]));
    insert(&mut inbox, message(1, 1, 0, 1));
    inbox.deliver(key, 1);
    // All except message 2 wait for an earlier one, and they become ready together.
    for seq in (2..number + 2).rev() {
        for ready in insert(&mut inbox, message(1, seq, seq, 1)).1 {
            inbox.deliver(key, ready);
            inbox.mark_acked(key, ready);
        }
    }
    inbox
}

/// Returns an inbox at the global limit of messages acked out of order, from 64 senders.
fn with_all_out_of_order() -> Inbox {
    let mut inbox = refused_behind_one(MAX_OUT_OF_ORDER as u64 / 16);
    let row = inbox.row((sender(1), StreamId([1; 16]))).unwrap();
    for number in 2..=64 {
        inbox.restore(vec![StreamCheckpoint { sender: sender(number), ..row.clone() }], Instant::ZERO);
    }
    assert!(inbox.out_of_order >= MAX_OUT_OF_ORDER);
    inbox
}

#[test]
fn checkpoint_row_is_bounded_after_many_rejections() {
    let inbox = refused_behind_one(5000);
    let row = inbox.row((sender(1), StreamId([1; 16]))).unwrap();
    assert_eq!((row.next, row.delivered_up_to, row.out_of_order.len()), (1, 5002, ACK_WINDOW));
}

#[test]
fn restored_stream_continues_after_any_checkpoint() {
    for ack_policy in [AckPolicy::OnPersisted, AckPolicy::Manual] {
        let row = refused_behind_one(5000).row((sender(1), StreamId([1; 16]))).unwrap();
        let mut inbox = Inbox::new(ack_policy);
        inbox.restore(vec![row], Instant::ZERO);
        assert_eq!(
            insert(&mut inbox, message(1, 2, 2, 1)).0,
            InsertOutcome::NoCapacity,
            "the window is full"
        );
        assert_eq!(
            insert(&mut inbox, message(1, 1, 0, 1)),
            (InsertOutcome::Ready, vec![1]),
            "{ack_policy:?}"
        );
    }
}

#[test]
fn buffered_messages_are_bounded_in_total() {
    let mut inbox = with_all_out_of_order();
    let mut after = |who: u8, first: u64| {
        let mut ready = Vec::new();
        let last = first + FEW_OUT_OF_ORDER as u64 + 5;
        let refused = (first..=last).find(|seq| {
            let base_seq = if *seq == first { 0 } else { *seq };
            inbox.insert(sender(who), message(2, *seq, base_seq, 1), Instant::ZERO, &mut ready)
                == InsertOutcome::NoCapacity
                || {
                    inbox.deliver((sender(who), StreamId([2; 16])), *seq);
                    // All except the first are acked.
                    *seq > first && !inbox.mark_acked((sender(who), StreamId([2; 16])), *seq)
                }
        });
        refused.map(|seq| seq - first)
    };
    assert_eq!(after(2, 1), Some(1), "a sender with a full window may add none");
    assert_eq!(after(200, 1), Some(FEW_OUT_OF_ORDER as u64), "other senders may add a few");
    inbox.mark_acked((sender(1), StreamId([1; 16])), 1);
    assert!(inbox.out_of_order < MAX_OUT_OF_ORDER);
    for number in 2..=64 {
        inbox.forget((sender(number), StreamId([1; 16])));
    }
    let left = FEW_OUT_OF_ORDER - 1;
    assert_eq!((inbox.out_of_order, inbox.senders[&sender(200)].out_of_order), (left, left));
}

#[test]
fn streams_without_buffered_messages_are_not_scanned_per_message() {
    let mut inbox = Inbox::default();
    let large = SENDER_REORDER_BYTES - buffered_size(&message(1, 2, 2, 0));
    for who in 1..=5 {
        inbox.insert(sender(who), message(1, 2, 2, large), Instant::ZERO, &mut Vec::new());
    }
    assert!(inbox.buffered_bytes() >= REORDER_BYTES / 2);
    let mut sweeps = BTreeSet::new();
    for milli in 0..3000 {
        let now = Instant::from_secs(30) + Duration::from_millis(milli);
        inbox.insert(sender(1), message(1, 3, 3, 0), now, &mut Vec::new());
        inbox.insert(sender(2), message(1, 3, 3, 0), now, &mut Vec::new());
        sweeps.insert(inbox.gc_threshold);
    }
    assert!(inbox.buffered_bytes() < REORDER_BYTES / 2, "messages buffered too long were dropped");
    assert!(sweeps.len() <= 3, "{sweeps:?}");
}

#[test]
fn buffered_bytes_count_before_delivery() {
    let mut inbox = with_all_out_of_order();
    let taken = (2..=FEW_OUT_OF_ORDER as u64 * 2)
        .filter(|seq| {
            let early = message(3, *seq, *seq, 1);
            inbox.insert(sender(200), early, Instant::ZERO, &mut Vec::new()) == InsertOutcome::Buffered
        })
        .count();
    assert_eq!(taken, FEW_OUT_OF_ORDER);
}
