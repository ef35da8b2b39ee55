use std::collections::BTreeSet;

use p2p_node_protocol::Priority;
use p2p_node_wire::envelope::Batch;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::{Instant, Now};
use proptest::prelude::*;

use crate::mail::inbound::receive_window::ACK_WINDOW;
use crate::mail::outbound::outbox::*;
use crate::outgoing::testing;

mod overtaken;
mod room;

const RECIPIENT: Address = Address::repeat_byte(7);
const NOW: Instant = Instant::from_secs(1);

fn draft(priority: Priority, size: usize) -> OutgoingMessage {
    testing::draft(priority, size, Instant::from_secs(3600))
}

fn ack(batch: &Batch, through: u64) -> StreamAck {
    StreamAck { stream: batch.messages[0].stream.clone(), cumulative: through, ..StreamAck::default() }
}

#[test]
fn frame_waits_for_the_previous_response_or_more_messages() {
    let mut outbox = Outbox::new(testing::origin());
    outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    assert!(outbox.destination(&RECIPIENT).unwrap().frame_due() <= Some(NOW));
    outbox.send_next_batch(RECIPIENT, 1, Route::Direct, NOW).unwrap();
    outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    assert_eq!(outbox.destination(&RECIPIENT).unwrap().frame_due(), Some(NOW + Duration::from_millis(2)));
    outbox.accept(RECIPIENT, draft(Priority::Medium, 48 << 10), true, NOW).unwrap();
    assert!(outbox.destination(&RECIPIENT).unwrap().frame_due() <= Some(NOW), "enough bytes are queued");
}

#[test]
fn high_leaves_first_and_medium_and_low_share_four_to_one() {
    let mut outbox = Outbox::new(testing::origin());
    for priority in [Priority::Low, Priority::Medium, Priority::High] {
        for _ in 0..100 {
            outbox.accept(RECIPIENT, draft(priority, 6_000), true, NOW).unwrap();
        }
    }
    let (mut token, mut order) = (0, Vec::new());
    while order.len() < 250 {
        token += 1;
        let batch = outbox.send_next_batch(RECIPIENT, token, Route::Direct, NOW).unwrap();
        order.extend(batch.messages.iter().map(|message| message.priority()));
    }
    use p2p_node_wire::envelope::Priority as Wire;
    assert!(order[..100].iter().all(|priority| *priority == Wire::High));
    let low = order[100..200].iter().filter(|priority| **priority == Wire::Low).count();
    assert!((18..=22).contains(&low), "{low} of 100");
}

/// Fills an outbox with as much as one recipient may use.
fn fill(outbox: &mut Outbox) {
    while outbox.accept(RECIPIENT, draft(Priority::Medium, 32 << 10), true, NOW).is_ok() {}
}

/// Returns an outbox with as much as one recipient may use.
fn full() -> Outbox {
    let mut outbox = Outbox::new(testing::origin());
    fill(&mut outbox);
    outbox
}

#[test]
fn sender_has_a_mebibyte_in_flight_before_the_first_response() {
    let mut outbox = full();
    let mut bytes = 0;
    for token in 1.. {
        if outbox.destination(&RECIPIENT).unwrap().frame_due().is_none_or(|due| due > NOW) {
            break;
        }
        let batch = outbox.send_next_batch(RECIPIENT, token, Route::Direct, NOW).unwrap();
        bytes += batch.messages.iter().map(|message| message.data.len()).sum::<usize>();
    }
    // The last frame may begin just below the limit.
    assert!((1 << 20..(1 << 20) + (256 << 10)).contains(&bytes), "{bytes}");
}

#[test]
fn publish_without_peers_does_not_count_as_an_attempt() {
    let mut outbox = Outbox::new(testing::origin());
    outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    for token in 1..=3 {
        let now = NOW + Duration::from_secs(60 * token);
        assert_eq!(outbox.send_next_batch(RECIPIENT, token, Route::Gossip, now).unwrap().messages.len(), 1);
        outbox.undo_batch(token, now, &mut Jitter::new(1));
    }
    outbox.send_next_batch(RECIPIENT, 4, Route::Gossip, NOW + Duration::from_secs(300)).unwrap();
    let ended = outbox.expire(NOW + Duration::from_secs(3600), &mut Jitter::new(1));
    assert_eq!(ended.iter().map(|ended| ended.mail.attempts).collect::<Vec<_>>(), [1]);
}

