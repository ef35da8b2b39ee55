use p2p_node_protocol::Role;
use p2p_node_wire::identity::testing::{NOW_SECS, agent, binding};
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey};
use p2p_node_wire::record::{Record, RecordHash};
use p2p_node_wire::time::Instant;
use proptest::prelude::*;

use crate::directory::record_table::*;

const NOW_MS: u64 = NOW_SECS * 1000;
const LIFE_MS: u64 = 60_000;

fn at(mono_ms: u64) -> Now {
    Now { mono: Instant::from_millis(mono_ms), unix_ms: NOW_MS + mono_ms }
}

fn record(account: &AgentKey, node: &NodeKey, generation: u64, seq: u64, name: &str) -> SignedRecord {
    let binding = Binding {
        account: account.address(),
        peer_id: node.peer_id(),
        node_key: node.public(),
        generation,
        ..binding()
    };
    let record = Record {
        network: "dev".to_owned(),
        binding: account.bind(binding).unwrap(),
        seq,
        issued_at_ms: NOW_MS,
        expires_at_ms: NOW_MS + LIFE_MS,
        addrs: Vec::new(),
        kem: None,
        role: Role::Full,
        name: name.to_owned(),
        capabilities: Vec::new(),
        topics: Vec::new(),
        topic_hashes: Vec::new(),
        claim: None,
    };
    SignedRecord::decode(record.sign(node).unwrap()).unwrap()
}

fn node(byte: u8) -> NodeKey {
    NodeKey::from_seed([byte; 32])
}

/// Returns the record of another agent. Its signature does not match, but the table does not verify
/// signatures.
fn stranger(number: usize, template: &SignedRecord, expires_at_ms: u64) -> SignedRecord {
    let mut record = template.clone();
    let mut account = [0xAB; 20];
    account[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let node = NodeKey::from_seed(std::array::from_fn(|index| account[index % 8]));
    record.record.binding.binding.account = Address::from(account);
    (record.record.binding.binding.peer_id, record.record.binding.binding.node_key) =
        (node.peer_id(), node.public());
    record.record.expires_at_ms = expires_at_ms;
    record
}

#[test]
fn higher_order_supersedes_and_equal_order_conflicts() {
    let mut table = RecordTable::default();
    let first = record(&agent(), &node(1), 1, 5, "");
    assert_eq!(table.compare(&first, NOW_MS), Freshness::New);
    assert_eq!(table.insert(first.clone(), false, |_| false, at(0)), Update::New);
    assert_eq!(table.compare(&first, NOW_MS), Freshness::Same);
    assert_eq!(table.compare(&record(&agent(), &node(1), 1, 5, "other"), NOW_MS), Freshness::Conflict);
    assert_eq!(table.compare(&record(&agent(), &node(1), 1, 4, ""), NOW_MS), Freshness::Stale);
    assert_eq!(table.compare(&record(&agent(), &node(1), 0, 9, ""), NOW_MS), Freshness::Stale);
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 1, ""), NOW_MS), Freshness::Newer);
    assert_eq!(table.lowest_generation(&agent().address(), NOW_MS), 1);
}

#[test]
fn record_stored_by_fast_clock_rejects_only_lower_generations() {
    let mut table = RecordTable::default();
    table.insert(record(&agent(), &node(1), 1, NOW_MS + 600_000, "ahead"), false, |_| false, at(0));
    let (now, older) = (record(&agent(), &node(1), 1, NOW_MS, ""), record(&agent(), &node(1), 0, NOW_MS, ""));
    assert_eq!(table.compare(&now, NOW_MS + 600_000), Freshness::Stale);
    assert_eq!(table.compare(&now, NOW_MS), Freshness::Newer);
    assert_eq!(table.compare(&older, NOW_MS), Freshness::Stale);
    // A seq as far ahead as the tolerated clock skew still bars lower ones.
    for (ahead, order) in [(30_000, Freshness::Stale), (30_001, Freshness::Newer)] {
        let mut table = RecordTable::default();
        table.insert(record(&agent(), &node(1), 1, NOW_MS + ahead, ""), false, |_| false, at(0));
        assert_eq!(table.compare(&now, NOW_MS), order, "{ahead} ms ahead");
    }
    let table =
        RecordTable::new(vec![HighestSeen::from(&record(&agent(), &node(1), 1, NOW_MS + 600_000, "ahead"))]);
    assert_eq!(table.compare(&now, NOW_MS + 600_000), Freshness::Stale);
    assert_eq!(table.compare(&now, NOW_MS), Freshness::New);
    assert_eq!(table.compare(&older, NOW_MS), Freshness::Stale);
}

