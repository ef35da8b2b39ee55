use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;

use super::pending_verification::{MAX_CHECKS, MAX_PENDING, MailRequest, Pending};
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
        Signal::MailChecked(request) => request.token,
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
fn neighbour_fills_neither_the_room_of_others_nor_the_crypto_pool() {
    let mut core = core();
    let Core { gate, cx, .. } = &mut core;
    let pending = |peer| Pending::Mail(MailRequest { token: 1, peer, frame: Bytes::from_static(b"frame") });
    let (flooder, other) = (PeerId::random(), PeerId::random());
    let mut push = |number: usize, peer| {
        let mut binding = cx.identity.binding.clone();
        binding.binding.not_after += number as u64;
        gate.pending_verification.push(binding.hash(), pending(peer)).is_ok()
    };
    let checks = (0..2 * MAX_CHECKS).filter(|number| push(*number, flooder)).count();
    assert!((MAX_CHECKS / 2..MAX_CHECKS).contains(&checks), "{checks}");
    assert!(push(2 * MAX_CHECKS, other), "another neighbour still has its bindings checked");
    let objects = checks + (0..2 * MAX_PENDING).filter(|_| push(0, flooder)).count();
    assert!((MAX_PENDING / 2..MAX_PENDING).contains(&objects), "{objects}");
    assert!(push(0, other), "another neighbour still has room");
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
