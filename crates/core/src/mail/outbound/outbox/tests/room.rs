//! Until when a `send` may wait for room.

use crate::capacity::capacity_for;
use crate::command_limits::MAX_PAUSE;
use crate::mail::outbound::outbox::tests::*;

/// Returns `true` if a wait for room for the recipient may help.
fn is_progressing(outbox: &Outbox, now: Instant) -> bool {
    let wait = outbox.wait_for(&RECIPIENT, &draft(Priority::Medium, 1)).expect("it is full");
    assert!(matches!(wait, Wait::Recipient(_)), "other recipients have room");
    wait.may_help(now)
}

/// Sends a batch and lets the recipient complete `mails` of its messages.
fn apply_ack(outbox: &mut Outbox, token: Token, messages: u64, now: Instant) {
    let batch = outbox.send_next_batch(RECIPIENT, token, Route::Direct, now).unwrap();
    let first = batch.messages[0].seq;
    assert!(!outbox.apply_ack(&RECIPIENT, &ack(&batch, first + messages), now).is_empty());
    outbox.answered(token, now, &mut Jitter::new(1));
}

#[test]
fn send_waits_for_a_progressing_recipient_up_to_the_longest_pause() {
    let mut outbox = full();
    let (over, before) = (NOW + MAX_PAUSE, NOW + MAX_PAUSE - Duration::from_millis(1));
    assert!(
        is_progressing(&outbox, before) && !is_progressing(&outbox, over),
        "the recipient never answered"
    );
    apply_ack(&mut outbox, 1, 1, before);
    fill(&mut outbox);
    assert!(is_progressing(&outbox, over), "the recipient made progress in time");
    assert!(!is_progressing(&outbox, before + MAX_PAUSE), "the recipient made no further progress");
}

#[test]
fn occasional_ack_does_not_extend_the_stall_deadline() {
    let mut outbox = Outbox::new(testing::origin());
    let small = || draft(Priority::Medium, 1000);
    while outbox.accept(RECIPIENT, small(), true, NOW).is_ok() {}
    let mut now = NOW;
    for token in 1..10 {
        now += MAX_PAUSE / 2;
        apply_ack(&mut outbox, token, 1, now);
        outbox.accept(RECIPIENT, small(), true, now).unwrap();
    }
    assert!(!is_progressing(&outbox, now), "ten kilobytes in nine seconds");
}

#[test]
fn send_lane_waits_once_for_a_recipient_that_reconnects_often() {
    let mut outbox = full();
    let mut now = NOW;
    let mut hopes = 0;
    for _ in 0..5 {
        now += MAX_PAUSE;
        let destination = outbox.destination(&RECIPIENT).unwrap();
        destination.suspect();
        destination.found(now);
        hopes += usize::from(is_progressing(&outbox, now));
    }
    assert_eq!(hopes, 1);
    apply_ack(&mut outbox, 1, 1000, now);
    fill(&mut outbox);
    now += MAX_PAUSE;
    let destination = outbox.destination(&RECIPIENT).unwrap();
    destination.suspect();
    destination.found(now);
    assert!(is_progressing(&outbox, now), "the recipient had made progress in between");
}

#[test]
fn outbox_is_bounded_in_total_and_per_recipient() {
    for priority in [Priority::Low, Priority::Medium, Priority::High] {
        let mut outbox = Outbox::new(testing::origin());
        let mut number = 0;
        while outbox.accept(Address::repeat_byte(number), draft(priority, 100_000), true, NOW).is_ok() {
            number = (number + 1) % 10;
        }
        assert!(
            outbox.bytes() <= capacity_for(OUTBOX_BYTES, priority) && outbox.bytes() > OUTBOX_BYTES / 5 * 4
        );
        let shared = outbox.wait_for(&Address::repeat_byte(77), &draft(priority, 100_000)).unwrap();
        assert_eq!(shared, Wait::Shared(NOW + MAX_PAUSE), "{priority:?}");
        let mut outbox = Outbox::new(testing::origin());
        while outbox.accept(RECIPIENT, draft(priority, 100_000), true, NOW).is_ok() {}
        let most = capacity_for(DESTINATION_BYTES, priority);
        assert!((most..most + 101_000).contains(&outbox.bytes()), "{}", outbox.bytes());
        assert!(outbox.accept(Address::repeat_byte(8), draft(priority, 1), true, NOW).is_ok());
    }
}
