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

fn waiting(priority: Priority, length: usize, id: i64) -> WaitingSend {
    waiting_of(PARENT, priority, length, id)
}

fn waiting_of(client: ClientId, priority: Priority, length: usize, id: i64) -> WaitingSend {
    let mut draft = testing::draft(priority, 1, Instant::from_secs(60));
    draft.command = ReplyTo::new(client, Some(Id::Number(id)));
    WaitingSend { draft, length }
}

fn ids<'a>(sends: impl IntoIterator<Item = &'a WaitingSend>) -> Vec<i64> {
    let id = |waiting: &WaitingSend| match waiting.draft.command.id {
        Some(Id::Number(id)) => id,
        _ => panic!("no id"),
    };
    sends.into_iter().map(id).collect()
}

/// Returns a lane with this number of sends of one byte to each agent.
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
fn sends_leave_in_order_and_lines_rotate() {
    let mut lane = lane_with(&[(1, 3), (2, 2)]);
    lane.push(agent(1), waiting(Priority::High, 1, 9), NOW);
    assert!(lane.has_line(&agent(1), Priority::High) && !lane.has_line(&agent(2), Priority::High));
    let first = lane.lines_in_rotation()[0].clone();
    assert_eq!(ids(lane.serve(&first, NOW).as_ref()), [0]);
    assert_ne!(lane.lines_in_rotation()[0], first, "the line was served last");
    assert_eq!(lane.lines_in_rotation().len(), 3);
    let key = (agent(1), Priority::Medium);
    assert_eq!(ids(lane.remove_line(&key).iter()), [1, 2]);
    assert_eq!((lane.of(PARENT).count(), lane.of(PARENT).bytes(), lane.is_empty()), (3, 3, false));
    assert_eq!(lane.drain().len(), 3);
    assert_eq!((lane.of(PARENT).count(), lane.of(PARENT).bytes(), lane.next_deadline()), (0, 0, None));
}

#[test]
fn line_waits_while_recipient_makes_progress_or_max_pause_for_shared_capacity() {
    let mut lane = lane_with(&[(1, 2)]);
    let (key, late) = ((agent(1), Priority::Medium), NOW + MAX_PAUSE * 10);
    assert!(lane.may_wait(&key, Wait::Recipient(late + MAX_PAUSE), late));
    assert!(!lane.may_wait(&key, Wait::Recipient(late), late));
    assert_eq!(lane.next_deadline(), Some(late));
    assert!(!lane.may_wait(&key, Wait::Shared(Instant::MAX), NOW + MAX_PAUSE));
    lane.serve(&key, late).unwrap();
    assert!(
        lane.may_wait(&key, Wait::Shared(Instant::MAX), late),
        "the node has just accepted a send of the line"
    );
    assert!(!lane.may_wait(&key, Wait::Shared(NOW), late), "no capacity becomes free");
}

#[test]
fn send_lane_is_over_with_one_send_above_inflight_limit() {
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
fn full_send_lane_is_cut_to_share_after_max_pause() {
    let mut lane = lane_with(&[(1, 300), (2, 725)]);
    assert!(lane.end_pauses(NOW).is_empty());
    assert_eq!(lane.next_deadline(), Some(NOW + MAX_PAUSE));
    assert!(lane.end_pauses(NOW + MAX_PAUSE - Duration::from_millis(1)).is_empty());
    let cut = lane.end_pauses(NOW + MAX_PAUSE);
    assert_eq!((cut.len(), &cut[0].0, cut[0].1.len()), (1, &agent(2), 725 - SHARE_SENDS));
    let latest: Vec<i64> = (SHARE_SENDS as i64..725).rev().collect();
    assert_eq!(ids(&cut[0].1), latest, "the latest sends are removed");
    assert_eq!(lane.of(PARENT).count(), 300 + SHARE_SENDS);
    assert!(lane.end_pauses(NOW + MAX_PAUSE * 2).is_empty(), "the lane is not full");
}

#[test]
fn interrupted_pause_starts_again() {
    let mut lane = lane_with(&[(1, MAX_INFLIGHT + 1)]);
    assert!(lane.end_pauses(NOW).is_empty());
    lane.serve(&(agent(1), Priority::Medium), NOW).unwrap();
    assert!(lane.end_pauses(NOW + MAX_PAUSE).is_empty());
    lane.push(agent(1), waiting(Priority::Medium, 1, 7), NOW + MAX_PAUSE);
    assert!(lane.end_pauses(NOW + MAX_PAUSE).is_empty());
    assert!(!lane.end_pauses(NOW + MAX_PAUSE * 2).is_empty());
}

#[test]
fn full_send_lane_of_many_recipients_is_cut_until_not_over() {
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
fn cancel_removes_send_by_id() {
    let mut lane = lane_with(&[(1, 3)]);
    assert_eq!(ids(lane.cancel(PARENT, &Id::Number(1)).as_ref()), [1]);
    assert!(lane.cancel(PARENT, &Id::Number(1)).is_none());
    let key = (agent(1), Priority::Medium);
    assert_eq!(ids(lane.remove_line(&key).iter()), [0, 2]);
    assert_eq!((lane.of(PARENT).count(), lane.of(PARENT).bytes()), (0, 0));
}

#[test]
fn send_lane_limits_apply_per_client() {
    let other = ClientId(7);
    let mut lane = lane_with(&[(1, MAX_INFLIGHT)]);
    for id in 0..=MAX_INFLIGHT {
        lane.push(agent(1), waiting_of(other, Priority::Medium, 1, id as i64), NOW);
    }
    assert_eq!((lane.is_over(PARENT), lane.is_over(other)), (false, true));
    assert!(lane.end_pauses(NOW).is_empty());
    let cut: Vec<WaitingSend> =
        lane.end_pauses(NOW + MAX_PAUSE).into_iter().flat_map(|(_, sends)| sends).collect();
    assert!(cut.iter().all(|waiting| waiting.client() == other));
    assert_eq!((lane.of(PARENT).count(), lane.of(other).count()), (MAX_INFLIGHT, SHARE_SENDS));
}

#[test]
fn cancel_removes_only_send_of_same_client() {
    let other = ClientId(7);
    let mut lane = lane_with(&[(1, 2)]);
    assert!(lane.cancel(other, &Id::Number(1)).is_none());
    lane.push(agent(1), waiting_of(other, Priority::Medium, 1, 1), NOW);
    assert!(lane.cancel(other, &Id::Number(1)).is_some_and(|waiting| waiting.client() == other));
    assert_eq!((lane.of(PARENT).count(), lane.of(other).count()), (2, 0));
}
