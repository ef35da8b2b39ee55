use crate::client_id::ClientId;
use p2p_node_protocol::line::decode_request;
use p2p_node_protocol::{Command, ErrorCode, Event, Id, Ping, Request, Status};

use crate::effect::ExitCode;
use crate::lifecycle::Phase;
use crate::replies::reply_to::ReplyTo;
use crate::testing::{TestCore as _, core};
use crate::{Core, MAX_INFLIGHT, MAX_PAUSE};

fn request(id: &str, command: Command) -> Request {
    Request { id: Some(Id::from(id)), command }
}

fn codes(core: &mut Core) -> Vec<ErrorCode> {
    let code = |event: Event| match event {
        Event::Error(error) => Some(error.code),
        _ => None,
    };
    core.lines().into_iter().filter_map(code).collect()
}

#[test]
fn command_before_connect_is_admitted_only_without_network_use() {
    let mut core = core();
    let Core { parent, cx, .. } = &mut core;
    assert!(
        parent.admit_command(ClientId::PARENT, request("1", Command::Ping(Ping::default())), cx).is_some()
    );
    assert!(
        parent
            .admit_command(ClientId::PARENT, request("2", Command::Status(Status::default())), cx)
            .is_none()
    );
    assert_eq!(codes(&mut core), [ErrorCode::NotConnected]);
}

#[test]
fn command_during_start_is_deferred_until_ready() {
    let mut core = core();
    let Core { parent, local, gossip, mail, cx, .. } = &mut core;
    parent.start(None, ReplyTo::PARENT, cx);
    assert!(
        parent
            .admit_command(ClientId::PARENT, request("1", Command::Status(Status::default())), cx)
            .is_none()
    );
    parent.on_listening(Vec::new(), local, gossip, mail, cx);
    assert_eq!(cx.phase, Phase::Ready);
    assert_eq!(core.signals().len(), 1);
}

#[test]
fn command_with_open_id_is_refused() {
    let mut core = core();
    let Core { parent, cx, .. } = &mut core;
    cx.replies.clients.parent.open_requests.insert(Id::from("1"));
    assert!(
        parent.admit_command(ClientId::PARENT, request("1", Command::Ping(Ping::default())), cx).is_none()
    );
    assert_eq!(codes(&mut core), [ErrorCode::DuplicateId]);
}

#[test]
fn aborted_node_keeps_first_exit_code() {
    let mut core = core();
    let Core { parent, gossip, mail, cx, .. } = &mut core;
    parent.abort(ExitCode::Config, gossip, mail, cx);
    parent.abort(ExitCode::Io, gossip, mail, cx);
    assert!(matches!(cx.phase, Phase::Flushing { code: ExitCode::Config, .. }));
}

#[test]
fn deferred_send_limits_apply_per_client() {
    let other = ClientId(7);
    let mut core = core();
    assert!(core.cx.replies.clients.attach(other));
    let Core { parent, cx, .. } = &mut core;
    parent.start(None, ReplyTo::PARENT, cx);
    let send = |id: usize| {
        let line = format!(r#"{{"type":"send","id":{id},"topic":"jobs","data":1}}"#);
        decode_request(line.as_bytes()).expect("a command")
    };
    assert!(parent.admit_command(ClientId::PARENT, send(0), cx).is_none());
    for id in 0..=MAX_INFLIGHT {
        assert!(parent.can_accept_command(other, cx));
        assert!(parent.admit_command(other, send(id), cx).is_none());
    }
    assert!(!parent.can_accept_command(other, cx) && parent.can_accept_command(ClientId::PARENT, cx));
    parent.check_startup(cx);
    cx.now.mono += MAX_PAUSE;
    parent.check_startup(cx);
    assert!(!parent.deferred.is_over(other));
    assert_eq!(parent.deferred.sends_of(ClientId::PARENT).count(), 1);
    let refused = MAX_INFLIGHT + 1 - parent.deferred.sends_of(other).count();
    let lines = core.lines_by_client();
    assert_eq!((lines.len(), refused), (MAX_INFLIGHT / 2 + 1, MAX_INFLIGHT / 2 + 1));
    assert!(lines.iter().all(|(client, event)| *client == other && matches!(event, Event::Error(_))));
}
