use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::Counter;
use p2p_node_wire::identity::NodeKey;
use p2p_node_wire::record::kad_key;

use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::gate::reputation::Conduct;
use crate::gate::reputation::conduct::Report;
use crate::signal::Signal;
use crate::testing::{TestCore as _, core};

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
