//! The shutdown of a node: the node accepts no more commands, finishes accepted work, reports work
//! that it could not finish, and exits.

use std::time::Duration;

use p2p_node_protocol::{Closing, DeliveryState, ErrorCode, ErrorEvent, Event, Level};
use p2p_node_wire::time::Instant;

use crate::Phase;
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::effect::{Effect, ExitCode};
use crate::gate::Gate;
use crate::gossip::Gossip;
use crate::gossip::broadcasting::report_broadcast_failed;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::parent::leaving::answer_leaving;
use crate::parent::require_delivery::awaits_deliveries;
use crate::replies::reply_to::ReplyTo;
use crate::requests::Requests;

/// Longest time for the clients to read the last lines. Our choice: an SDK waits 7 s, which covers
/// the drain time-out of 5 s and this.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// Time for peers to read the last answer or broadcast before the node closes the connections.
/// libp2p drops data that arrives directly before the end of a connection, and nothing confirms
/// that a peer has read the data. Our choice: peers read within milliseconds unless they are busy.
const CLOSE_DELAY: Duration = Duration::from_millis(250);

/// Reason in `closing` after the end of stdin.
const EOF: &str = "eof";
/// Log message of a node whose stdin ends before a `connect`.
const NEVER_CONNECTED: &str = "stdin ended before the node carried out a `connect`, so the node ends; \
    start it with `--connect` to connect without that command, and add `--on-eof stay` to run it without stdin";
/// Error message of a node with `--on-eof stay` whose stdin ends before a `connect`.
const CANNOT_CONNECT: &str = "`--on-eof stay`: stdin ended before a `connect`, so the node can never join the network; \
    start it with `--connect` as well";

impl Parent {
    pub(crate) fn on_stdin_closed(&mut self, gossip: &mut Gossip, mail: &mut Mail, cx: &mut Cx) {
        let now = cx.now;
        if cx.phase == Phase::Idle {
            return self.end_unconnected(gossip, mail, cx);
        }
        if cx.identity.stay_on_eof {
            return;
        }
        if let Phase::Starting { .. } = cx.phase {
            return self.defer_end(cx);
        }
        if cx.identity.receive_after_eof.is_zero() {
            return self.close(EOF, None, cx);
        }
        self.receive_until = Some(now.mono + cx.identity.receive_after_eof);
    }

    /// Ends a node whose stdin ended before a `connect`. No command can come any more, so `--on-eof
    /// stay` is an error of the configuration.
    fn end_unconnected(&mut self, gossip: &mut Gossip, mail: &mut Mail, cx: &mut Cx) {
        if cx.identity.stay_on_eof {
            cx.emit_error(ErrorEvent::new(ErrorCode::InvalidArgument, CANNOT_CONNECT));
            return self.abort(ExitCode::Config, gossip, mail, cx);
        }
        cx.log(Level::Warn, "pipe", NEVER_CONNECTED);
        cx.replies.required.refused(ErrorCode::NotConnected);
        self.close(EOF, None, cx);
    }

    pub(crate) fn on_stdin_failed(&mut self, reason: &str, cx: &mut Cx) {
        self.pipe_broken = true;
        cx.emit_error(ErrorEvent::new(
            ErrorCode::Internal,
            format!("reading stdin failed, so the node closes: {reason}"),
        ));
        self.close(EOF, None, cx);
    }

    pub(crate) fn on_stdout_closed(
        &mut self,
        broken: bool,
        mail: &mut Mail,
        requests: &mut Requests,
        cx: &mut Cx,
    ) {
        requests.on_client_gone(ClientId::PARENT, mail, cx);
        self.pipe_broken |= broken;
        cx.replies.clients.parent.is_gone = true;
        self.close("output", None, cx);
    }

    /// Returns `true` if the end of the process loses accepted messages or broadcasts, or a `send`
    /// that waits for room or for the address of a name.
    fn has_undelivered(&self, gossip: &Gossip, mail: &Mail) -> bool {
        self.sends_abandoned
            || !self.send_lane.is_empty()
            || self.names.has_sends()
            || !self.file_sends.is_empty()
            || !mail.pending_writes.is_durable() && !mail.outbox.is_empty()
            || !gossip.broadcasts.is_empty()
    }

    pub(crate) fn on_signal(&mut self, gossip: &Gossip, mail: &mut Mail, cx: &mut Cx) {
        match cx.phase {
            Phase::Closing { .. } => {
                self.exit(self.exit_code(self.has_undelivered(gossip, mail), gossip, mail, cx), mail, cx);
            }
            Phase::Flushing { code, .. } => self.exit(code, mail, cx),
            _ => self.close("signal", None, cx),
        }
    }

    /// Starts the shutdown when the time after the end of stdin, during which the node still
    /// receives, is over.
    pub(crate) fn check_receive_deadline(&mut self, cx: &mut Cx) {
        if self.receive_until.is_some_and(|until| until <= cx.now.mono) {
            self.close(EOF, None, cx);
        }
    }

