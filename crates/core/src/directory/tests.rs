use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::identity::testing::{self, binding};
use p2p_node_wire::identity::{Binding, NodeKey};
use p2p_node_wire::record::{Record, SignedRecord, kad_key};

use super::confirmation::MAX_CONFIRMED;
use super::on_record::MAX_REPORTED_CONFLICTS;
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::gate::reputation::Conduct;
use crate::gate::reputation::conduct::Report;
use crate::signal::Signal;
use crate::testing::{START, TestCore as _, core};

fn agent(number: usize) -> Address {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

const SOMEBODY: Address = Address::repeat_byte(7);

#[test]
fn lookup_raises_signals_at_its_start_and_its_end() {
    let mut core = core();
    let Core { directory, local, cx, .. } = &mut core;
    assert!(directory.resolve(SOMEBODY, cx));
    let token = match cx.effects.pop_front() {
        Some(Effect::Network(NetworkCommand::GetRecord { token, key })) => {
            assert_eq!(key.as_ref(), kad_key("dev", &SOMEBODY));
            token
        }
        other => panic!("{other:?}"),
    };
    directory.on_query_ended(token, local, cx);
    let signals = core.signals();
    let expected = |signals: &[Signal]| {
        let [Signal::LookupStarted(started, SOMEBODY), end] = signals else { return false };
        *started == token && matches!(end, Signal::LookupEnded { address: SOMEBODY, found: false })
    };
    assert!(expected(&signals), "{signals:?}");
}

#[test]
fn record_under_another_key_or_from_another_node_is_counted_and_dropped() {
    let mut core = core();
    let Core { gate, directory, local, cx, .. } = &mut core;
    local.set_addrs(Vec::new(), cx);
    local.reissue_if_due(cx);
    let bytes = local.record.current().expect("a record").bytes.clone();
    let (owner, other) = (cx.identity.peer, NodeKey::from_seed([77; 32]).peer_id());
    let misplaced = Bytes::copy_from_slice(&kad_key("dev", &SOMEBODY));
    directory.on_put(&owner, &misplaced, bytes.clone(), gate, cx);
    let blamed = |signals: Vec<Signal>| match signals[..] {
        [Signal::Conduct(Report { node, conduct: Conduct::InvalidRecord, .. })] => Some(node),
        _ => None,
    };
    assert_eq!(cx.stats.get(Counter::RecordsMisplaced), 1);
    assert_eq!(blamed(cx.signals.drain(..).collect()), Some(owner));
    let ours = Bytes::copy_from_slice(&kad_key("dev", &cx.identity.address));
    directory.on_put(&other, &ours, bytes.clone(), gate, cx);
    assert_eq!(cx.stats.get(Counter::RecordsOfOthers), 1, "not of its owner");
    assert_eq!(blamed(cx.signals.drain(..).collect()), Some(other));
    directory.on_put(&owner, &ours, bytes, gate, cx);
    assert!(matches!(core.signals()[..], [Signal::RecordReceived(_)]));
}

#[test]
fn minimum_generation_is_zero_for_unknown_agent_and_own_for_local_agent() {
    let core = core();
    let Core { directory, local, cx, .. } = &core;
    assert_eq!(directory.minimum_generation(&SOMEBODY, local, cx), 0);
    assert_eq!(directory.minimum_generation(&cx.identity.address, local, cx), local.record.order().0);
}

#[test]
fn confirmed_agents_are_bounded_and_the_oldest_goes_first() {
    let mut core = core();
    core.directory.is_partial = true;
    for number in 0..=MAX_CONFIRMED {
        core.directory.on_heard(agent(number), &mut core.cx);
    }
    let confirmed = &core.directory.confirmed;
    assert_eq!(confirmed.len(), MAX_CONFIRMED);
    assert!(confirmed.get(&agent(0)).is_none() && confirmed.get(&agent(1)).is_some());
}

#[test]
fn reported_conflicts_are_bounded() {
    let mut core = core();
    let node = NodeKey::from_seed([7; 32]);
    let of_node = Binding { peer_id: node.peer_id(), node_key: node.public(), ..binding() };
    let mut signed = SignedRecord::decode(
        Record {
            network: "dev".to_owned(),
            binding: testing::agent().bind(of_node).expect("a binding"),
            seq: 1,
            issued_at_ms: START.unix_ms,
            expires_at_ms: START.unix_ms + 3_600_000,
            addrs: Vec::new(),
            kem: None,
            role: Role::Full,
            name: String::new(),
            capabilities: Vec::new(),
            topics: Vec::new(),
            topic_hashes: Vec::new(),
            claim: None,
        }
        .sign(&node)
        .expect("a signature"),
    )
    .expect("a record");
    for number in 0..MAX_REPORTED_CONFLICTS + 10 {
        signed.record.binding.binding.account = agent(number);
        core.directory.report_conflict(&signed, true, &mut core.cx);
    }
    assert_eq!(core.directory.reported_conflicts.len(), MAX_REPORTED_CONFLICTS);
    assert!(core.directory.reported_conflicts.contains_key(&agent(MAX_REPORTED_CONFLICTS + 9)));
}
