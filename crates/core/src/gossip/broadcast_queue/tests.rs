use crate::capacity::capacity_for;
use crate::gossip::broadcast_queue::*;
use crate::outgoing::testing;
use p2p_node_wire::time::Instant;

const HOLD: Instant = Instant::from_secs(10);

fn draft(priority: Priority, size: usize) -> OutgoingMessage {
    testing::draft(priority, size, Instant::from_secs(60))
}

fn accept(topics: &mut BroadcastQueue, priority: Priority, size: usize) -> Result<String, Box<NoRoom>> {
    topics.accept("jobs", draft(priority, size), HOLD)
}

#[test]
fn high_priority_leaves_first_and_one_frame_at_a_time() {
    let mut topics = BroadcastQueue::new(testing::origin());
    accept(&mut topics, Priority::Low, 1).unwrap();
    accept(&mut topics, Priority::High, 2).unwrap();
    let batch = topics.next_frame("jobs", 1, Instant::ZERO).unwrap();
    assert_eq!(batch.messages.iter().map(|message| message.data.len()).collect::<Vec<_>>(), [2]);
    assert!(topics.next_frame("jobs", 2, Instant::ZERO).is_none(), "one is in flight");
    assert!(topics.published(1, PublishOutcome::Sent, Instant::ZERO).is_empty());
    assert_eq!(topics.next_frame("jobs", 3, Instant::ZERO).unwrap().messages.len(), 1);
}

#[test]
fn what_nobody_heard_goes_back_and_is_given_up_in_the_end() {
    let mut topics = BroadcastQueue::new(testing::origin());
    let first = accept(&mut topics, Priority::Medium, 1).unwrap();
    accept(&mut topics, Priority::Medium, 1).unwrap();
    topics.next_frame("jobs", 1, Instant::ZERO).unwrap();
    topics.published(1, PublishOutcome::NoPeers, Instant::ZERO);
    assert_eq!(topics.held(), 2);
    assert_eq!(topics.next_deadline(), Some(HOLD));
    assert!(topics.expired(HOLD - Duration::from_millis(1)).is_empty());
    let expired = topics.expired(HOLD);
    assert_eq!((expired.len(), &expired[0].message_id), (2, &first));
    assert!(topics.is_empty());
}

#[test]
fn topics_take_turns_and_one_that_nobody_hears_pauses() {
    let mut topics = BroadcastQueue::new(testing::origin());
    for name in ["a", "b", "c"] {
        topics.accept(name, draft(Priority::Medium, 1), HOLD).unwrap();
        topics.accept(name, draft(Priority::Medium, 1), HOLD).unwrap();
    }
    let names = |topics: &BroadcastQueue| -> Vec<String> {
        topics.topics_with_work().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&topics), ["a", "b", "c"]);
    topics.next_frame("a", 1, Instant::ZERO).unwrap();
    assert_eq!(names(&topics), ["b", "c"]);
    topics.published(1, PublishOutcome::NoPeers, Instant::ZERO);
    assert_eq!(names(&topics), ["b", "c", "a"], "its turn is over");
    assert_eq!(topics.topics_with_work()[2].1, Instant::after_start(NO_PEERS_BACKOFF));
    topics.heard("a");
    assert_eq!(topics.topics_with_work()[2].1, Instant::ZERO);
}

#[test]
fn what_is_in_flight_is_not_forgotten_at_the_end() {
    let mut topics = BroadcastQueue::new(testing::origin());
    accept(&mut topics, Priority::Medium, 1).unwrap();
    topics.next_frame("jobs", 1, Instant::ZERO).unwrap();
    assert!(!topics.is_empty());
    assert_eq!(topics.drain_all().len(), 1);
    assert!(topics.is_empty());
}

#[test]
fn each_is_given_up_in_its_time_whatever_stands_before_it() {
    let mut topics = BroadcastQueue::new(testing::origin());
    accept(&mut topics, Priority::Medium, 1).unwrap();
    topics.accept("jobs", draft(Priority::High, 1), HOLD + HOLD.since_start()).unwrap();
    topics.next_frame("jobs", 1, Instant::ZERO).unwrap();
    topics.published(1, PublishOutcome::NoPeers, Instant::ZERO);
    assert_eq!(topics.next_deadline(), Some(HOLD));
    assert_eq!(topics.expired(HOLD).len(), 1, "the older of lower priority");
    assert_eq!(topics.next_deadline(), Some(HOLD + HOLD.since_start()));
}

#[test]
fn a_frame_closes_at_its_limit_and_takes_one_larger_message_alone() {
    let mut topics = BroadcastQueue::new(testing::origin());
    for _ in 0..3 {
        accept(&mut topics, Priority::Medium, 25 << 10).unwrap();
    }
    accept(&mut topics, Priority::Medium, 61 << 10).unwrap();
    let mut frames = Vec::new();
    for token in 1.. {
        let Some(batch) = topics.next_frame("jobs", token, Instant::ZERO) else { break };
        frames.push(batch.messages.len());
        topics.published(token, PublishOutcome::Sent, Instant::ZERO);
    }
    assert_eq!(frames, [2, 1, 1]);
}

#[test]
fn topics_and_their_queues_are_bounded() {
    let mut topics = BroadcastQueue::new(testing::origin());
    let mut taken = 0;
    for priority in [Priority::Low, Priority::Medium, Priority::High] {
        while accept(&mut topics, priority, 1).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, capacity_for(TOPIC_QUEUE_MESSAGES, priority), "{priority:?}");
    }
    let (low, shared) = (draft(Priority::Low, 1), Some(Wait::Shared(Instant::MAX)));
    assert_eq!(topics.wait_for("jobs", &low), shared, "a frame may leave");
    for index in 1..MAX_TOPICS {
        topics.accept(&index.to_string(), draft(Priority::Low, TOPIC_QUEUE_BYTES), HOLD).unwrap();
    }
    assert_eq!(topics.wait_for("one more", &low), Some(Wait::Shared(Instant::ZERO)), "waiting does not help");
    assert!(topics.accept("one more", draft(Priority::Low, 1), HOLD).is_err());
    assert!(topics.accept("1", draft(Priority::Low, 1), HOLD).is_err());
    topics.expired(HOLD);
    assert!(
        topics.accept("one more", draft(Priority::Low, 1), HOLD).is_ok(),
        "topics without work make room"
    );
}

#[test]
fn what_is_too_large_for_the_network_comes_back() {
    let mut topics = BroadcastQueue::new(testing::origin());
    accept(&mut topics, Priority::Medium, 1).unwrap();
    topics.next_frame("jobs", 1, Instant::ZERO).unwrap();
    assert_eq!(topics.published(1, PublishOutcome::TooLarge, Instant::ZERO).len(), 1);
    assert!(topics.is_empty());
}
