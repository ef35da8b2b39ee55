use std::time::Duration;

use crate::outgoing::testing;
use crate::parent::send_lane::*;
use crate::replies::reply_to::ReplyTo;
use p2p_node_wire::time::Instant;

const NOW: Instant = Instant::from_secs(1);
const PARENT: ClientId = ClientId::PARENT;

fn agent(number: u8) -> To {
    To::Agent(Address::repeat_byte(number))
}

fn waiting(priority: Priority, length: usize, id: i64) -> Waiting {
    waiting_of(PARENT, priority, length, id)
}

fn waiting_of(client: ClientId, priority: Priority, length: usize, id: i64) -> Waiting {
    let mut draft = testing::draft(priority, 1, Instant::from_secs(60));
    draft.command = ReplyTo::new(client, Some(Id::Number(id)));
    Waiting { draft, length }
}

fn ids<'a>(sends: impl IntoIterator<Item = &'a Waiting>) -> Vec<i64> {
    let id = |waiting: &Waiting| match waiting.draft.command.id {
        Some(Id::Number(id)) => id,
        _ => panic!("no id"),
    };
    sends.into_iter().map(id).collect()
}

/// A lane with so many sends of one byte to an agent.
fn lane_with(sends: &[(u8, usize)]) -> SendLane {
    let mut lane = SendLane::default();
    for (to, number) in sends {
        for id in 0..*number {
            lane.push(agent(*to), waiting(Priority::Medium, 1, id as i64), NOW);
        }
    }
    lane
}

#[test]
fn sends_leave_in_order_and_lines_take_turns() {
    let mut lane = lane_with(&[(1, 3), (2, 2)]);
    lane.push(agent(1), waiting(Priority::High, 1, 9), NOW);
    assert!(lane.has_line(&agent(1), Priority::High) && !lane.has_line(&agent(2), Priority::High));
    let first = lane.in_turn()[0].clone();
    assert_eq!(ids(lane.serve(&first, NOW).as_ref()), [0]);
    assert_ne!(lane.in_turn()[0], first, "it had its turn");
    assert_eq!(lane.in_turn().len(), 3);
    let key = (agent(1), Priority::Medium);
    assert_eq!(ids(lane.give_up(&key).iter()), [1, 2]);
    assert_eq!((lane.of(PARENT).count(), lane.of(PARENT).bytes(), lane.is_empty()), (3, 3, false));
    assert_eq!(lane.drain().len(), 3);
    assert_eq!((lane.of(PARENT).count(), lane.of(PARENT).bytes(), lane.next_deadline()), (0, 0, None));
}

#[test]
fn a_line_waits_as_long_as_its_recipient_moves_or_the_longest_pause_where_all_share() {
    let mut lane = lane_with(&[(1, 2)]);
    let (key, late) = ((agent(1), Priority::Medium), NOW + MAX_PAUSE * 10);
    assert!(lane.waits_on(&key, Wait::Recipient(late + MAX_PAUSE), late));
    assert!(!lane.waits_on(&key, Wait::Recipient(late), late));
    assert_eq!(lane.next_deadline(), Some(late));
    assert!(!lane.waits_on(&key, Wait::Shared(Instant::MAX), NOW + MAX_PAUSE));
    lane.serve(&key, late).unwrap();
    assert!(lane.waits_on(&key, Wait::Shared(Instant::MAX), late), "the one before it has just left");
    assert!(!lane.waits_on(&key, Wait::Shared(NOW), late), "nothing moves");
}

#[test]
fn the_lane_is_full_at_what_a_parent_may_have_unanswered_and_holds_one_more() {
    let lane = lane_with(&[(1, MAX_INFLIGHT)]);
    assert!(!lane.is_over(PARENT));
    let lane = lane_with(&[(1, MAX_INFLIGHT), (2, 1)]);
    assert!(lane.is_over(PARENT));
    let mut lane = SendLane::default();
    lane.push(agent(1), waiting(Priority::Medium, MAX_INFLIGHT_BYTES, 1), NOW);
    assert!(!lane.is_over(PARENT));
    lane.push(agent(1), waiting(Priority::Medium, 1, 1), NOW);
    assert!(lane.is_over(PARENT));
}

