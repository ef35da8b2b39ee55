//! Acks of restored messages that come before the response to their frame.

use super::*;

/// Sends restored messages with these numbers, of which an ack comes first, and then the response, by which
/// the recipient's node has them all and waits for its agent. Returns how long after it the node probes.
fn probes_after(seqs: &[u64], ack_first: impl Fn(&Batch) -> StreamAck) -> Duration {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    let rows = seqs.iter().enumerate().map(|(index, seq)| persisted(1, *seq, index as u64)).collect();
    outbox.restore(rows, Now { mono: NOW, unix_ms: 0 });
    let batch = outbox.send_next_batch(RECIPIENT, 1, Route::Direct, NOW).unwrap();
    assert!(outbox.apply_ack(&RECIPIENT, &ack_first(&batch), NOW).is_empty(), "maybe about other messages");
    outbox.record_response(1);
    outbox.apply_ack(&RECIPIENT, &held(&batch, 0, 9), NOW);
    outbox.answered(1, NOW, &mut jitter);
    outbox.next_deadline().unwrap().saturating_since(NOW)
}

fn held(batch: &Batch, through: u64, received: u64) -> StreamAck {
    StreamAck { received, window: 1000, ..ack(batch, through) }
}

#[test]
fn ack_that_overtakes_the_response_hastens_the_probe() {
    let of_all = |batch: &Batch| ack(batch, 9);
    let of_second = |batch: &Batch| StreamAck { selective: vec![2], ..ack(batch, 3) };
    let of_none = |batch: &Batch| ack(batch, 0);
    let [soon, late] = [1, 60].map(Duration::from_secs);
    assert_eq!(probes_after(&[4], of_all), soon);
    assert_eq!(probes_after(&[4, 5], of_second), soon, "an ack out of order");
    assert_eq!(probes_after(&[4], of_none), late);
}

#[test]
fn later_hold_of_other_messages_is_probed_at_the_usual_pause() {
    let (mut outbox, mut jitter) = (Outbox::new(testing::origin()), Jitter::new(1));
    outbox.restore(vec![persisted(1, 4, 1), persisted(1, 5, 2)], Now { mono: NOW, unix_ms: 0 });
    let batch = outbox.send_next_batch(RECIPIENT, 1, Route::Direct, NOW).unwrap();
    assert!(outbox.apply_ack(&RECIPIENT, &ack(&batch, 5), NOW).is_empty());
    outbox.record_response(1);
    // The response completes what the early ack was about, and holds the other message.
    assert_eq!(outbox.apply_ack(&RECIPIENT, &held(&batch, 5, 6), NOW).len(), 1);
    outbox.answered(1, NOW, &mut jitter);
    assert_eq!(outbox.next_deadline(), Some(NOW + Duration::from_secs(60)));
}
