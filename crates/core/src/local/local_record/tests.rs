use p2p_node_wire::identity::binding::MAX_BINDING_SIGNATURE_BYTES;
use p2p_node_wire::identity::testing::{NOW_SECS, agent, binding, node};
use p2p_node_wire::record::{MAX_RECORD_NAME_BYTES, RecordHash};
use p2p_node_wire::seal::kem::Keyring;
use p2p_node_wire::seal::suite::Suite;

use crate::local::local_record::*;

fn at(seconds: f64) -> Now {
    let mono = Instant::after_start(Duration::from_secs_f64(seconds));
    Now { mono, unix_ms: NOW_SECS * 1000 + mono.since_start().as_millis() as u64 }
}

fn local() -> (LocalRecord, Jitter) {
    (LocalRecord::new(agent().bind(binding()).unwrap(), "alice".into(), Role::Full, None), Jitter::new(1))
}

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[test]
fn first_record_is_published_at_once_and_announced_after_subscription() {
    let (mut local, mut jitter) = local();
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert!(local.current().is_none(), "there are no addresses yet");
    local.set_addrs(vec![addr(1)], at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert!(local.current().is_some());
    assert_eq!(local.due(at(0.0), 0, &mut jitter), Due { publish: true, announce: false });
    assert_eq!(local.due(at(0.0), 0, &mut jitter), Due::default());
    local.announcements_subscribed(at(1.0), 0);
    assert!(local.due(at(1.1), 0, &mut jitter).announce);
}

#[test]
fn record_changes_are_debounced_and_orders_ascend() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let first = local.current().unwrap().clone();
    local.set_topics(&BTreeSet::from(["jobs".to_owned()]), at(0.0));
    local.reissue(at(1.9), &node(), &mut jitter).unwrap();
    assert_eq!(local.current().unwrap().bytes, first.bytes);
    let late = Now { unix_ms: at(0.0).unix_ms - 5, ..at(2.0) };
    local.reissue(late, &node(), &mut jitter).unwrap();
    let second = local.current().unwrap();
    assert_eq!(second.record.topics, ["jobs"]);
    assert!(second.order() > first.order(), "even when the clock goes back");
    assert!(local.is_ours(&first) && local.is_ours(second));
}

#[test]
fn record_is_reissued_every_ten_minutes() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let first = local.current().unwrap().bytes.clone();
    local.reissue(at(539.0), &node(), &mut jitter).unwrap();
    assert_eq!(local.current().unwrap().bytes, first);
    local.reissue(at(661.0), &node(), &mut jitter).unwrap();
    assert_ne!(local.current().unwrap().bytes, first);
    assert!(local.due(at(661.0), 0, &mut jitter).publish);
}

#[test]
fn failed_put_is_retried_and_new_server_gets_record_at_once() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert!(local.due(at(0.0), 0, &mut jitter).publish);
    local.put_failed(at(0.0), &mut jitter);
    assert!(!local.due(at(0.5), 0, &mut jitter).publish);
    assert!(local.due(at(2.0), 0, &mut jitter).publish);
    local.on_dht_server(at(2.1));
    assert!(local.due(at(2.1), 0, &mut jitter).publish);
}

#[test]
fn put_backoff_grows_until_success() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let mut now = 0.0;
    let mut longest = 0.0f64;
    for _ in 0..32 {
        assert!(local.due(at(now), 0, &mut jitter).publish);
        local.put_failed(at(now), &mut jitter);
        let next = local.publish_at.unwrap().since_start().as_secs_f64();
        longest = longest.max(next - now);
        now = next;
    }
    assert!((30.0..=61.0).contains(&longest), "{longest} s");
    assert!(local.due(at(now), 0, &mut jitter).publish);
    local.put_succeeded();
    local.put_failed(at(now), &mut jitter);
    let pause = local.publish_at.unwrap().since_start().as_secs_f64() - now;
    assert!((1.0..=1.5).contains(&pause), "{pause} s");
}

#[test]
fn announcement_interval_grows_with_number_of_agents() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.announcements_subscribed(at(0.0), 0);
    local.reissue(at(0.1), &node(), &mut jitter).unwrap();
    assert!(local.due(at(0.1), 500, &mut jitter).announce);
    assert!(!local.due(at(800.0), 500, &mut jitter).announce);
    assert!(local.due(at(1101.0), 500, &mut jitter).announce);
}