#[test]
fn recipient_without_messages_is_forgotten_and_gets_a_new_stream() {
    let mut outbox = Outbox::new(testing::origin());
    let address = |number: usize| {
        let mut bytes = [1; 20];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Address::from(bytes)
    };
    let first = outbox.accept(address(0), draft(Priority::Medium, 1), true, NOW).unwrap();
    outbox.drain();
    for number in 1..=MAX_IDLE_DESTINATIONS {
        outbox.accept(address(number), draft(Priority::Medium, 1), true, NOW).unwrap();
        outbox.drain();
    }
    assert!(outbox.destinations.len() <= MAX_IDLE_DESTINATIONS);
    let again = outbox.accept(address(0), draft(Priority::Medium, 1), true, NOW).unwrap();
    assert_ne!(first, again, "a new stream, because the numbers start again");
}

proptest! {
    /// After sends, partial acks, failures, cancellations, rejections and expiries in any order,
    /// the usage counters are right, every message completes exactly once, and none is lost.
    #[test]
    fn budgets_always_match_the_contents(steps in prop::collection::vec((0u8..7, any::<prop::sample::Index>(), 0usize..3), 1..150)) {
        let mut outbox = Outbox::new(testing::origin());
        let mut jitter = Jitter::new(1);
        let mut flights: Vec<(Token, Batch)> = Vec::new();
        let (mut accepted, mut ended, mut token) = (0, Vec::new(), 0);
        for (kind, at, priority) in steps {
            match kind {
                0 | 1 => {
                    let priority = [Priority::Low, Priority::Medium, Priority::High][priority];
                    outbox.accept(RECIPIENT, draft(priority, 1000 * (priority as usize + 1)), true, NOW).unwrap();
                    accepted += 1;
                }
                2 => {
                    token += 1;
                    let route = if priority == 0 { Route::Gossip } else { Route::Direct };
                    if let Some(batch) = outbox.send_next_batch(RECIPIENT, token, route, NOW)
                        && !batch.messages.is_empty()
                    {
                        flights.push((token, batch));
                    }
                }
                3 if !flights.is_empty() => {
                    let (token, batch) = flights.remove(at.index(flights.len()));
                    let through = batch.messages[at.index(batch.messages.len())].seq + 1;
                    ended.extend(outbox.apply_ack(&RECIPIENT, &ack(&batch, through), NOW));
                    outbox.answered(token, NOW, &mut jitter);
                }
                4 if !flights.is_empty() => {
                    let (token, _) = flights.remove(at.index(flights.len()));
                    outbox.failed(token, Duration::ZERO, NOW, &mut jitter);
                }
                5 => outbox.cancel_gossip(&RECIPIENT),
                6 if !flights.is_empty() => {
                    let (token, _) = flights.remove(at.index(flights.len()));
                    ended.extend(outbox.refused(token));
                    outbox.answered(token, NOW, &mut jitter);
                }
                _ => {}
            }
            if let Some(destination) = outbox.destination(&RECIPIENT) {
                destination.check_accounts();
            }
            prop_assert_eq!(outbox.len() + ended.len(), accepted);
        }
        ended.extend(outbox.drain());
        prop_assert_eq!(ended.len(), accepted);
        prop_assert_eq!((outbox.len(), outbox.bytes()), (0, 0));
        let mut ids: Vec<_> = ended.iter().map(|ended| &ended.message_id).collect();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), accepted);
    }
}

#[test]
fn probe_finds_messages_that_a_restarted_recipient_lost() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    let send_next_batch = |outbox: &mut Outbox, token, now| {
        let due = outbox.destination(&RECIPIENT)?.frame_due().filter(|due| *due <= now);
        due.and_then(|_| outbox.send_next_batch(RECIPIENT, token, Route::Direct, now))
    };
    for _ in 0..3 {
        outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    }
    let batch = send_next_batch(&mut outbox, 1, NOW).unwrap();
    let held = |held| StreamAck { received: held, ..ack(&batch, 0) };
    outbox.apply_ack(&RECIPIENT, &held(4), NOW);
    outbox.answered(1, NOW, &mut jitter);
    // The first probe makes no progress, so the following pauses exceed those between attempts.
    let reminded = outbox.next_deadline().unwrap();
    outbox.expire(reminded, &mut jitter);
    send_next_batch(&mut outbox, 2, reminded).unwrap();
    outbox.apply_ack(&RECIPIENT, &held(4), reminded);
    outbox.answered(2, reminded, &mut jitter);
    outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, reminded).unwrap();
    let mut asked = false;
    for second in 0..600 {
        let now = reminded + Duration::from_secs(second);
        outbox.expire(now, &mut jitter);
        if let Some(batch) = send_next_batch(&mut outbox, 100 + second, now) {
            asked |= batch.messages.iter().any(|message| message.seq == 1);
            outbox.apply_ack(&RECIPIENT, &held(1), now);
            outbox.failed(100 + second, Duration::ZERO, now, &mut jitter);
        }
    }
    assert!(asked);
}

