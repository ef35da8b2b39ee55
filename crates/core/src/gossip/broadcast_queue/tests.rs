use crate::capacity::capacity_for;
use crate::gossip::broadcast_queue::*;
use crate::outgoing::testing;
use p2p_node_wire::time::Instant;

const DEADLINE: Instant = Instant::from_secs(10);

fn draft(priority: Priority, size: usize) -> OutgoingMessage {
    testing::draft(priority, size, Instant::from_secs(60))
}

fn accept(queue: &mut BroadcastQueue, priority: Priority, size: usize) -> Result<String, Box<NoRoom>> {
    queue.accept("jobs", draft(priority, size), DEADLINE)
}

#[test]
fn high_priority_broadcast_is_sent_first_with_one_frame_in_flight() {
    let mut queue = BroadcastQueue::new(testing::origin());
    accept(&mut queue, Priority::Low, 1).unwrap();
    accept(&mut queue, Priority::High, 2).unwrap();
    let batch = queue.next_frame("jobs", 1, Instant::ZERO).unwrap();
    assert_eq!(batch.messages.iter().map(|message| message.data.len()).collect::<Vec<_>>(), [2]);
    assert!(queue.next_frame("jobs", 2, Instant::ZERO).is_none(), "one frame is in flight");
    assert!(queue.published(1, PublishOutcome::Sent, Instant::ZERO).is_empty());
    assert_eq!(queue.next_frame("jobs", 3, Instant::ZERO).unwrap().messages.len(), 1);
}

#[test]
fn broadcast_without_peers_is_requeued_until_its_deadline() {
    let mut queue = BroadcastQueue::new(testing::origin());
    let first = accept(&mut queue, Priority::Medium, 1).unwrap();
    accept(&mut queue, Priority::Medium, 1).unwrap();
    queue.next_frame("jobs", 1, Instant::ZERO).unwrap();
    queue.published(1, PublishOutcome::NoPeers, Instant::ZERO);
    assert_eq!(queue.queued(), 2);
    assert_eq!(queue.next_deadline(), Some(DEADLINE));
    assert!(queue.expired(DEADLINE - Duration::from_millis(1)).is_empty());
    let expired = queue.expired(DEADLINE);
    assert_eq!((expired.len(), &expired[0].message_id), (2, &first));
    assert!(queue.is_empty());
}

#[test]
fn topics_rotate_and_topic_without_peers_backs_off() {
    let mut queue = BroadcastQueue::new(testing::origin());
    for name in ["a", "b", "c"] {
        queue.accept(name, draft(Priority::Medium, 1), DEADLINE).unwrap();
        queue.accept(name, draft(Priority::Medium, 1), DEADLINE).unwrap();
    }
    let names = |queue: &BroadcastQueue| -> Vec<String> {
        queue.topics_with_work().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&queue), ["a", "b", "c"]);
    queue.next_frame("a", 1, Instant::ZERO).unwrap();
    assert_eq!(names(&queue), ["b", "c"]);
    queue.published(1, PublishOutcome::NoPeers, Instant::ZERO);
    assert_eq!(names(&queue), ["b", "c", "a"], "topic a was served last");
    assert_eq!(queue.topics_with_work()[2].1, Instant::after_start(NO_PEERS_BACKOFF));
    queue.on_subscriber("a");
    assert_eq!(queue.topics_with_work()[2].1, Instant::ZERO);
}

#[test]
fn drain_returns_broadcasts_in_flight() {
    let mut queue = BroadcastQueue::new(testing::origin());
    accept(&mut queue, Priority::Medium, 1).unwrap();
    queue.next_frame("jobs", 1, Instant::ZERO).unwrap();
    assert!(!queue.is_empty());
    assert_eq!(queue.drain_all().len(), 1);
    assert!(queue.is_empty());
}

#[test]
fn broadcast_expires_at_its_deadline_behind_later_deadline() {
    let mut queue = BroadcastQueue::new(testing::origin());
    accept(&mut queue, Priority::Medium, 1).unwrap();
    queue.accept("jobs", draft(Priority::High, 1), DEADLINE + DEADLINE.since_start()).unwrap();
    queue.next_frame("jobs", 1, Instant::ZERO).unwrap();
    queue.published(1, PublishOutcome::NoPeers, Instant::ZERO);
    assert_eq!(queue.next_deadline(), Some(DEADLINE));
    assert_eq!(queue.expired(DEADLINE).len(), 1, "the older broadcast of lower priority");
    assert_eq!(queue.next_deadline(), Some(DEADLINE + DEADLINE.since_start()));
}

#[test]
fn broadcast_frame_closes_at_limit_and_larger_broadcast_travels_alone() {
    let mut queue = BroadcastQueue::new(testing::origin());
    for _ in 0..3 {
        accept(&mut queue, Priority::Medium, 25 << 10).unwrap();
    }
    accept(&mut queue, Priority::Medium, 61 << 10).unwrap();
    let mut frames = Vec::new();
    for token in 1.. {
        let Some(batch) = queue.next_frame("jobs", token, Instant::ZERO) else { break };
        frames.push(batch.messages.len());
        queue.published(token, PublishOutcome::Sent, Instant::ZERO);
    }
    assert_eq!(frames, [2, 1, 1]);
}

#[test]
fn broadcast_topics_and_queues_are_limited() {
    let mut queue = BroadcastQueue::new(testing::origin());
    let mut accepted = 0;
    for priority in [Priority::Low, Priority::Medium, Priority::High] {
        while accept(&mut queue, priority, 1).is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, capacity_for(TOPIC_QUEUE_MESSAGES, priority), "{priority:?}");
    }
    let (low, shared) = (draft(Priority::Low, 1), Some(Wait::Shared(Instant::MAX)));
    assert_eq!(queue.wait_for("jobs", &low), shared, "a frame may leave");
    for index in 1..MAX_TOPICS {
        queue.accept(&index.to_string(), draft(Priority::Low, TOPIC_QUEUE_BYTES), DEADLINE).unwrap();
    }
    assert_eq!(queue.wait_for("one more", &low), Some(Wait::Shared(Instant::ZERO)), "waiting does not help");
    assert!(queue.accept("one more", draft(Priority::Low, 1), DEADLINE).is_err());
    assert!(queue.accept("1", draft(Priority::Low, 1), DEADLINE).is_err());
    queue.expired(DEADLINE);
    assert!(
        queue.accept("one more", draft(Priority::Low, 1), DEADLINE).is_ok(),
        "the node drops a topic without broadcasts"
    );
}

#[test]
fn broadcast_too_large_for_gossip_is_returned() {
    let mut queue = BroadcastQueue::new(testing::origin());
    accept(&mut queue, Priority::Medium, 1).unwrap();
    queue.next_frame("jobs", 1, Instant::ZERO).unwrap();
    assert_eq!(queue.published(1, PublishOutcome::TooLarge, Instant::ZERO).len(), 1);
    assert!(queue.is_empty());
}