#[test]
fn announcement_interval_is_an_hour_at_most() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.announcements_subscribed(at(0.0), 0);
    local.reissue(at(0.1), &node(), &mut jitter).unwrap();
    assert!(local.due(at(0.1), 10_000, &mut jitter).announce);
    assert!(!local.due(at(3200.0), 10_000, &mut jitter).announce);
    assert!(local.due(at(3970.0), 10_000, &mut jitter).announce);
    local.announcements_subscribed(at(3971.0), usize::MAX);
    assert!(local.due(at(3970.0 + 3601.0), 10_000, &mut jitter).announce);
}

#[test]
fn changed_record_is_announced_at_once_and_reissued_record_at_regular_time() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.announcements_subscribed(at(0.0), 0);
    local.reissue(at(0.1), &node(), &mut jitter).unwrap();
    assert!(local.due(at(0.1), 5000, &mut jitter).announce);
    local.reissue(at(700.0), &node(), &mut jitter).unwrap();
    assert_eq!(local.due(at(700.0), 5000, &mut jitter), Due { publish: true, announce: false });
    local.set_addrs(vec![addr(2)], at(700.0));
    local.reissue(at(702.0), &node(), &mut jitter).unwrap();
    assert!(local.due(at(702.0), 5000, &mut jitter).announce);
}

#[test]
fn no_action_is_due_without_record() {
    let (mut local, mut jitter) = local();
    local.announcements_subscribed(at(0.0), 0);
    local.on_dht_server(at(0.0));
    assert_eq!(local.next_deadline(), None);
    assert_eq!(local.due(at(1.0), 0, &mut jitter), Due::default());
}

#[test]
fn expired_binding_issues_no_record_and_stops_publication() {
    let (mut local, mut jitter) = local();
    let life = (local.binding.binding.not_after - NOW_SECS) as f64;
    local.set_addrs(vec![addr(1)], at(0.0));
    local.announcements_subscribed(at(0.0), 0);
    local.reissue(at(life - 1.0), &node(), &mut jitter).unwrap();
    let last = local.current().unwrap().clone();
    assert_eq!(last.record.expires_at_ms, last.record.binding.binding.not_after * 1000);
    let refused = local.reissue(at(life + 700.0), &node(), &mut jitter);
    assert_eq!(refused, Err(RecordError::Binding(BindingError::Expired)));
    assert_eq!(local.due(at(life + 700.0), 0, &mut jitter), Due::default());
    assert!(local.next_deadline().unwrap() > at(life + 700.0).mono, "the deadline is in the future");
}

#[test]
fn own_records_are_recognised_up_to_limit() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    let mut records = Vec::new();
    for round in 0..=MAX_ISSUED {
        local.reissue(at(700.0 * round as f64), &node(), &mut jitter).unwrap();
        records.push(local.current().unwrap().clone());
    }
    assert!(!local.is_ours(&records[0]));
    assert!(records[1..].iter().all(|record| local.is_ours(record)));
}

#[test]
fn conflicting_node_is_reported_once_for_all_its_records() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let template = local.current().unwrap().clone();
    let record = |number: usize, hash: u8| {
        let mut record = SignedRecord { hash: RecordHash([hash; 32]), ..template.clone() };
        record.record.binding.binding.peer_id = NodeKey::from_seed([number as u8; 32]).peer_id();
        record
    };
    for number in 0..=MAX_CONFLICTS {
        assert!(local.record_conflict(&record(number, 1)));
        assert!(!local.record_conflict(&record(number, 2)));
    }
    assert!(local.record_conflict(&record(0, 3)), "the oldest conflict was evicted");
}

#[test]
fn addresses_above_record_limit_are_left_out() {
    let (mut local, mut jitter) = local();
    let long = |digit: &str| -> Multiaddr { format!("/dns4/{}/tcp/1", digit.repeat(200)).parse().unwrap() };
    let few = vec![long("1"), long("2"), long("3"), addr(1)];
    local.set_addrs(few.clone(), at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert_eq!(local.current().unwrap().record.addrs, [&few[..2], &few[3..]].concat());
    let many: Vec<_> = (1..20).map(addr).collect();
    local.set_addrs(many.clone(), at(10.0));
    local.reissue(at(12.0), &node(), &mut jitter).unwrap();
    assert_eq!(local.current().unwrap().record.addrs, many[..MAX_RECORD_ADDRS]);
}

#[test]
fn topics_above_record_limit_are_left_out() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    let mut topics: BTreeSet<String> = (0..10).map(|index| format!("{index}{}", "x".repeat(99))).collect();
    topics.extend(["zz".to_owned(), crate::ANNOUNCEMENTS.to_owned()]);
    assert_eq!(local.set_topics(&topics, at(0.0)), 5);
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    assert_eq!(
        local.current().unwrap().record.topics.len(),
        6,
        "a short topic fits after a long topic was left out"
    );
}