#[test]
fn moved_agent_is_not_found_under_old_peer_id() {
    let mut table = RecordTable::default();
    table.insert(record(&agent(), &node(1), 0, 1, ""), false, |_| false, at(0));
    assert_eq!(table.insert(record(&agent(), &node(2), 0, 2, ""), false, |_| false, at(0)), Update::Moved);
    assert_eq!(
        table.insert(record(&agent(), &node(2), 0, 3, ""), false, |_| false, at(0)),
        Update::Refreshed
    );
    assert!(table.by_peer(&node(1).peer_id(), NOW_MS).is_none());
    assert!(table.by_peer(&node(2).peer_id(), NOW_MS).is_some());
}

#[test]
fn moved_agent_does_not_remove_other_agent_of_same_node() {
    let mut table = RecordTable::default();
    let other = AgentKey::from_bytes(&[0x33; 32]).unwrap();
    table.insert(record(&agent(), &node(1), 0, 1, ""), false, |_| false, at(0));
    table.insert(record(&other, &node(1), 0, 1, ""), false, |_| false, at(0));
    table.insert(record(&agent(), &node(2), 0, 2, ""), false, |_| false, at(0));
    let found = table.by_peer(&node(1).peer_id(), NOW_MS).map(SignedRecord::address);
    assert_eq!(found, Some(other.address()));
}

#[test]
fn expired_record_is_not_returned_but_rejects_older_records() {
    let mut table = RecordTable::default();
    let first = record(&agent(), &node(1), 2, 5, "");
    table.insert(first.clone(), false, |_| false, at(0));
    assert!(table.get(&agent().address(), NOW_MS + LIFE_MS - 1).is_some());
    assert!(table.get(&agent().address(), NOW_MS + LIFE_MS).is_none());
    assert!(table.by_peer(&node(1).peer_id(), NOW_MS + LIFE_MS).is_none());
    assert_eq!(table.iter(NOW_MS + LIFE_MS).count(), 0);
    assert_eq!(table.iter(NOW_MS + LIFE_MS - 1).count(), 1);
    assert_eq!((table.len(), table.is_empty(), table.rollback_rows()), (1, false, 0));
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 4, ""), NOW_MS), Freshness::Stale);

    table.insert(stranger(1, &first, u64::MAX), false, |_| false, at(LIFE_MS));
    assert_eq!((table.len(), table.rollback_rows()), (1, 1), "the expired record was evicted");
    table.insert(stranger(2, &first, NOW_MS + LIFE_MS), false, |_| false, at(0));
    table.insert(stranger(3, &first, u64::MAX), false, |_| false, at(LIFE_MS));
    assert_eq!((table.len(), table.rollback_rows()), (2, 2));
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 4, ""), NOW_MS), Freshness::Stale);
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 5, "other"), NOW_MS), Freshness::Conflict);
    assert_eq!(table.compare(&first, NOW_MS), Freshness::New);
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 6, ""), NOW_MS), Freshness::New);
    assert_eq!(table.lowest_generation(&agent().address(), NOW_MS), 2);
}

