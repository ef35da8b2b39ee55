use crate::client_id::ClientId;
use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, DeliveryState, ErrorCode, Event, Priority};
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{Frame, Payload, Response, Scope, Sealed};
use p2p_node_wire::time::Instant;

use crate::Core;
use crate::crypto_task::{CryptoTask, TaskOutcome};
use crate::cx::Cx;
use crate::effect::{Effect, ExitCode, NetworkCommand};
use crate::mail::Mail;
use crate::mail::decryption::DecryptOutcome;
use crate::outgoing::testing::draft;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;
use crate::testing::{TestCore as _, core, core_with};

const RECIPIENT: Address = Address::repeat_byte(9);

#[test]
fn message_to_unknown_agent_starts_a_lookup_and_expires_as_not_found() {
    let mut core = core();
    let Core { mail, local, directory, peers, gossip, cx, .. } = &mut core;
    cx.replies.clients.parent.protocol_v1 = true;
    let message = draft(Priority::Medium, 10, Instant::from_secs(1));
    mail.admit_mail(RECIPIENT, message, cx).expect("room");
    mail.send_mail_due(local, directory, peers, gossip, cx);
    let lookups = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::GetRecord { .. }));
    assert_eq!(cx.effects.iter().filter(|effect| lookups(effect)).count(), 1);
    cx.now.mono = Instant::from_secs(2);
    mail.send_mail_due(local, directory, peers, gossip, cx);
    assert!(mail.outbox.is_empty());
    let ended = core.lines().into_iter().find_map(|event| match event {
        Event::Delivery(delivery) => Some((delivery.state, delivery.code)),
        _ => None,
    });
    assert_eq!(ended, Some((DeliveryState::Expired, Some(ErrorCode::PeerNotFound))));
}

#[test]
fn message_with_a_store_is_accepted_once_persisted() {
    let mut core = core_with(|config| config.durable = true);
    let Core { mail, gate, cx, .. } = &mut core;
    let message = draft(Priority::Medium, 10, Instant::from_secs(1));
    let command = ReplyTo::new(ClientId::PARENT, Some("1".into()));
    let message = crate::outgoing::OutgoingMessage { command, ..message };
    mail.admit_mail(RECIPIENT, message, cx).expect("room");
    assert!(matches!(cx.effects.pop_front(), Some(Effect::PersistMessage { number: 1, .. })));
    assert!(mail.recipients_to_flush.is_empty(), "the message waits for the store");
    mail.on_persisted(1, gate, cx);
    assert!(mail.recipients_to_flush.contains(&RECIPIENT));
    assert!(matches!(core.lines()[..], [Event::Result(_)]));
}

#[test]
fn store_lost_to_another_host_fails_pending_writes() {
    let mut core = core();
    let Core { mail, cx, .. } = &mut core;
    mail.on_store_lost("other", cx);
    assert!(matches!(core.signals()[..], [Signal::Abort(ExitCode::Io)]));
}

#[test]
fn failing_store_is_reported_once() {
    let mut core = core();
    let Core { mail, cx, .. } = &mut core;
    mail.on_store_failed("no space".to_owned(), cx);
    mail.on_store_failed("no space".to_owned(), cx);
    assert_eq!(core.lines().len(), 1);
}

#[test]
fn sessions_end_when_their_peer_disconnects() {
    let mut core = core();
    let Core { mail, .. } = &mut core;
    mail.on_peer_disconnected(&PeerId::random(), Some(RECIPIENT));
    assert_eq!(mail.sessions.len(), 0);
}

/// Neighbours share the room for frames that the crypto pool decrypts. One that floods leaves room for others,
/// and the node asks the senders of what has no room to try again.
#[test]
fn frames_to_decrypt_are_bounded_and_shared_by_neighbours() {
    let mut core = core();
    let Core { mail, local, gate, directory, peers, cx, .. } = &mut core;
    let kem = local.keyring.current().expect("a key");
    let sealed =
        Sealed { kem_id: kem.id, suite: kem.suite, enc: vec![0; 32].into(), ciphertext: vec![0; 100].into() };
    let data = cx.signed_frame(Scope::Topic("t".to_owned()), Payload::Sealed(sealed));
    let frame = Frame::decode(data, MAX_GOSSIP_FRAME_BYTES).expect("a frame");
    let open = |mail: &mut Mail, peer, cx: &mut Cx| match mail.open_mail(1, peer, &frame, local, cx) {
        DecryptOutcome::Waits => true,
        DecryptOutcome::Answer(Response::Busy(_)) => false,
        _ => panic!("neither taken nor put off"),
    };
    let flooder = PeerId::random();
    assert_eq!((0..1_000).filter(|_| open(mail, flooder, cx)).count(), 154, "four fifths");
    let row = |mail: &Mail| {
        let usage = mail.usage().into_iter().find(|usage| usage.name == "frames to decrypt").expect("a row");
        (usage.size, usage.limit)
    };
    let others = (0..1_000).filter(|_| open(mail, PeerId::random(), cx)).count();
    assert_eq!((others, row(mail)), (192 - 154, (192, 192)));
    assert_eq!(cx.stats.get(Counter::CryptoPoolFull), 2_000 - 192);
    let token = cx.effects.iter().find_map(|effect| match effect {
        Effect::Crypto(CryptoTask::Open(task)) => Some(task.token),
        _ => None,
    });
    mail.on_opened(token.expect("a task"), TaskOutcome::Failed, gate, directory, peers, cx);
    assert!(!open(mail, flooder, cx), "one that has its share");
    assert!(open(mail, PeerId::random(), cx) && !open(mail, PeerId::random(), cx));
}