#[test]
fn record_order_exceeds_earlier_process_after_clock_was_set_back() {
    let order = |generation, seq| {
        let highest = HighestSeen { address: agent().address(), generation, seq, hash: RecordHash([0; 32]) };
        let binding = agent().bind(binding()).unwrap();
        let mut local = LocalRecord::new(binding, String::new(), Role::Full, Some(&highest));
        local.set_addrs(vec![addr(1)], at(0.0));
        assert!(local.reissue(at(0.0), &node(), &mut Jitter::new(1)).unwrap());
        assert!(!local.reissue(at(0.0), &node(), &mut Jitter::new(1)).unwrap());
        local.order()
    };
    let now_ms = NOW_SECS * 1000;
    assert_eq!(order(0, now_ms - 1), (0, now_ms));
    assert_eq!(order(0, now_ms + 5000), (0, now_ms + 5001));
    assert_eq!(order(1, now_ms + 5000), (0, now_ms), "a new generation starts its seq again");
}

#[test]
fn record_from_fast_clock_does_not_hide_earlier_seq() {
    let (mut local, mut jitter) = local();
    local.set_addrs(vec![addr(1)], at(0.0));
    let mut issue = |local: &mut LocalRecord, mono_secs, ahead_ms| {
        let now = at(mono_secs);
        let now = Now { unix_ms: now.unix_ms.saturating_add_signed(ahead_ms), ..now };
        local.clock_jumped(now);
        assert!(local.reissue(now, &node(), &mut jitter).unwrap());
        local.order().1
    };
    let first = issue(&mut local, 0.0, 0);
    let ahead = issue(&mut local, 5.0, 3_600_000);
    assert!(ahead > first + 3_000_000);
    // The clock is corrected, up to some seconds.
    let second = issue(&mut local, 10.0, -20_000);
    assert_eq!(second, first + 1, "peers stored the first record and rejected the record from the future");
    // The seq of an earlier process in a record of a peer counts in the same way.
    assert!(issue(&mut local, 15.0, 3_600_000) > ahead);
    local.raise_seq(second + 1000, at(16.0));
    assert_eq!(issue(&mut local, 17.0, -20_000), second + 1001);
    // The seq of an earlier process in the store counts too.
    let seq = local.order().1;
    let highest = HighestSeen { address: agent().address(), generation: 0, seq, hash: RecordHash([0; 32]) };
    let binding = agent().bind(binding()).unwrap();
    let mut next = LocalRecord::new(binding, String::new(), Role::Full, Some(&highest));
    next.set_addrs(vec![addr(1)], at(18.0));
    issue(&mut next, 18.0, 3_600_000);
    assert_eq!(issue(&mut next, 19.0, -30_000), seq + 1);
}

#[test]
fn record_with_all_fields_at_limit_is_issued() {
    let mut signed = agent().bind(binding()).unwrap();
    signed.signature = vec![7; MAX_BINDING_SIGNATURE_BYTES].into();
    let name = "n".repeat(MAX_RECORD_NAME_BYTES);
    let (mut local, mut jitter) = (LocalRecord::new(signed, name, Role::Full, None), Jitter::new(1));
    let host = |number: usize| format!("/dns4/{number}{}/tcp/65535", "h".repeat(66)).parse().unwrap();
    local.set_addrs((0..MAX_RECORD_ADDRS).map(host).collect(), at(0.0));
    let topic = |number| format!("{number:02}{}", "t".repeat(6));
    local.set_topics(&(0..MAX_RECORD_TAGS).map(topic).collect(), at(0.0));
    local.set_kem(Keyring::new([1; 32], Suite::default(), at(0.0)).current(), at(0.0));
    local.reissue(at(0.0), &node(), &mut jitter).unwrap();
    let record = local.current().unwrap();
    assert_eq!((record.record.addrs.len(), record.record.topics.len()), (MAX_RECORD_ADDRS, MAX_RECORD_TAGS));
    assert!(record.bytes.len() > 3000, "{} bytes", record.bytes.len());
}
