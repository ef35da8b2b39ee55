use crate::client_id::ClientId;
use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{DeliveryState, ErrorCode, Event, Priority};
use p2p_node_wire::time::Instant;

use crate::Core;
use crate::effect::{Effect, ExitCode, NetworkCommand};
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
