//! Commands between `connect` and `ready`. The node reads and defers them, in their order, so that
//! it always notices the end of stdin behind them.

use std::collections::VecDeque;
use std::time::Duration;

use multiaddr::Multiaddr;
use p2p_node_protocol::{
    Command, Counter, ErrorCode, Event, Id, Level, Limits, PROTOCOL_VERSION, Ready, Request,
};
use p2p_node_wire::time::Instant;

use crate::Phase;
use crate::budget::{Budget, Limit};
use crate::command_limits::INFLIGHT;
use crate::command_limits::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};
use crate::cx::Cx;
use crate::effect::{ExitCode, NetworkCommand};
use crate::gossip::Gossip;
use crate::local::Local;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::signal::Signal;

/// Features of this node beyond the commands of the first sidecar. A parent must not rely on a
/// feature that is missing here.
const FEATURES: [&str; 5] = ["base64", "block", "cancel", "gossip", "peers"];

/// Longest wait for the sockets to report their addresses. Then the node is ready with the
/// addresses that it has. Our choice: with a network interface sockets report within milliseconds,
/// without one they never do.
pub(crate) const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// What ends the node after the deferred commands.
#[derive(Debug)]
enum End {
    Eof,
    Shutdown(Option<Id>),
}

/// The deferred `send` commands that stay after a pause.
const HALF: Limit = Limit { count: MAX_INFLIGHT / 2, bytes: MAX_INFLIGHT_BYTES / 2 };

/// Commands that wait for `ready`.
#[derive(Debug, Default)]
pub(crate) struct DeferredCommands {
    requests: VecDeque<Request>,
    /// The deferred `send` commands, with the bytes of their `data`.
    sends: Budget,
    over_since: Option<Instant>,
    /// What ends the node after the commands, and when the node stops waiting for `ready`.
    end: Option<(End, Instant)>,
}

/// Returns the bytes of `data` of a `send`, and `None` for other commands.
fn data_bytes(request: &Request) -> Option<usize> {
    match &request.command {
        Command::Send(send) => Some(send.data.get().len()),
        _ => None,
    }
}

impl DeferredCommands {
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn sends(&self) -> usize {
        self.sends.count()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sends.bytes()
    }

    /// Returns `true` if more `send` commands wait than a parent may have unanswered.
    pub(crate) fn is_over(&self) -> bool {
        self.sends.is_over(INFLIGHT)
    }

    fn push(&mut self, request: Request) {
        if let Some(bytes) = data_bytes(&request) {
            self.sends.add(bytes);
        }
        self.requests.push_back(request);
    }

    fn remove(&mut self, index: usize) -> Option<Request> {
        let request = self.requests.remove(index)?;
        if let Some(bytes) = data_bytes(&request) {
            self.sends.remove(bytes);
        }
        Some(request)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let pause = self.over_since.map(|since| since + MAX_PAUSE);
        self.end.as_ref().map(|(_, deadline)| *deadline).into_iter().chain(pause).min()
    }
}

impl Parent {
    /// Defers a command until `ready`. Before `ready` the node answers with errors only.
    pub(crate) fn hold(&mut self, request: Request, cx: &mut Cx) {
        let is_send = matches!(request.command, Command::Send(_));
        if self.deferred.end.is_some() {
            return refuse_held(
                [request],
                ErrorCode::ShuttingDown,
                "the node is closing and accepts no commands",
                cx,
            );
        }
        if let Command::Shutdown(_) = request.command {
            cx.replies.open_requests.extend(request.id.clone());
            self.deferred.end = Some((End::Shutdown(request.id), ready_by(cx)));
            return;
        }
        if self.deferred.is_over() || self.deferred.len() > 2 * MAX_INFLIGHT {
            return refuse_held(
                [request],
                ErrorCode::Busy,
                "too many commands wait for `ready`; send this one again after `ready`",
                cx,
            );
        }
        let ids = if is_send { &mut cx.replies.open_sends } else { &mut cx.replies.open_requests };
        ids.extend(request.id.clone());
        cx.stats.count(Counter::CommandsHeld);
        self.deferred.push(request);
    }

    /// Records that stdin ended before `ready`.
    pub(crate) fn hold_end(&mut self, cx: &Cx) {
        let deadline = ready_by(cx);
        self.deferred.end.get_or_insert((End::Eof, deadline));
    }