#[test]
fn message_awaiting_its_write_sets_no_expiry_timer() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    let soon = NOW + Duration::from_millis(1);
    let mail = testing::draft(Priority::Medium, 1, soon);
    let accepted = outbox.accept(RECIPIENT, mail, false, NOW).unwrap();
    let late = NOW + Duration::from_millis(10);
    assert!(outbox.expire(late, &mut jitter).is_empty());
    assert_eq!(outbox.next_deadline(), None);
    assert!(outbox.mark_persisted(&RECIPIENT, &accepted.stream, accepted.seq));
    assert_eq!(outbox.expire(late, &mut jitter).len(), 1);
}

#[test]
fn manual_ack_window_limits_messages_in_flight() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    for _ in 0..2 * ACK_WINDOW {
        outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    }
    let sent = |batch: Batch| batch.messages.iter().map(|message| message.seq).collect::<Vec<_>>();
    let first = outbox.send_next_batch(RECIPIENT, 1, Route::Direct, NOW).unwrap();
    let all = first.messages.len() as u64;
    assert!(all > ACK_WINDOW as u64, "the sender does not know the window yet");
    let window = ACK_WINDOW as u64;
    let acked = |cumulative, room: u64| StreamAck {
        received: window + 1,
        window: 1 + room,
        ..ack(&first, cumulative)
    };
    outbox.apply_ack(&RECIPIENT, &acked(0, 0), NOW);
    outbox.answered(1, NOW, &mut jitter);
    let late = NOW + Duration::from_secs(10);
    let probe = outbox.send_next_batch(RECIPIENT, 2, Route::Direct, late).unwrap();
    assert_eq!(sent(probe), [window + 1], "one message asks for room");
    assert_eq!(outbox.destination(&RECIPIENT).unwrap().frame_due(), None, "the agent has acked nothing");
    outbox.apply_ack(&RECIPIENT, &acked(11, 10), late);
    assert!(outbox.destination(&RECIPIENT).unwrap().frame_due().is_some());
    let next = outbox.send_next_batch(RECIPIENT, 3, Route::Direct, late).unwrap();
    assert_eq!(sent(next), (window + 2..=window + 10).collect::<Vec<_>>());
}

#[test]
fn restored_message_after_clock_setback_expires_no_later() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    let sent_at_ms = 10_000_000;
    let persisted = |seq, life| PersistedMessage {
        recipient: RECIPIENT,
        stream: StreamId([1; 16]),
        seq,
        sent_as: None,
        position: seq,
        expires_at_ms: sent_at_ms + life,
        draft: OutgoingMessage { sent_at_ms, ..draft(Priority::Medium, 1) },
    };
    let an_hour_before = Now { mono: NOW, unix_ms: sent_at_ms - 3_600_000 };
    outbox.restore(vec![persisted(1, 10_000), persisted(2, 20_000)], an_hour_before);
    assert_eq!(outbox.expire(NOW + Duration::from_secs(9), &mut jitter).len(), 0);
    assert_eq!(outbox.expire(NOW + Duration::from_secs(10), &mut jitter).len(), 1);
    assert_eq!(outbox.expire(NOW + Duration::from_secs(20), &mut jitter).len(), 1);
}

fn persisted(stream: u8, seq: u64, position: u64) -> PersistedMessage {
    PersistedMessage {
        recipient: RECIPIENT,
        stream: StreamId([stream; 16]),
        seq,
        sent_as: None,
        position,
        expires_at_ms: 3_600_000,
        draft: draft(Priority::Medium, 1),
    }
}