#[test]
fn after_the_longest_pause_those_with_most_in_a_full_lane_keep_half_of_it() {
    let mut lane = lane_with(&[(1, 300), (2, 725)]);
    assert!(lane.end_pauses(NOW).is_empty());
    assert_eq!(lane.next_deadline(), Some(NOW + MAX_PAUSE));
    assert!(lane.end_pauses(NOW + MAX_PAUSE - Duration::from_millis(1)).is_empty());
    let cut = lane.end_pauses(NOW + MAX_PAUSE);
    assert_eq!((cut.len(), &cut[0].0, cut[0].1.len()), (1, &agent(2), 725 - SHARE_SENDS));
    let latest: Vec<i64> = (SHARE_SENDS as i64..725).rev().collect();
    assert_eq!(ids(&cut[0].1), latest, "the latest of them");
    assert_eq!(lane.of(PARENT).count(), 300 + SHARE_SENDS);
    assert!(lane.end_pauses(NOW + MAX_PAUSE * 2).is_empty(), "it is not full");
}

#[test]
fn a_pause_that_ended_in_between_begins_anew() {
    let mut lane = lane_with(&[(1, MAX_INFLIGHT + 1)]);
    assert!(lane.end_pauses(NOW).is_empty());
    lane.serve(&(agent(1), Priority::Medium), NOW).unwrap();
    assert!(lane.end_pauses(NOW + MAX_PAUSE).is_empty());
    lane.push(agent(1), waiting(Priority::Medium, 1, 7), NOW + MAX_PAUSE);
    assert!(lane.end_pauses(NOW + MAX_PAUSE).is_empty());
    assert!(!lane.end_pauses(NOW + MAX_PAUSE * 2).is_empty());
}

#[test]
fn a_lane_full_of_many_is_cut_until_it_is_not() {
    let sends: Vec<(u8, usize)> = (0..205).map(|to| (to, 5)).collect();
    let mut lane = lane_with(&sends);
    lane.end_pauses(NOW);
    let cut: usize = lane.end_pauses(NOW + MAX_PAUSE).iter().map(|(_, cut)| cut.len()).sum();
    assert_eq!((cut, lane.is_over(PARENT)), (1, false));
    let mut lane = SendLane::default();
    for to in 0..5 {
        lane.push(agent(to), waiting(Priority::Low, 1 << 20, 1), NOW);
    }
    lane.end_pauses(NOW);
    let cut: usize = lane.end_pauses(NOW + MAX_PAUSE).iter().map(|(_, cut)| cut.len()).sum();
    assert_eq!((cut, lane.of(PARENT).bytes()), (1, 4 << 20));
}

#[test]
fn a_send_is_taken_out_by_its_id() {
    let mut lane = lane_with(&[(1, 3)]);
    assert_eq!(ids(lane.cancel(PARENT, &Id::Number(1)).as_ref()), [1]);
    assert!(lane.cancel(PARENT, &Id::Number(1)).is_none());
    let key = (agent(1), Priority::Medium);
    assert_eq!(ids(lane.give_up(&key).iter()), [0, 2]);
    assert_eq!((lane.of(PARENT).count(), lane.of(PARENT).bytes()), (0, 0));
}

#[test]
fn each_client_has_the_limits_of_the_lane_for_itself() {
    let other = ClientId(7);
    let mut lane = lane_with(&[(1, MAX_INFLIGHT)]);
    for id in 0..=MAX_INFLIGHT {
        lane.push(agent(1), waiting_of(other, Priority::Medium, 1, id as i64), NOW);
    }
    assert_eq!((lane.is_over(PARENT), lane.is_over(other)), (false, true));
    assert!(lane.end_pauses(NOW).is_empty());
    let cut: Vec<Waiting> =
        lane.end_pauses(NOW + MAX_PAUSE).into_iter().flat_map(|(_, sends)| sends).collect();
    assert!(cut.iter().all(|waiting| waiting.client() == other));
    assert_eq!((lane.of(PARENT).count(), lane.of(other).count()), (MAX_INFLIGHT, SHARE_SENDS));
}

#[test]
fn a_client_cancels_its_own_send_only() {
    let other = ClientId(7);
    let mut lane = lane_with(&[(1, 2)]);
    assert!(lane.cancel(other, &Id::Number(1)).is_none());
    lane.push(agent(1), waiting_of(other, Priority::Medium, 1, 1), NOW);
    assert!(lane.cancel(other, &Id::Number(1)).is_some_and(|waiting| waiting.client() == other));
    assert_eq!((lane.of(PARENT).count(), lane.of(other).count()), (2, 0));
}
