use p2p_node_wire::identity::binding::MAX_BINDING_SIGNATURE_BYTES;
use p2p_node_wire::identity::testing::{NOW_SECS, agent, binding, node};
use p2p_node_wire::record::{MAX_RECORD_NAME_BYTES, RecordHash};
use p2p_node_wire::seal::kem::Keyring;

use crate::local::local_record::*;

fn at(seconds: f64) -> Now {
    let mono = Instant::after_start(Duration::from_secs_f64(seconds));
    Now { mono, unix_ms: NOW_SECS * 1000 + mono.since_start().as_millis() as u64 }
}

fn presence() -> (LocalRecord, Jitter) {
    (LocalRecord::new(agent().bind(binding()).unwrap(), "alice".into(), Role::Full, None), Jitter::new(1))
}

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[test]
fn the_first_record_is_made_and_published_at_once_and_announced_when_heard() {
    let (mut presence, mut jitter) = presence();
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert!(presence.current().is_none(), "there are no addresses yet");
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert!(presence.current().is_some());
    assert_eq!(presence.due(at(0.0), 0, &mut jitter), Due { publish: true, announce: false });
    assert_eq!(presence.due(at(0.0), 0, &mut jitter), Due::default());
    presence.announcements_subscribed(at(1.0), 0);
    assert!(presence.due(at(1.1), 0, &mut jitter).announce);
}

#[test]
fn changes_are_gathered_and_orders_ascend() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let first = presence.current().unwrap().clone();
    presence.set_topics(&BTreeSet::from(["jobs".to_owned()]), at(0.0));
    presence.reissue(at(1.9), &node(), &mut jitter).unwrap();
    assert_eq!(presence.current().unwrap().bytes, first.bytes);
    let late = Now { unix_ms: at(0.0).unix_ms - 5, ..at(2.0) };
    presence.reissue(late, &node(), &mut jitter).unwrap();
    let second = presence.current().unwrap();
    assert_eq!(second.record.topics, ["jobs"]);
    assert!(second.order() > first.order(), "even when the clock goes back");
    assert!(presence.is_ours(&first) && presence.is_ours(second));
}

#[test]
fn it_is_refreshed_about_every_ten_minutes() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let first = presence.current().unwrap().bytes.clone();
    presence.reissue(at(539.0), &node(), &mut jitter).unwrap();
    assert_eq!(presence.current().unwrap().bytes, first);
    presence.reissue(at(661.0), &node(), &mut jitter).unwrap();
    assert_ne!(presence.current().unwrap().bytes, first);
    assert!(presence.due(at(661.0), 0, &mut jitter).publish);
}

#[test]
fn a_failed_put_is_repeated_and_a_new_server_is_told_at_once() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert!(presence.due(at(0.0), 0, &mut jitter).publish);
    presence.put_failed(at(0.0), &mut jitter);
    assert!(!presence.due(at(0.5), 0, &mut jitter).publish);
    assert!(presence.due(at(2.0), 0, &mut jitter).publish);
    presence.server_known(at(2.1));
    assert!(presence.due(at(2.1), 0, &mut jitter).publish);
}

#[test]
fn puts_that_fail_wait_longer_until_one_succeeds() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let mut now = 0.0;
    let mut longest = 0.0f64;
    for _ in 0..32 {
        assert!(presence.due(at(now), 0, &mut jitter).publish);
        presence.put_failed(at(now), &mut jitter);
        let next = presence.publish_at.unwrap().since_start().as_secs_f64();
        longest = longest.max(next - now);
        now = next;
    }
    assert!((30.0..=61.0).contains(&longest), "{longest} s");
    assert!(presence.due(at(now), 0, &mut jitter).publish);
    presence.put_succeeded();
    presence.put_failed(at(now), &mut jitter);
    let pause = presence.publish_at.unwrap().since_start().as_secs_f64() - now;
    assert!((1.0..=1.5).contains(&pause), "{pause} s");
}

#[test]
fn announcements_thin_out_as_the_network_grows() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.announcements_subscribed(at(0.0), 0);
    presence.reissue(at(0.1), &node(), &mut jitter).unwrap();
    assert!(presence.due(at(0.1), 500, &mut jitter).announce);
    assert!(!presence.due(at(800.0), 500, &mut jitter).announce);
    assert!(presence.due(at(1101.0), 500, &mut jitter).announce);
}