#[test]
fn next_stream_starts_after_the_previous_is_fully_acked() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    let rows = vec![persisted(3, 4, 3), persisted(9, 5, 1), persisted(9, 8, 2)];
    assert_eq!(outbox.restore(rows, Now { mono: NOW, unix_ms: 0 }), 3);
    let new = outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    let sent = |batch: &Batch| -> Vec<_> {
        let of =
            |message: &p2p_node_wire::envelope::Message| (message.stream[0], message.seq, message.base_seq);
        batch.messages.iter().map(of).collect()
    };
    let first = outbox.send_next_batch(RECIPIENT, 1, Route::Direct, NOW).unwrap();
    assert_eq!(sent(&first), [(9, 5, 0), (9, 8, 6)]);
    assert_eq!(outbox.destination(&RECIPIENT).unwrap().frame_due(), None, "the recipient must answer first");
    // The agent has the first message, and the second is missing.
    let held = |batch: &Batch, held| StreamAck { received: held, window: 1000, ..ack(batch, 0) };
    outbox.record_response(1);
    outbox.apply_ack(&RECIPIENT, &held(&first, 6), NOW);
    outbox.answered(1, NOW, &mut jitter);
    let late = NOW + Duration::from_secs(60);
    let again = outbox.send_next_batch(RECIPIENT, 2, Route::Direct, late).unwrap();
    assert_eq!(sent(&again), [(9, 8, 6)]);
    outbox.record_response(2);
    outbox.apply_ack(&RECIPIENT, &held(&again, 9), late);
    outbox.answered(2, late, &mut jitter);
    let second = outbox.send_next_batch(RECIPIENT, 3, Route::Direct, late).unwrap();
    assert_eq!(sent(&second), [(3, 4, 0)]);
    assert!(outbox.apply_ack(&RECIPIENT, &ack(&second, 5), late).is_empty(), "maybe about another message");
    outbox.record_response(3);
    assert_eq!(outbox.apply_ack(&RECIPIENT, &ack(&second, 5), late).len(), 1);
    outbox.answered(3, late, &mut jitter);
    let third = outbox.send_next_batch(RECIPIENT, 4, Route::Direct, late).unwrap();
    assert_eq!(sent(&third), [(new.stream[0], 1, 0)]);
    // The acks of all messages that the agent has may arrive in any order.
    assert_eq!(outbox.apply_ack(&RECIPIENT, &ack(&third, 2), late).len(), 1);
    assert_eq!(outbox.apply_ack(&RECIPIENT, &ack(&first, 9), late).len(), 2);
    assert!(outbox.is_empty());
}

#[test]
fn retry_pause_grows_for_a_number_that_the_recipient_never_accepts() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    let accepted = outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    outbox.accept(RECIPIENT, draft(Priority::Low, 1), true, NOW).unwrap();
    let (mut frames, mut names) = (0, BTreeSet::new());
    for second in 0..600 {
        let now = Now { mono: NOW + Duration::from_secs(second), unix_ms: 1000 * second };
        for _ in 0..10 {
            let due = outbox.destination(&RECIPIENT).unwrap().frame_due();
            if due.is_none_or(|due| due > now.mono) {
                break;
            }
            frames += 1;
            let batch = outbox.send_next_batch(RECIPIENT, frames, Route::Direct, now.mono).unwrap();
            for message in &batch.messages {
                assert!(names.insert((message.stream.clone(), message.seq)), "each name is used once");
                let code = p2p_node_wire::envelope::SEQUENCE_REUSED.to_owned();
                let outcomes = vec![p2p_node_wire::envelope::Rejection { seq: message.seq, code }];
                let ack = StreamAck {
                    stream: message.stream.clone(),
                    rejections: outcomes,
                    ..StreamAck::default()
                };
                let renamed = outbox.renumber(&RECIPIENT, &ack, now, &mut jitter);
                assert_eq!(renamed.len(), 1);
                assert!(outbox.apply_ack(&RECIPIENT, &ack, now.mono).is_empty());
            }
            outbox.answered(frames, now.mono, &mut jitter);
            outbox.destination(&RECIPIENT).unwrap().check_accounts();
        }
    }
    assert!((5..60).contains(&frames), "{frames} frames in ten minutes");
    let ended = outbox.drain();
    let medium = ended.iter().find(|ended| ended.message_id == accepted.message_id).unwrap();
    assert_eq!((medium.stream, medium.seq, ended.len()), (accepted.stream, accepted.seq, 2));
    assert!(medium.delivered_as.is_some());
}

#[test]
fn new_process_numbers_messages_on_another_stream_than_restored_ones() {
    let mut outbox = Outbox::new(testing::origin());
    let mut twin = Outbox::new(testing::origin());
    let before = twin.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    let row = PersistedMessage { stream: before.stream, seq: before.seq, ..persisted(0, 0, 1) };
    outbox.restore(vec![row], Now { mono: NOW, unix_ms: 0 });
    let after = outbox.accept(RECIPIENT, draft(Priority::Medium, 1), true, NOW).unwrap();
    assert_ne!((before.stream, before.message_id), (after.stream, after.message_id));
    let ended = outbox.drain();
    assert_eq!(ended.iter().map(|ended| ended.stream).collect::<Vec<_>>(), [before.stream, after.stream]);
}