    /// Ends a pause of stdin, or the node, that has waited too long for `ready`.
    pub(crate) fn keep_starting(&mut self, cx: &mut Cx) {
        let now = cx.now;
        let Phase::Starting { report_by, .. } = &mut cx.phase else { return };
        if report_by.take_if(|report_by| *report_by <= now.mono).is_some() {
            cx.network(NetworkCommand::ReportListening);
        }
        if self.deferred.end.as_ref().is_some_and(|(_, deadline)| *deadline <= now.mono) {
            let reason = match self.deferred.end {
                Some((End::Shutdown(_), _)) => "shutdown",
                _ => "eof",
            };
            return self.close(reason, None, cx);
        }
        if !self.deferred.is_over() {
            self.deferred.over_since = None;
            return;
        }
        if now.mono < *self.deferred.over_since.get_or_insert(now.mono) + MAX_PAUSE {
            return;
        }
        self.deferred.over_since = None;
        // Refuse the latest `send` commands, down to half of the limits.
        let mut index = self.deferred.len();
        while index > 0 && self.deferred.sends.is_over(HALF) {
            index -= 1;
            if self.deferred.requests.get(index).and_then(data_bytes).is_some() {
                let request = self.deferred.remove(index);
                cx.stats.count(Counter::SendsRefusedAfterPause);
                refuse_held(
                    request,
                    ErrorCode::Busy,
                    "the node is not ready yet; send this one again after `ready`",
                    cx,
                );
            }
        }
    }

    /// Refuses every deferred command because the node ends. Returns the id of a deferred
    /// `shutdown`.
    pub(crate) fn abandon_pending(&mut self, cx: &mut Cx) -> Option<Id> {
        let DeferredCommands { requests, end, sends, .. } = std::mem::take(&mut self.deferred);
        self.sends_abandoned |= !sends.is_empty();
        refuse_held(requests, ErrorCode::ShuttingDown, "the node closed before it was ready", cx);
        match end {
            Some((End::Shutdown(id), _)) => id,
            _ => None,
        }
    }
}

/// Returns until when the end of the node waits for the commands before it.
fn ready_by(cx: &Cx) -> Instant {
    let now = cx.now;
    now.mono + cx.identity.drain_timeout.max(MAX_PAUSE)
}

fn refuse_held(requests: impl IntoIterator<Item = Request>, code: ErrorCode, message: &str, cx: &mut Cx) {
    for Request { id, command } in requests {
        match command {
            Command::Send(_) => cx.refuse_send(id, code, message),
            _ => cx.refuse(id, code, message),
        }
    }
}

impl Parent {
    /// Handles the addresses on which the node listens: it is ready, or one was added later.
    pub(crate) fn on_listening(
        &mut self,
        addrs: Vec<Multiaddr>,
        local: &mut Local,
        gossip: &mut Gossip,
        mail: &Mail,
        cx: &mut Cx,
    ) {
        let started = match &mut cx.phase {
            Phase::Starting { id, .. } => Some(id.take()),
            // A new address was added.
            Phase::Ready => None,
            // The node is closing and needs no addresses.
            _ => return,
        };
        if started.is_some()
            && let Some(warning) = cx.identity.scope.lacking(&addrs)
        {
            cx.log(Level::Warn, "network", warning);
        }
        local.set_addrs(addrs, cx);
        if let Some(id) = started {
            cx.phase = Phase::Ready;
            gossip.on_ready(cx);
            emit_ready(local, mail, cx);
            cx.answer(id, "connect", |_| {});
            self.release_held(cx);
        }
    }

    pub(crate) fn on_listen_failed(
        &mut self,
        reason: String,
        gossip: &mut Gossip,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let id: Option<Id> = match &cx.phase {
            Phase::Starting { id, .. } => id.clone(),
            _ => None,
        };
        cx.refuse(id, ErrorCode::ListenFailed, reason);
        self.give_up(ExitCode::Unavailable, gossip, mail, cx);
    }

    /// Carries out the deferred commands.
    fn release_held(&mut self, cx: &mut Cx) {
        let DeferredCommands { requests, end, .. } = std::mem::take(&mut self.deferred);
        for request in requests {
            if let Some(id) = &request.id
                && !cx.replies.open_sends.remove(id)
            {
                cx.replies.open_requests.remove(id);
            }
            cx.signal(Signal::CommandReleased(Box::new(request)));
        }
        match end {
            Some((End::Eof, _)) => cx.signal(Signal::StdinClosed),
            Some((End::Shutdown(id), _)) => cx.signal(Signal::ShutdownReleased(id)),
            None => {}
        }
    }
}

fn emit_ready(local: &Local, mail: &Mail, cx: &mut Cx) {
    let ack = mail.manual_ack().then_some("ack");
    let ready = Ready {
        peer_id: cx.identity.peer_text.clone(),
        address: cx.identity.address_text.clone(),
        name: cx.identity.name.clone(),
        role: cx.identity.role,
        network: cx.identity.network.clone(),
        protocol: PROTOCOL_VERSION,
        version: cx.identity.version.clone(),
        features: ack.into_iter().chain(FEATURES).map(str::to_owned).collect(),
        limits: Limits {
            max_line_bytes: cx.replies.max_line,
            max_unacked: mail.delivery.unacked.limit(),
            ..Limits::STANDARD
        },
        addrs: local.addrs.iter().map(ToString::to_string).collect(),
        durable: mail.pending_writes.is_durable(),
    };
    cx.replies.output.tell(Event::Ready(Box::new(ready)));
}
