use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;

use super::pending_verification::{MAX_PENDING, MailRequest, Pending};
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::signal::Signal;
use crate::testing::core;

fn request(token: u64) -> Pending {
    Pending::Mail(MailRequest { token, peer: PeerId::random(), frame: Bytes::from_static(b"frame") })
}

#[test]
fn binding_check_runs_once_and_releases_all_pending_frames() {
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
    assert_eq!(gate.check_binding(&binding, || unreachable!("the result is cached"), cx), Some(true));
    assert_eq!(gate.pending_verification.len(), 0);
}

#[test]
fn full_pending_verifications_answer_busy() {
    let mut core = core();
    let Core { gate, cx, .. } = &mut core;
    let binding = cx.identity.binding.clone();
    for token in 0..=MAX_PENDING as u64 {
        assert_eq!(gate.check_binding(&binding, || request(token), cx), None);
    }
    assert_eq!(cx.stats.get(Counter::CryptoPoolFull), 1);
    let busy = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::AnswerMail { .. }));
    assert_eq!(cx.effects.iter().filter(|effect| busy(effect)).count(), 1);
    assert_eq!(gate.pending_verification.len(), MAX_PENDING);
}

#[test]
fn rejected_binding_check_drops_pending_frames() {
    let mut core = core();
    let Core { gate, cx, .. } = &mut core;
    let binding = cx.identity.binding.clone();
    assert_eq!(gate.check_binding(&binding, || request(1), cx), None);
    gate.on_binding_checked(binding.hash(), None, cx);
    assert!(cx.signals.is_empty());
    assert_eq!((cx.stats.get(Counter::CryptoPoolFull), gate.pending_verification.len()), (1, 0));
}