    /// Starts the shutdown, unless it has started. `shutdown` is the command that requested it.
    pub(crate) fn close(&mut self, reason: &'static str, mut shutdown: Option<ReplyTo>, cx: &mut Cx) {
        let now = cx.now;
        match std::mem::replace(&mut cx.phase, Phase::Exited) {
            phase @ (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Exited) => {
                cx.phase = phase;
                return;
            }
            Phase::Starting { connect, .. } => {
                let message = "the node closed before it was ready";
                if connect.id.is_some() {
                    cx.refuse(connect, ErrorCode::ShuttingDown, message);
                }
                shutdown = shutdown.or(self.abandon_pending(cx));
            }
            Phase::Idle | Phase::Ready => {}
        }
        if let Some(command) = &shutdown {
            cx.replies.clients.open_request(command);
        }
        self.receive_until = None;
        let deadline = match reason {
            EOF if awaits_deliveries(cx) => Instant::MAX,
            _ => now.mono + cx.identity.drain_timeout,
        };
        cx.phase = Phase::Closing { reason, shutdown, deadline };
    }

    /// Ends the node at once, without finishing accepted work, because the node must not or cannot
    /// run.
    pub(crate) fn abort(&mut self, code: ExitCode, gossip: &mut Gossip, mail: &mut Mail, cx: &mut Cx) {
        let now = cx.now;
        // The node reports the first reason only.
        if cx.is_flushing() {
            return;
        }
        self.fail_pending(gossip, mail, cx);
        let flushing = Phase::Flushing { code, deadline: now.mono + FLUSH_TIMEOUT, stay_until: now.mono };
        match std::mem::replace(&mut cx.phase, flushing) {
            Phase::Starting { connect, .. } => {
                cx.replies.clients.close(&connect);
                let shutdown = self.abandon_pending(cx);
                answer_shutdown(shutdown, cx);
            }
            Phase::Closing { shutdown, .. } => answer_shutdown(shutdown, cx),
            _ => {}
        }
        cx.replies.clients.close_output();
    }

    /// Ends the drain when everything accepted has ended or the drain time-out has passed. Then
    /// writes the answer to `shutdown` and the `closing` event.
    pub(crate) fn finish_closing(
        &mut self,
        gate: &mut Gate,
        gossip: &mut Gossip,
        mail: &mut Mail,
        requests: &mut Requests,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        if std::mem::take(&mut cx.replies.has_spoken) {
            self.stay_until = now.mono + CLOSE_DELAY;
        }
        let sent = !self.has_unsent(gossip, mail, cx);
        let answered = matches!(cx.phase, Phase::Closing { .. }) && !mail.has_deferred_responses(cx);
        let Phase::Closing { reason, shutdown, deadline } = &mut cx.phase else { return };
        if sent && *deadline == Instant::MAX {
            *deadline = now.mono + cx.identity.drain_timeout;
        }
        let is_idle = self.discoveries.is_empty()
            && gate.registry.is_idle()
            && requests.is_idle()
            && self.file_sends.is_empty();
        let done = sent && is_idle && mail.pending_writes.access_rules() == 0 && answered;
        if !done && now.mono < *deadline {
            return;
        }
        let (reason, shutdown) = (*reason, shutdown.clone());
        let lost = self.has_undelivered(gossip, mail);
        requests.abandon(mail, cx);
        self.fail_pending(gossip, mail, cx);
        gate.registry.abandon_commands(cx);
        answer_shutdown(shutdown, cx);
        answer_leaving(cx);
        cx.replies.clients.each(Event::Closing(Closing { reason: reason.to_owned() }), |client, event| {
            if client.protocol_v1 {
                client.output.push_required(event);
            }
        });
        cx.replies.clients.close_output();
        let code = self.exit_code(lost, gossip, mail, cx);
        let stay_until = self.stay_until.max(now.mono);
        cx.phase = Phase::Flushing { code, deadline: now.mono + FLUSH_TIMEOUT, stay_until };
    }

    /// Reports accepted work that the node cannot finish.
    fn fail_pending(&mut self, gossip: &mut Gossip, mail: &mut Mail, cx: &mut Cx) {
        self.abandon_discoveries(cx);
        self.abandon_waiting(cx);
        self.abandon_file_sends(cx);
        self.abandon_name_waits(cx);
        mail.fail_unpersisted(cx);
        if !mail.pending_writes.is_durable() {
            for ended in mail.outbox.drain() {
                mail.report_failed(ended, DeliveryState::Failed, ErrorCode::ShuttingDown, cx);
            }
        }
        for broadcast in gossip.broadcasts.drain_all() {
            report_broadcast_failed(broadcast, DeliveryState::Failed, ErrorCode::ShuttingDown, cx);
        }
    }

    /// Exits when the writer has written every line or its time is over, and the time for peers to
    /// read is over.
    pub(crate) fn finish_flushing(&mut self, mail: &mut Mail, cx: &mut Cx) {
        let now = cx.now;
        if let Phase::Flushing { code, deadline, stay_until } = cx.phase
            && now.mono >= stay_until
            && (cx.replies.clients.are_flushed() || now.mono >= deadline)
        {
            // Writing the last lines may have broken the pipe.
            self.exit(if self.pipe_broken { ExitCode::Io } else { code }, mail, cx);
        }
    }

    fn exit(&mut self, code: ExitCode, mail: &mut Mail, cx: &mut Cx) {
        // The driver executes no effects after `Exit`.
        cx.flush_output();
        mail.persist_final_checkpoints(cx);
        cx.phase = Phase::Exited;
        cx.effects.push_back(Effect::Exit(code));
    }
}

/// Answers the `shutdown` that closed the node, if there is one.
fn answer_shutdown(shutdown: Option<ReplyTo>, cx: &mut Cx) {
    if let Some(command) = shutdown {
        cx.answer(command, "shutdown", |_| {});
    }
}
