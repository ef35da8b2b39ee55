//! Commands between `connect` and `ready`. The node reads and defers these commands in order, so
//! that it notices the end of stdin behind them.

use std::collections::VecDeque;
use std::time::Duration;

use multiaddr::Multiaddr;
use p2p_node_protocol::{
    Command, Counter, ErrorCode, ErrorEvent, Event, Level, Limits, PROTOCOL_VERSION, Ready, Request,
};
use p2p_node_wire::time::Instant;

use crate::Phase;
use crate::budget::{Budget, Limit};
use crate::client_id::ClientId;
use crate::command_limits::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};
use crate::cx::Cx;
use crate::effect::{ExitCode, NetworkCommand};
use crate::gossip::Gossip;
use crate::local::Local;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::parent::client_load::ClientLoads;
use crate::parent::on_command::refuse_command;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;

/// Features of this node beyond the commands of the first sidecar. A parent must not rely on a
/// feature that is missing here.
const FEATURES: [&str; 6] = ["base64", "block", "cancel", "files", "gossip", "peers"];

/// Longest wait for the sockets to report their addresses. Then the node is ready with the
/// addresses that it has. Our choice: with a network interface sockets report within milliseconds,
/// without one they never do.
pub(crate) const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The event that ends the node after the deferred commands.
#[derive(Debug)]
enum End {
    Eof,
    Shutdown(ReplyTo),
}

/// The deferred `send` commands of a client that stay after a pause.
const HALF: Limit = Limit { count: MAX_INFLIGHT / 2, bytes: MAX_INFLIGHT_BYTES / 2 };

/// Commands that wait for `ready`.
#[derive(Debug, Default)]
pub(crate) struct DeferredCommands {
    /// The commands in their order, each with its client.
    requests: VecDeque<(ClientId, Request)>,
    /// The deferred `send` commands of each client, with the bytes of their `data`.
    sends: ClientLoads,
    /// The event that ends the node after the commands, and the time at which the node stops
    /// waiting for `ready`.
    end: Option<(End, Instant)>,
}

/// Returns the bytes of `data` of a command that sends it, and `None` for other commands.
fn data_bytes(request: &Request) -> Option<usize> {
    request.command.data().map(|data| data.get().len())
}

impl DeferredCommands {
    /// Returns the number of deferred commands of a client.
    pub(crate) fn len_of(&self, client: ClientId) -> usize {
        self.requests.iter().filter(|(of, _)| *of == client).count()
    }

    /// Returns `true` if a client has more deferred commands than it can have unanswered.
    fn is_full(&self, client: ClientId) -> bool {
        let limit = 2 * MAX_INFLIGHT;
        self.requests.len() > limit && self.len_of(client) > limit
    }

    /// Returns the number and the bytes of the deferred `send` commands of a client.
    pub(crate) fn sends_of(&self, client: ClientId) -> Budget {
        self.sends.of(client)
    }

    /// Returns `true` if more `send` commands of a client wait than it may have unanswered.
    pub(crate) fn is_over(&self, client: ClientId) -> bool {
        self.sends.is_over(client)
    }

    fn push(&mut self, client: ClientId, request: Request) {
        if let Some(bytes) = data_bytes(&request) {
            self.sends.add(client, bytes);
        }
        self.requests.push_back((client, request));
    }

    fn remove(&mut self, index: usize) -> Option<(ClientId, Request)> {
        let (client, request) = self.requests.remove(index)?;
        if let Some(bytes) = data_bytes(&request) {
            self.sends.remove(client, bytes);
        }
        Some((client, request))
    }

    /// Removes the commands of a client that has gone.
    pub(crate) fn remove_of(&mut self, client: ClientId) {
        while let Some(index) = self.requests.iter().position(|(of, _)| *of == client) {
            self.remove(index);
        }
    }

    /// Removes the latest `send` commands of a client, down to half of its limits.
    fn shorten(&mut self, client: ClientId) -> Vec<(ClientId, Request)> {
        let mut removed = Vec::new();
        let mut index = self.requests.len();
        while index > 0 && self.sends.exceeds(client, HALF) {
            index -= 1;
            let is_send =
                |(of, request): &(ClientId, Request)| *of == client && request.command.data().is_some();
            if self.requests.get(index).is_some_and(is_send) {
                removed.extend(self.remove(index));
            }
        }
        removed
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let pause = self.sends.next_deadline();
        self.end.as_ref().map(|(_, deadline)| *deadline).into_iter().chain(pause).min()
    }
}

impl Parent {
    /// Defers a command until `ready`. Before `ready` the node answers with errors only.
    pub(crate) fn defer_command(&mut self, client: ClientId, request: Request, cx: &mut Cx) {
        if self.deferred.end.is_some() {
            return refuse_deferred(
                [(client, request)],
                ErrorCode::ShuttingDown,
                "the node is closing and accepts no commands",
                cx,
            );
        }
        if let (Command::Shutdown(_), ClientId::PARENT) = (&request.command, client) {
            let command = ReplyTo::new(client, request.id);
            cx.replies.clients.open_request(&command);
            self.deferred.end = Some((End::Shutdown(command), ready_by(cx)));
            return;
        }
        if self.deferred.is_over(client) || self.deferred.is_full(client) {
            return refuse_deferred(
                [(client, request)],
                ErrorCode::Busy,
                "too many commands wait for `ready`; send this one again after `ready`",
                cx,
            );
        }
        let command = ReplyTo::new(client, request.id.clone());
        match request.command.data() {
            Some(_) => cx.replies.clients.open_send(&command),
            None => cx.replies.clients.open_request(&command),
        }
        cx.stats.count(Counter::CommandsDeferred);
        self.deferred.push(client, request);
    }

