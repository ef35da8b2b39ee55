use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::identity::SignedBinding;

use super::binding_check::BindingFault;
use super::pending_verification::{MAX_CHECKS, MAX_PENDING, MailRequest, Pending};
use crate::Core;
use crate::effect::{Effect, NetworkCommand};
use crate::signal::Signal;
use crate::testing::{START, core, core_with};

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
    assert_eq!(gate.check_binding(&binding, || unreachable!("the result is cached"), cx), Some(Ok(())));
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
        gate.pending_verification.push(&binding, pending(peer)).is_ok()
    };
    let checks = (0..2 * MAX_CHECKS).filter(|number| push(*number, flooder)).count();
    assert!(push(2 * MAX_CHECKS, other), "another neighbour still has its bindings checked");
    let objects = checks + (0..2 * MAX_PENDING).filter(|_| push(0, flooder)).count();
    assert_eq!((checks, objects), (205, 819), "four fifths");
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

/// Returns a binding with a chain id, which the node's own key did not sign.
fn of_contract(core: &Core, signature: usize) -> SignedBinding {
    let mut signed = core.cx.identity.binding.clone();
    signed.binding.chain_id = 1;
    if signature != signed.signature.len() {
        signed.signature = vec![7; signature].into();
    }
    signed
}

fn with_chain() -> Core {
    core_with(|config| config.has_chain = true)
}

fn questions(core: &Core) -> usize {
    let is_question =
        |effect: &&Effect| matches!(effect, Effect::Chain(crate::chain::ChainCommand::AskWallet(_)));
    core.cx.effects.iter().filter(is_question).count()
}

fn check(core: &mut Core, binding: &SignedBinding) -> Option<Result<(), BindingFault>> {
    core.gate.check_binding(binding, || request(1), &mut core.cx)
}

#[test]
fn wallet_is_asked_only_if_no_key_made_the_signature() {
    let mut core = with_chain();
    let plain = core.cx.identity.binding.clone();
    check(&mut core, &plain);
    core.gate.on_binding_checked(plain.hash(), Some(false), &mut core.cx);
    assert_eq!((check(&mut core, &plain), questions(&core)), (Some(Err(BindingFault::Forged)), 0));

    // 65 bytes may be of a key, so the crypto pool goes first.
    let short = of_contract(&core, 65);
    check(&mut core, &short);
    assert_eq!(questions(&core), 0);
    core.gate.on_binding_checked(short.hash(), Some(false), &mut core.cx);
    assert_eq!(questions(&core), 1);
    core.gate.on_wallet_asked(short.hash(), Some(true), &mut core.cx);
    assert_eq!((core.cx.signals.len(), check(&mut core, &short)), (2, Some(Ok(()))));
    let long = of_contract(&core, 200);
    check(&mut core, &long);
    assert_eq!(questions(&core), 2, "no key makes 200 bytes");
    core.gate.on_wallet_asked(long.hash(), Some(false), &mut core.cx);
    assert_eq!(check(&mut core, &long), Some(Err(BindingFault::Unconfirmed)));
}

#[test]
fn binding_of_a_wallet_is_unconfirmed_without_rpc_servers_and_waits_when_none_answers() {
    let mut core = core_with(|_| {});
    let signed = of_contract(&core, 200);
    assert_eq!((check(&mut core, &signed), questions(&core)), (None, 0));
    assert_eq!(check(&mut core, &signed), Some(Err(BindingFault::Unconfirmed)));

    let mut core = with_chain();
    assert_eq!(check(&mut core, &signed), None);
    core.gate.on_wallet_asked(signed.hash(), None, &mut core.cx);
    assert_eq!((core.cx.stats.get(Counter::WalletsUnanswered), core.cx.signals.len()), (1, 0));
    assert_eq!((check(&mut core, &signed), questions(&core)), (None, 2), "the next frame asks again");
}

#[test]
fn wallet_in_use_is_asked_again_before_its_answer_is_old_and_nothing_waits_for_that() {
    let mut core = with_chain();
    let signed = of_contract(&core, 200);
    check(&mut core, &signed);
    core.gate.on_wallet_asked(signed.hash(), Some(true), &mut core.cx);
    for (minutes, asked) in [(1, 1), (9, 2), (60, 3)] {
        core.cx.now.mono = START.mono + Duration::from_secs(minutes * 60);
        assert_eq!(check(&mut core, &signed), Some(Ok(())), "after {minutes} minutes");
        assert_eq!(questions(&core), asked, "after {minutes} minutes");
        core.gate.on_wallet_asked(signed.hash(), None, &mut core.cx);
    }
}
