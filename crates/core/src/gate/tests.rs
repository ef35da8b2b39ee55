use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;

use super::pending_verification::{MAX_PARKED, MailRequest, Pending};
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::signal::Signal;
use crate::testing::core;

fn request(token: u64) -> Pending {
    Pending::Mail(MailRequest { token, peer: PeerId::random(), frame: Bytes::from_static(b"frame") })
}

#[test]
fn a_binding_is_checked_once_and_all_that_waited_for_it_comes_back() {
    let mut core = core();
    let Core { gate, cx, .. } = &mut core;
    let binding = cx.identity.binding.clone();
    for token in 0..3 {
        assert_eq!(gate.check_binding(&binding, || request(token), cx), None);
    }
    assert_eq!(cx.effects.iter().filter(|effect| matches!(effect, Effect::Crypto(_))).count(), 1);
    gate.on_binding_checked(binding.hash(), Some(true), cx);
    let tokens = |signal: &Signal| match signal {
        Signal::MailReceived(request) => request.token,
        other => panic!("{other:?}"),
    };
    assert_eq!(cx.signals.iter().map(tokens).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(gate.check_binding(&binding, || unreachable!("it is cached"), cx), Some(true));
    assert_eq!(gate.pending_verification.number(), 0);
}

#[test]
fn a_full_queue_of_checks_answers_busy_and_counts() {
    let mut core = core();
    let Core { gate, cx, .. } = &mut core;
    let binding = cx.identity.binding.clone();
    for token in 0..=MAX_PARKED as u64 {
        assert_eq!(gate.check_binding(&binding, || request(token), cx), None);
    }
    assert_eq!(cx.stats.get(Counter::CryptoPoolFull), 1);
    let busy = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::AnswerMail { .. }));
    assert_eq!(cx.effects.iter().filter(|effect| busy(effect)).count(), 1);
    assert_eq!(gate.pending_verification.number(), MAX_PARKED);
}

#[test]
fn a_check_that_did_not_run_drops_what_waited() {
    let mut core = core();
    let Core { gate, cx, .. } = &mut core;
    let binding = cx.identity.binding.clone();
    assert_eq!(gate.check_binding(&binding, || request(1), cx), None);
    gate.on_binding_checked(binding.hash(), None, cx);
    assert!(cx.signals.is_empty());
    assert_eq!((cx.stats.get(Counter::CryptoPoolFull), gate.pending_verification.number()), (1, 0));
}