    /// Records that stdin ended before `ready`.
    pub(crate) fn defer_end(&mut self, cx: &Cx) {
        let deadline = ready_by(cx);
        self.deferred.end.get_or_insert((End::Eof, deadline));
    }

    /// Ends the pauses of clients, or the node, if the wait for `ready` has lasted too long.
    pub(crate) fn check_startup(&mut self, cx: &mut Cx) {
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
        for client in self.deferred.sends.end_pauses(now.mono) {
            let requests = self.deferred.shorten(client);
            cx.stats.add(Counter::SendsRefusedAfterPause, requests.len() as u64);
            let message = "the node is not ready yet; send this one again after `ready`";
            refuse_deferred(requests, ErrorCode::Busy, message, cx);
        }
    }

    /// Refuses every deferred command because the node ends. Returns a deferred `shutdown`, if any.
    pub(crate) fn abandon_pending(&mut self, cx: &mut Cx) -> Option<ReplyTo> {
        let DeferredCommands { requests, end, sends, .. } = std::mem::take(&mut self.deferred);
        self.sends_abandoned |= !sends.is_empty();
        refuse_deferred(requests, ErrorCode::ShuttingDown, "the node closed before it was ready", cx);
        match end {
            Some((End::Shutdown(command), _)) => Some(command),
            _ => None,
        }
    }
}

/// Returns the time until which the end of the node waits for the commands before the end.
fn ready_by(cx: &Cx) -> Instant {
    let now = cx.now;
    now.mono + cx.identity.drain_timeout.max(MAX_PAUSE)
}

/// Refuses commands.
fn refuse_deferred(
    requests: impl IntoIterator<Item = (ClientId, Request)>,
    code: ErrorCode,
    message: &str,
    cx: &mut Cx,
) {
    for (client, Request { id, command }) in requests {
        refuse_command(ReplyTo::new(client, id), &command, code, message, cx);
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
        let started = match &cx.phase {
            Phase::Starting { connect, .. } => Some(connect.clone()),
            // A new address was added.
            Phase::Ready => None,
            // The node is closing and needs no addresses.
            _ => return,
        };
        if started.is_some()
            && let Some(warning) = cx.identity.scope.unreachability_warning(&addrs)
        {
            cx.log(Level::Warn, "network", warning);
        }
        local.set_addrs(addrs, cx);
        if let Some(connect) = started {
            cx.phase = Phase::Ready;
            gossip.on_ready(cx);
            emit_ready(connect.client, local, mail, cx);
            cx.answer(connect, "connect", |_| {});
            self.release_deferred(cx);
        }
    }

    pub(crate) fn on_listen_failed(
        &mut self,
        reason: String,
        gossip: &mut Gossip,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        match &cx.phase {
            Phase::Starting { connect, .. } => cx.refuse(connect.clone(), ErrorCode::ListenFailed, reason),
            _ => {
                cx.replies.required.refused(ErrorCode::ListenFailed);
                cx.emit_error(ErrorEvent::new(ErrorCode::ListenFailed, reason));
            }
        }
        self.abort(ExitCode::Unavailable, gossip, mail, cx);
    }

    /// Carries out the deferred commands.
    fn release_deferred(&mut self, cx: &mut Cx) {
        let DeferredCommands { requests, end, .. } = std::mem::take(&mut self.deferred);
        for (client, request) in requests {
            cx.replies.clients.close(&ReplyTo::new(client, request.id.clone()));
            cx.signal(Signal::CommandReleased(client, Box::new(request)));
        }
        match end {
            Some((End::Eof, _)) => cx.signal(Signal::StdinClosed),
            Some((End::Shutdown(command), _)) => cx.signal(Signal::ShutdownReleased(command)),
            None => {}
        }
    }
}

/// Writes `ready` to a client that has connected.
pub(crate) fn emit_ready(client: ClientId, local: &Local, mail: &Mail, cx: &mut Cx) {
    let Some(of_client) = cx.replies.clients.get(client) else { return };
    let (max_line_bytes, max_unacked) = (of_client.max_line, of_client.max_unacked);
    let max_file_bytes = mail.file_limits.max_bytes;
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
        limits: Limits { max_line_bytes, max_unacked, max_file_bytes, ..Limits::STANDARD },
        addrs: local.listening(cx).iter().map(ToString::to_string).collect(),
        durable: mail.pending_writes.is_durable(),
        http: cx.identity.http.clone(),
        grpc: cx.identity.grpc.clone(),
        a2a: cx.identity.a2a.clone(),
    };
    if let Some(client) = cx.replies.clients.get_mut(client) {
        client.output.push_required(Event::Ready(Box::new(ready)));
    }
}
