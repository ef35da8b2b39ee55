use std::time::Duration;

use super::*;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Command, Connect, Request};

use crate::client_id::ClientId;
use crate::effect::{Effect, ExitCode, NetworkCommand};
use crate::input::Input;
use crate::signal::Signal;
use crate::testing::{START, TestCore as _, core, core_with};
use crate::{Core, Now, STATUS};

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")
}

fn later(secs: u64) -> Now {
    Now { mono: START.mono + Duration::from_secs(secs), unix_ms: START.unix_ms + secs * 1000 }
}

#[test]
fn addresses_added_after_ready_enter_next_record() {
    let mut core = core();
    let Core { local, cx, .. } = &mut core;
    local.set_addrs(vec![addr(1)], cx);
    local.reissue_if_due(cx);
    assert_eq!(local.record.current().expect("a record").record.addrs, [addr(1)]);
    local.set_addrs(vec![addr(1), addr(2)], cx);
    cx.now = later(60);
    local.reissue_if_due(cx);
    assert_eq!(local.record.current().expect("a record").record.addrs, [addr(1), addr(2)]);
}

#[test]
fn clock_jump_is_returned_once_and_logged() {
    let mut core = core();
    let Core { local, cx, .. } = &mut core;
    cx.now = Now { unix_ms: START.unix_ms + 3_600_000, ..START };
    assert_eq!(local.check_clock_jump(cx), Some(3_600_000));
    assert_eq!(local.check_clock_jump(cx), None);
    assert_eq!(core.lines().len(), 1);
}

#[test]
fn expired_wallet_binding_aborts_with_config_exit_code() {
    let mut core = core_with(|config| config.agent = None);
    let Core { local, cx, .. } = &mut core;
    cx.now = later(10 * 365 * 24 * 3600);
    assert!(!local.check_binding_expiry(cx));
    assert!(matches!(core.signals()[..], [Signal::Abort(ExitCode::Config)]));
}

#[test]
fn new_local_record_is_put_into_dht() {
    let mut core = core();
    let Core { local, cx, .. } = &mut core;
    local.set_addrs(vec![addr(1)], cx);
    local.publish_local_record(0, cx);
    let puts = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::PutRecord { .. }));
    assert_eq!(core.effects().iter().filter(|effect| puts(effect)).count(), 1);
}

#[test]
fn node_with_expired_binding_publishes_nothing() {
    let mut core = core_with(|config| config.agent = None);
    let request = Request { id: None, command: Command::Connect(Connect::default()) };
    core.handle(Input::Command { client: ClientId::PARENT, request }, START);
    core.handle(Input::Listening { addrs: vec![addr(1)] }, START);
    let peer = PeerId::random();
    core.handle(Input::Connected { peer, dialer: false }, START);
    core.admit(peer);
    core.handle(Input::PeerSubscribed { peer, topic: STATUS.to_owned() }, START);
    core.handle_timeout(START);
    core.effects();
    core.handle_timeout(later(120));
    let publishes = |effect: &Effect| matches!(effect, Effect::Network(NetworkCommand::Publish { .. }));
    assert!(core.effects().iter().any(publishes), "it publishes its status while the binding is valid");
    core.handle_timeout(later(10 * 365 * 24 * 3600));
    let effects = core.effects();
    assert!(!effects.iter().any(publishes), "{effects:?}");
    assert!(core.usage().iter().all(|usage| usage.size <= usage.limit));
}
