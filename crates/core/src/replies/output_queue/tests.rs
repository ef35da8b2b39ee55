use p2p_node_protocol::{Answer, Closing, ErrorCode, ErrorEvent, Level};

use crate::replies::output_queue::*;

fn log(text: &str) -> Log {
    Log { level: Level::Info, namespace: "test".into(), message: text.into(), meta: None }
}

fn mark(number: usize) -> Event {
    Event::Closing(Closing { reason: number.to_string() })
}

fn number(event: &Event) -> usize {
    match event {
        Event::Closing(closing) => closing.reason.parse().unwrap(),
        other => panic!("not a mark: {other:?}"),
    }
}

#[test]
fn lines_of_one_priority_leave_in_fifo_order() {
    let mut queue = OutputQueue::default();
    queue.push_required(mark(0));
    queue.mail(Priority::Medium, mark(1), 10, None);
    queue.broadcast(Priority::Medium, mark(2), 10);
    queue.mail(Priority::Medium, mark(3), 10, None);
    queue.push_peer_event(mark(4), |_| false);
    queue.push_required(mark(5));
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|event| number(&event)).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn messages_leave_by_priority_without_starving_low() {
    let mut queue = OutputQueue::default();
    queue.push_required(mark(0));
    for number in 1..=3 {
        queue.mail(Priority::Low, mark(number), 100, None);
    }
    for number in 11..=20 {
        queue.broadcast(Priority::Medium, mark(number), 100);
    }
    queue.push_required(mark(30));
    queue.mail(Priority::High, mark(40), 100, None);
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|event| number(&event)).collect();
    assert_eq!(
        order,
        [0, 30, 40, 11, 12, 13, 14, 1, 15, 16, 17, 18, 2, 19, 20, 3],
        "a line keeps its place before later lines"
    );
}

#[test]
fn lines_at_the_writer_stay_within_its_window() {
    let mut queue = OutputQueue::default();
    for index in 0..3 * WRITER_LINES {
        queue.push_required(mark(index));
    }
    assert!(!queue.can_accept_command());
    let first = std::iter::from_fn(|| queue.pop()).count();
    assert!(first <= WRITER_LINES && first > 0);
    queue.written(1);
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 1);
}

#[test]
fn full_queue_drops_the_oldest_broadcast_of_lowest_priority_and_counts_it() {
    let mut queue = OutputQueue::default();
    queue.broadcast(Priority::High, mark(0), 1);
    for index in 1..=TOPIC_LINES {
        queue.broadcast(Priority::Low, mark(index), 1);
    }
    queue.broadcast(Priority::Medium, mark(TOPIC_LINES + 1), 1);
    assert_eq!(queue.total_dropped().broadcasts, 2);
    let Some(Event::Overflow(overflow)) = queue.pop() else { panic!("the drops are reported first") };
    assert_eq!((overflow.dropped.broadcasts, overflow.total.broadcasts), (2, 2));
    let next: Vec<_> = std::iter::from_fn(|| queue.pop()).take(3).map(|event| number(&event)).collect();
    assert_eq!(next, [0, TOPIC_LINES + 1, 3]);
}

#[test]
fn replies_count_as_unread_until_the_writer_has_written_them() {
    let mut queue = OutputQueue::default();
    queue.push_required(Event::Result(Box::new(Answer::new(1.into(), "ping"))));
    queue.push_required(Event::Error(Box::new(ErrorEvent::new(ErrorCode::Busy, "of no command"))));
    let refusal = ErrorEvent { id: Some(2.into()), ..ErrorEvent::new(ErrorCode::Busy, "of a command") };
    queue.push_required(Event::Error(Box::new(refusal)));
    queue.push_required(mark(0));
    assert_eq!(queue.unread_others(), 2);
    while queue.pop().is_some() {}
    assert_eq!(queue.unread_others(), 2);
    queue.written(1);
    assert_eq!(queue.unread_others(), 1);
    queue.written(3);
    assert_eq!(queue.unread_others(), 0);
    queue.close();
    queue.push_required(Event::Result(Box::new(Answer::new(3.into(), "late"))));
    assert_eq!(queue.unread_others(), 0, "it is not taken");
}