#[test]
fn full_record_table_evicts_least_recently_used_agent_and_keeps_its_order() {
    let mut table = RecordTable::default();
    let template = record(&agent(), &node(1), 3, 5, "");
    table.insert(template.clone(), false, |_| false, at(0));
    for number in 1..MAX_AGENTS {
        table.insert(stranger(number, &template, u64::MAX), false, |_| false, at(number as u64));
    }
    assert_eq!(table.len(), MAX_AGENTS);
    table.touch(&agent().address());
    let second = stranger(1, &template, u64::MAX);
    table.insert(stranger(MAX_AGENTS, &template, u64::MAX), false, |_| false, at(20_001));
    assert_eq!(table.len(), MAX_AGENTS);
    assert!(table.get(&agent().address(), NOW_MS).is_some());
    assert!(table.get(&second.address(), NOW_MS).is_none());
    assert_eq!(table.lowest_generation(&second.address(), NOW_MS), 3);
    let newer = SignedRecord { record: Record { seq: 6, ..second.record.clone() }, ..second };
    assert_eq!(table.insert(newer, false, |_| false, at(20_002)), Update::New);
    assert_eq!(table.len(), MAX_AGENTS);
}

#[test]
fn full_record_table_spares_agents_in_use() {
    let mut table = RecordTable::default();
    let template = record(&agent(), &node(1), 0, 5, "");
    for number in 0..MAX_AGENTS {
        table.insert(stranger(number, &template, u64::MAX), false, |_| false, at(number as u64));
    }
    let address = |number| stranger(number, &template, 0).address();
    let in_use = |record: &SignedRecord| (0..3).any(|number| record.address() == address(number));
    for number in MAX_AGENTS..MAX_AGENTS + 10 {
        table.insert(stranger(number, &template, u64::MAX), false, in_use, at(20_000 + number as u64));
    }
    let there = |number| table.get(&address(number), NOW_MS).is_some();
    assert!((0..3).all(there) && !(3..13).any(there) && there(13));
    // When all agents are in use, the table evicts one of them.
    table.insert(stranger(MAX_AGENTS + 10, &template, u64::MAX), false, |_| true, at(40_000));
    assert_eq!(table.len(), MAX_AGENTS);
}

#[test]
fn full_record_table_evicts_expired_records_first() {
    let mut table = RecordTable::default();
    let template = record(&agent(), &node(1), 0, 5, "");
    for number in 0..MAX_AGENTS {
        let end = if number == MAX_AGENTS - 1 { NOW_MS + 15_000 } else { u64::MAX };
        table.insert(stranger(number, &template, end), false, |_| false, at(number as u64));
    }
    table.insert(template.clone(), false, |_| false, at(15_000));
    assert_eq!(table.len(), MAX_AGENTS);
    assert!(table.get(&stranger(0, &template, 0).address(), NOW_MS).is_some());
    assert!(table.get(&stranger(MAX_AGENTS - 1, &template, 0).address(), NOW_MS).is_none());
}

#[test]
fn rollback_rows_are_kept_up_to_limit_and_oldest_evicted_first() {
    const BOUND: usize = MAX_AGENTS + MAX_HIGHEST_SEEN;
    let mut table = RecordTable::default();
    let template = record(&agent(), &node(1), 1, 5, "");
    for number in 0..=BOUND {
        table.insert(stranger(number, &template, NOW_MS + 1), false, |_| false, at(0));
        table.evict_expired(NOW_MS + 1);
    }
    assert!(table.is_empty());
    assert_eq!(table.rollback_guard.len(), BOUND);
    assert_eq!(table.lowest_generation(&stranger(0, &template, 0).address(), NOW_MS), 0);
    assert_eq!(table.lowest_generation(&stranger(1, &template, 0).address(), NOW_MS), 1);
    assert_eq!(table.lowest_generation(&stranger(BOUND, &template, 0).address(), NOW_MS), 1);
    for number in 0..MAX_AGENTS {
        table.insert(stranger(BOUND + 1 + number, &template, u64::MAX), false, |_| false, at(0));
    }
    assert_eq!((table.len(), table.rollback_guard.len()), (MAX_AGENTS, MAX_HIGHEST_SEEN));
}