#[test]
fn changes_are_announced_at_once_and_refreshments_in_their_turn() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.announcements_subscribed(at(0.0), 0);
    presence.reissue(at(0.1), &node(), &mut jitter).unwrap();
    assert!(presence.due(at(0.1), 5000, &mut jitter).announce);
    presence.reissue(at(700.0), &node(), &mut jitter).unwrap();
    assert_eq!(presence.due(at(700.0), 5000, &mut jitter), Due { publish: true, announce: false });
    presence.set_addrs(vec![addr(2)], at(700.0));
    presence.reissue(at(702.0), &node(), &mut jitter).unwrap();
    assert!(presence.due(at(702.0), 5000, &mut jitter).announce);
}

#[test]
fn without_a_record_nothing_is_due() {
    let (mut presence, mut jitter) = presence();
    presence.announcements_subscribed(at(0.0), 0);
    presence.server_known(at(0.0));
    assert_eq!(presence.next_deadline(), None);
    assert_eq!(presence.due(at(1.0), 0, &mut jitter), Due::default());
}

#[test]
fn a_binding_that_has_ended_makes_no_record_and_the_old_one_is_told_no_more() {
    let (mut presence, mut jitter) = presence();
    let life = (presence.binding.binding.not_after - NOW_SECS) as f64;
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.announcements_subscribed(at(0.0), 0);
    presence.reissue(at(life - 1.0), &node(), &mut jitter).unwrap();
    let last = presence.current().unwrap().clone();
    assert_eq!(last.record.expires_at_ms, last.record.binding.binding.not_after * 1000);
    let refused = presence.reissue(at(life + 700.0), &node(), &mut jitter);
    assert_eq!(refused, Err(RecordError::Binding(BindingError::Expired)));
    assert_eq!(presence.due(at(life + 700.0), 0, &mut jitter), Due::default());
    assert!(presence.next_deadline().unwrap() > at(life + 700.0).mono, "and nobody waits in a circle");
}

#[test]
fn our_own_records_are_recognised_up_to_the_bound() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    let mut records = Vec::new();
    for round in 0..=MAX_ISSUED {
        presence.reissue(at(700.0 * round as f64), &node(), &mut jitter).unwrap();
        records.push(presence.current().unwrap().clone());
    }
    assert!(!presence.is_ours(&records[0]));
    assert!(records[1..].iter().all(|record| presence.is_ours(record)));
}

#[test]
fn each_node_with_our_address_is_a_conflict_once_however_often_it_refreshes_its_record() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let template = presence.current().unwrap().clone();
    let record = |number: usize, hash: u8| {
        let mut record = SignedRecord { hash: RecordHash([hash; 32]), ..template.clone() };
        record.record.binding.binding.peer_id = NodeKey::from_seed([number as u8; 32]).peer_id();
        record
    };
    for number in 0..=MAX_CONFLICTS {
        assert!(presence.conflicts_with(&record(number, 1)));
        assert!(!presence.conflicts_with(&record(number, 2)));
    }
    assert!(presence.conflicts_with(&record(0, 3)), "the oldest is forgotten");
}

#[test]
fn addresses_take_the_room_there_is() {
    let (mut presence, mut jitter) = presence();
    let long = |digit: &str| -> Multiaddr { format!("/dns4/{}/tcp/1", digit.repeat(200)).parse().unwrap() };
    let few = vec![long("1"), long("2"), long("3"), addr(1)];
    presence.set_addrs(few.clone(), at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert_eq!(presence.current().unwrap().record.addrs, [&few[..2], &few[3..]].concat());
    let many: Vec<_> = (1..20).map(addr).collect();
    presence.set_addrs(many.clone(), at(10.0));
    presence.reissue(at(12.0), &node(), &mut jitter).unwrap();
    assert_eq!(presence.current().unwrap().record.addrs, many[..MAX_RECORD_ADDRS]);
}

#[test]
fn topics_take_the_room_there_is() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    let mut topics: BTreeSet<String> = (0..10).map(|index| format!("{index}{}", "x".repeat(99))).collect();
    topics.extend(["zz".to_owned(), crate::ANNOUNCEMENTS.to_owned()]);
    assert_eq!(presence.set_topics(&topics, at(0.0)), 5);
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert_eq!(
        presence.current().unwrap().record.topics.len(),
        6,
        "a short one fits where a long one did not"
    );
}