#[test]
fn single_broadcast_above_the_limit_is_accepted() {
    let mut queue = OutputQueue::default();
    queue.broadcast(Priority::Low, mark(0), TOPIC_BYTES + 1);
    assert_eq!(queue.pop().map(|event| number(&event)), Some(0));
}

#[test]
fn accepted_answer_has_room_when_that_for_new_mail_is_in_use() {
    let mut queue = OutputQueue::default();
    let quarter = MAIL_BYTES / 4;
    for number in 0..7 {
        assert_eq!(queue.has_mail_room(Budget::of(1, quarter), true, Budget::default()), number < 3);
        assert!(queue.has_answer_room(quarter), "{number}");
        queue.mail(Priority::Medium, mark(number), quarter, None);
    }
    assert!(!queue.has_answer_room(quarter), "twice the room is the limit");
}

#[test]
fn mail_queue_accepts_up_to_its_limits() {
    let mut queue = OutputQueue::default();
    assert!(
        queue.has_mail_room(Budget::of(MAIL_LINES, MAIL_BYTES), true, Budget::default()),
        "an empty queue takes any one frame"
    );
    queue.mail(Priority::Medium, mark(0), 100, None);
    assert!(queue.has_mail_room(Budget::of(1, 100), true, Budget::default()));
    assert!(!queue.has_mail_room(Budget::of(MAIL_LINES, 0), true, Budget::default()));
    assert!(!queue.has_mail_room(Budget::of(1, MAIL_BYTES), true, Budget::default()));
    let most = MAIL_LINES - MAIL_LINES / HIGH_RESERVE;
    assert!(
        !queue.has_mail_room(Budget::of(most, 0), false, Budget::default())
            && queue.has_mail_room(Budget::of(most, 0), true, Budget::default()),
        "for what is urgent"
    );
    assert!(
        !queue.has_mail_room(Budget::of(1, 0), true, Budget::of(MAIL_LINES - 1, 0)),
        "what is coming counts"
    );
    assert!(!queue.has_mail_room(Budget::of(1, 0), true, Budget::of(1, MAIL_BYTES)));
    assert!(queue.is_draining());
    queue.mail(Priority::Medium, mark(1), MAIL_BYTES / BACKPRESSURE_FRACTION, None);
    assert!(!queue.is_draining());
}

#[test]
fn peer_events_of_one_peer_replace_each_other_and_are_bounded() {
    let mut queue = OutputQueue::default();
    queue.push_peer_event(mark(7), |_| false);
    queue.push_peer_event(mark(7), |event| number(event) == 7);
    assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 1);
    assert_eq!(queue.total_dropped().peer_events, 0, "replaced, not lost");
    for index in 0..2 * PEER_EVENT_LINES {
        queue.push_peer_event(mark(index), |_| false);
    }
    queue.written(1);
    let Some(Event::Overflow(overflow)) = queue.pop() else { panic!("the drops are reported first") };
    assert_eq!(overflow.dropped.peer_events, PEER_EVENT_LINES as u64);
    assert_eq!(queue.pop().map(|event| number(&event)), Some(PEER_EVENT_LINES));
}

#[test]
fn no_line_is_queued_after_the_last() {
    let mut queue = OutputQueue::default();
    queue.push_peer_event(mark(0), |_| false);
    queue.push_required(mark(1));
    queue.close();
    queue.push_required(mark(2));
    queue.broadcast(Priority::High, mark(3), 1);
    queue.push_peer_event(mark(4), |event| number(event) == 0);
    queue.log(log("late"));
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|event| number(&event)).collect();
    assert_eq!(order, [0, 1]);
}

#[test]
fn logs_are_bounded_and_drops_counted() {
    let mut queue = OutputQueue::default();
    for index in 0..LOG_LINES + 5 {
        queue.log(log(&index.to_string()));
    }
    assert_eq!(queue.total_dropped().log, 5);
}