#[test]
fn future_generation_rejects_no_record_until_its_time() {
    let future = NOW_SECS + 31;
    let ahead = record(&agent(), &node(1), future, NOW_MS, "ahead");
    let present = record(&agent(), &node(2), NOW_SECS, NOW_MS, "present");
    for mut table in [RecordTable::new(vec![HighestSeen::from(&ahead)]), {
        let mut table = RecordTable::default();
        table.insert(ahead.clone(), false, |_| false, at(0));
        table
    }] {
        assert_eq!(table.lowest_generation(&agent().address(), NOW_MS), 0);
        assert!(matches!(table.compare(&present, NOW_MS), Freshness::New | Freshness::Newer));
        table.insert(present.clone(), false, |_| false, at(0));
        assert_eq!(table.compare(&present, NOW_MS), Freshness::Same);
        assert_eq!(table.lowest_generation(&agent().address(), NOW_MS), NOW_SECS);
        // The table keeps the higher order, because our clock may have been wrong.
        assert_eq!(table.lowest_generation(&agent().address(), NOW_MS + 1000), future);
        assert_eq!(table.compare(&present, NOW_MS + 1000), Freshness::Stale);
        table.evict(&agent().address());
        assert_eq!(table.lowest_generation(&agent().address(), NOW_MS + 1000), future);
    }
}

#[test]
fn restored_rollback_rows_reject_older_records() {
    let stored = record(&agent(), &node(1), 2, 5, "");
    let table = RecordTable::new(vec![HighestSeen::from(&stored)]);
    assert!(table.is_empty());
    assert_eq!(table.lowest_generation(&agent().address(), NOW_MS), 2);
    assert_eq!(table.compare(&stored, NOW_MS), Freshness::New, "the same record is accepted again");
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 5, "other"), NOW_MS), Freshness::Conflict);
    assert_eq!(table.compare(&record(&agent(), &node(1), 2, 4, ""), NOW_MS), Freshness::Stale);
    assert_eq!(table.compare(&record(&agent(), &node(1), 1, 9, ""), NOW_MS), Freshness::Stale);
    assert_eq!(table.compare(&record(&agent(), &node(1), 3, 1, ""), NOW_MS), Freshness::New);
}

#[test]
fn restored_rows_above_limit_keep_latest_rows_and_highest_row_of_agent() {
    let template = record(&agent(), &node(1), 1, 5, "");
    let row = |number| HighestSeen::from(&stranger(number, &template, 0));
    let table = RecordTable::new((0..=MAX_AGENTS + MAX_HIGHEST_SEEN).map(row).collect());
    assert_eq!(
        (table.lowest_generation(&row(0).address, NOW_MS), table.lowest_generation(&row(1).address, NOW_MS)),
        (0, 1)
    );
    let rows = [3, 9, 4].map(|generation| HighestSeen { generation, ..row(0) });
    assert_eq!(RecordTable::new(rows.into()).lowest_generation(&row(0).address, NOW_MS), 9);
}