#[test]
fn records_are_above_those_of_an_earlier_process_even_if_the_clock_was_set_back() {
    let order = |generation, seq| {
        let highest = HighestSeen { address: agent().address(), generation, seq, hash: RecordHash([0; 32]) };
        let binding = agent().bind(binding()).unwrap();
        let mut presence = LocalRecord::new(binding, String::new(), Role::Full, Some(&highest));
        presence.set_addrs(vec![addr(1)], at(0.0));
        assert!(presence.reissue(at(0.0), &node(), &mut Jitter::new(1)).unwrap());
        assert!(!presence.reissue(at(0.0), &node(), &mut Jitter::new(1)).unwrap());
        presence.order()
    };
    let now_ms = NOW_SECS * 1000;
    assert_eq!(order(0, now_ms - 1), (0, now_ms));
    assert_eq!(order(0, now_ms + 5000), (0, now_ms + 5001));
    assert_eq!(order(1, now_ms + 5000), (0, now_ms), "another generation has another clock");
}

#[test]
fn a_record_of_a_clock_that_was_ahead_hides_no_earlier_seq() {
    let (mut presence, mut jitter) = presence();
    presence.set_addrs(vec![addr(1)], at(0.0));
    let mut issue = |presence: &mut LocalRecord, mono_secs, ahead_ms| {
        let now = at(mono_secs);
        let now = Now { unix_ms: now.unix_ms.saturating_add_signed(ahead_ms), ..now };
        presence.clock_jumped(now);
        assert!(presence.reissue(now, &node(), &mut jitter).unwrap());
        presence.order().1
    };
    let first = issue(&mut presence, 0.0, 0);
    let ahead = issue(&mut presence, 5.0, 3_600_000);
    assert!(ahead > first + 3_000_000);
    // The clock is put right, but for some seconds.
    let second = issue(&mut presence, 10.0, -20_000);
    assert_eq!(second, first + 1, "peers have the first record and refused the one of the future");
    // What a peer has of an earlier process counts in the same way.
    assert!(issue(&mut presence, 15.0, 3_600_000) > ahead);
    presence.raise_seq(second + 1000, at(16.0));
    assert_eq!(issue(&mut presence, 17.0, -20_000), second + 1001);
    // So does what the store has of one.
    let seq = presence.order().1;
    let highest = HighestSeen { address: agent().address(), generation: 0, seq, hash: RecordHash([0; 32]) };
    let binding = agent().bind(binding()).unwrap();
    let mut next = LocalRecord::new(binding, String::new(), Role::Full, Some(&highest));
    next.set_addrs(vec![addr(1)], at(18.0));
    issue(&mut next, 18.0, 3_600_000);
    assert_eq!(issue(&mut next, 19.0, -30_000), seq + 1);
}

#[test]
fn a_record_with_all_that_it_may_have_is_made() {
    let mut signed = agent().bind(binding()).unwrap();
    signed.signature = vec![7; MAX_BINDING_SIGNATURE_BYTES].into();
    let name = "n".repeat(MAX_RECORD_NAME_BYTES);
    let (mut presence, mut jitter) = (LocalRecord::new(signed, name, Role::Full, None), Jitter::new(1));
    let host = |number: usize| format!("/dns4/{number}{}/tcp/65535", "h".repeat(66)).parse().unwrap();
    presence.set_addrs((0..MAX_RECORD_ADDRS).map(host).collect(), at(0.0));
    let topic = |number| format!("{number:02}{}", "t".repeat(6));
    presence.set_topics(&(0..MAX_RECORD_TAGS).map(topic).collect(), at(0.0));
    presence.set_kem(Keyring::new([1; 32], at(0.0)).current(), at(0.0));
    presence.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let record = presence.current().unwrap();
    assert_eq!((record.record.addrs.len(), record.record.topics.len()), (MAX_RECORD_ADDRS, MAX_RECORD_TAGS));
    assert!(record.bytes.len() > 3000, "{} bytes", record.bytes.len());
}