proptest! {
    /// For any sequence of inserts, evictions and restarts, the table never accepts a record below
    /// the highest order that it accepted, nor another record of that order.
    #[test]
    fn record_table_never_accepts_lower_or_conflicting_order(steps in proptest::collection::vec(
        (0..3_usize, 0..3_u64, 0..4_u64, any::<bool>(), any::<bool>()), 1..40,
    )) {
        let template = record(&agent(), &node(1), 0, 0, "");
        let mut table = RecordTable::default();
        let mut rows: BTreeMap<Address, HighestSeen> = BTreeMap::new();
        for (number, generation, seq, other, restart) in steps {
            let mut record = stranger(number, &template, if other { NOW_MS + 1 } else { u64::MAX });
            record.record.binding.binding.generation = generation;
            record.record.seq = seq;
            record.hash = RecordHash([u8::from(other); 32]);
            record.bytes = vec![u8::from(other)].into();
            let row = HighestSeen::from(&record);
            let known = rows.get(&row.address);
            let expected = match known.map(|known| (row.order().cmp(&known.order()), known.hash == row.hash)) {
                None | Some((Ordering::Greater, _)) => [Freshness::New, Freshness::Newer],
                Some((Ordering::Less, _)) => [Freshness::Stale; 2],
                Some((Ordering::Equal, true)) => [Freshness::New, Freshness::Same],
                Some((Ordering::Equal, false)) => [Freshness::Conflict; 2],
            };
            let order = table.compare(&record, NOW_MS);
            prop_assert!(expected.contains(&order), "{order:?} instead of {expected:?}");
            if matches!(order, Freshness::New | Freshness::Newer) {
                table.insert(record, false, |_| false, at(0));
                rows.insert(row.address, row);
            }
            table.evict_expired(NOW_MS + 1);
            if restart {
                table = RecordTable::new(rows.values().cloned().collect());
            }
            for (address, row) in &rows {
                prop_assert_eq!(table.lowest_generation(address, NOW_MS), row.generation);
            }
        }
    }
}

#[test]
fn flood_of_records_from_others_evicts_no_agent_that_was_met() {
    let mut table = RecordTable::default();
    let template = record(&agent(), &node(1), 0, 5, "");
    table.insert(template.clone(), false, |_| false, at(0));
    let (heard, met_later) = (stranger(0, &template, u64::MAX), stranger(1, &template, u64::MAX));
    table.insert(heard.clone(), true, |_| false, at(0));
    table.insert(met_later.clone(), true, |_| false, at(0));
    table.meet(&met_later.address());
    for number in 2..MAX_AGENTS + 50 {
        table.insert(stranger(number, &template, u64::MAX), true, |_| false, at(number as u64));
    }
    let is_there = |record: &SignedRecord| table.get(&record.address(), NOW_MS).is_some();
    assert_eq!((table.len(), table.hearsay.len()), (MAX_AGENTS, MAX_AGENTS - 2));
    assert_eq!([&template, &heard, &met_later].map(is_there), [true, false, true]);
    assert!(table.is_met(&template.address()) && !table.is_met(&heard.address()));
}

#[test]
fn agents_of_one_node_are_bounded() {
    let mut table = RecordTable::default();
    let names: Vec<AgentKey> = (1..=100).map(|byte| AgentKey::from_bytes(&[byte; 32]).unwrap()).collect();
    for agent in &names {
        table.insert(record(agent, &node(1), 0, 5, ""), true, |_| false, at(0));
    }
    assert_eq!(table.len(), MAX_AGENTS_OF_NODE);
    let latest = table.by_peer(&node(1).peer_id(), NOW_MS).map(SignedRecord::address);
    assert_eq!(latest, names.last().map(AgentKey::address));
    assert_eq!(
        table.drain_evicted(),
        names[..100 - MAX_AGENTS_OF_NODE].iter().map(AgentKey::address).collect::<Vec<_>>()
    );
}

#[test]
fn bytes_of_records_are_bounded() {
    const LONGEST: usize = p2p_node_wire::record::MAX_RECORD_BYTES;
    let mut table = RecordTable::default();
    let mut large = record(&agent(), &node(1), 0, 5, "");
    large.bytes = vec![1; LONGEST].into();
    let fit = MAX_RECORD_BYTES / LONGEST;
    for number in 0..fit + 10 {
        table.insert(stranger(number, &large, u64::MAX), true, |_| false, at(number as u64));
    }
    assert_eq!((table.len(), table.bytes()), (fit, fit * LONGEST));
}
