//! The end of a node: it accepts no more commands, finishes what it accepted, reports what it could
//! not finish, and exits.

use std::time::Duration;

use p2p_node_protocol::{Closing, DeliveryState, ErrorCode, ErrorEvent, Event, Id, Level};

use crate::effect::{Effect, ExitCode};
use crate::{Core, Phase};

/// Longest time for the parent to read the last lines. Our choice: an SDK waits 7 s, which covers
/// the drain time-out of 5 s and this.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// Time for peers to read the last answer or broadcast before the node closes the connections.
/// libp2p drops what it finds directly before the end of a connection, and nothing confirms that a
/// peer has read it. Our choice: peers read within milliseconds unless they are busy.
const LAST_READ: Duration = Duration::from_millis(250);

/// Reason in `closing` after the end of stdin.
const EOF: &str = "eof";
/// Log message of a node whose stdin ends before a `connect`.
const NEVER_CONNECTED: &str = "stdin ended before the node carried out a `connect`, so the node ends; \
    start it with `--connect` to connect without that command, and add `--on-eof stay` to run it without stdin";
/// Error message of a node with `--on-eof stay` whose stdin ends before a `connect`.
const NEVER_TOLD: &str = "`--on-eof stay`: stdin ended before a `connect`, so the node can never join the network; \
    start it with `--connect` as well";

impl Core {
    pub(crate) fn on_input_ended(&mut self) {
        let now = self.cx.now;
        if self.cx.phase == Phase::Idle {
            return self.end_unconnected();
        }
        if self.cx.identity.stay_on_eof {
            return;
        }
        if let Phase::Starting { .. } = self.cx.phase {
            return self.hold_end();
        }
        if self.cx.identity.receive_after_eof.is_zero() {
            return self.close(EOF, None);
        }
        self.parent.receive_until = Some(now.mono + self.cx.identity.receive_after_eof);
    }

    /// Ends a node whose stdin ended before a `connect`. No command can come any more, so `--on-eof
    /// stay` is an error of the configuration.
    fn end_unconnected(&mut self) {
        if self.cx.identity.stay_on_eof {
            self.cx.emit_error(ErrorEvent::new(ErrorCode::InvalidArgument, NEVER_TOLD));
            return self.give_up(ExitCode::Config);
        }
        self.cx.log(Level::Warn, "pipe", NEVER_CONNECTED);
        self.cx.replies.required.refused(ErrorCode::NotConnected);
        self.close(EOF, None);
    }

    pub(crate) fn on_input_failed(&mut self, reason: &str) {
        self.parent.pipe_broken = true;
        self.cx.emit_error(ErrorEvent::new(
            ErrorCode::Internal,
            format!("reading stdin failed, so the node closes: {reason}"),
        ));
        self.close(EOF, None);
    }

    pub(crate) fn on_output_closed(&mut self, broken: bool) {
        self.parent.pipe_broken |= broken;
        self.parent.output_closed = true;
        self.close("output", None);
    }

    /// Returns `true` if the end of the process loses accepted messages or broadcasts, or a `send`
    /// that waits for room.
    fn has_undelivered(&self) -> bool {
        self.parent.sends_abandoned
            || !self.parent.send_lane.is_empty()
            || !self.mail.pending_writes.is_durable() && !self.mail.outbox.is_empty()
            || !self.gossip.broadcasts.is_empty()
    }

    pub(crate) fn on_signal(&mut self) {
        match self.cx.phase {
            Phase::Closing { .. } => {
                self.exit(self.exit_code(self.has_undelivered()));
            }
            Phase::Flushing { code, .. } => self.exit(code),
            _ => self.close("signal", None),
        }
    }

    /// Starts the shutdown, unless it has started. `shutdown` is the id of the `shutdown` command.
    pub(crate) fn close(&mut self, reason: &'static str, mut shutdown: Option<Id>) {
        let now = self.cx.now;
        match std::mem::replace(&mut self.cx.phase, Phase::Exited) {
            phase @ (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Exited) => {
                self.cx.phase = phase;
                return;
            }
            Phase::Starting { id, .. } => {
                let message = "the node closed before it was ready";
                if id.is_some() {
                    self.cx.refuse(id, ErrorCode::ShuttingDown, message);
                }
                shutdown = shutdown.or(self.abandon_held());
            }
            Phase::Idle | Phase::Ready => {}
        }
        self.cx.replies.open_requests.extend(shutdown.clone());
        self.parent.receive_until = None;
        let deadline = match reason {
            EOF if self.awaits_deliveries() => Duration::MAX,
            _ => now.mono + self.cx.identity.drain_timeout,
        };
        self.cx.phase = Phase::Closing { reason, shutdown, deadline };
    }

    /// Ends the node at once because it must not or cannot run, without finishing what it accepted.
    pub(crate) fn give_up(&mut self, code: ExitCode) {
        let now = self.cx.now;
        // The node reports the first reason only.
        if self.cx.is_flushing() {
            return;
        }
        self.fail_pending();
        let flushing = Phase::Flushing { code, deadline: now.mono + FLUSH_TIMEOUT, stay_until: now.mono };
        match std::mem::replace(&mut self.cx.phase, flushing) {
            Phase::Starting { id, .. } => {
                id.map(|id| self.cx.replies.open_requests.remove(&id));
                let shutdown = self.abandon_held();
                self.cx.answer(shutdown, "shutdown", |_| {});
            }
            Phase::Closing { shutdown, .. } => self.cx.answer(shutdown, "shutdown", |_| {}),
            _ => {}
        }
        self.cx.replies.output.close();
    }

    /// Returns `true` if a sender waits for an acknowledgement, or the parent for the answer to an
    /// `ack`.
    fn owes_answers(&self) -> bool {
        !self.mail.pending_acks.is_idle()
            || !self.mail.deferred_responses.is_empty()
            || self.mail.delivery.len() > 0
            || self.mail.delivery.has_pending_acks()
            || self.cx.replies.output.awaits_receipts()
    }

    /// Ends the drain when everything accepted has ended or the drain time-out has passed. Then
    /// writes the answer to `shutdown` and the `closing` event.
    pub(crate) fn finish_closing(&mut self) {
        let now = self.cx.now;
        if std::mem::take(&mut self.cx.replies.has_spoken) {
            self.parent.stay_until = now.mono + LAST_READ;
        }
        let sent = !self.has_unsent();
        let answered = matches!(self.cx.phase, Phase::Closing { .. }) && !self.owes_answers();
        let Phase::Closing { reason, shutdown, deadline } = &mut self.cx.phase else { return };
        if sent && *deadline == Duration::MAX {
            *deadline = now.mono + self.cx.identity.drain_timeout;
        }
        let done = sent && self.parent.discoveries.is_empty() && answered;
        if !done && now.mono < *deadline {
            return;
        }
        let (reason, shutdown) = (*reason, shutdown.clone());
        let lost = self.has_undelivered();
        self.fail_pending();
        self.cx.answer(shutdown, "shutdown", |_| {});
        if self.cx.replies.protocol_v1 {
            self.cx.replies.output.tell(Event::Closing(Closing { reason: reason.to_owned() }));
        }
        self.cx.replies.output.close();
        let code = self.exit_code(lost);
        let stay_until = self.parent.stay_until.max(now.mono);
        self.cx.phase = Phase::Flushing { code, deadline: now.mono + FLUSH_TIMEOUT, stay_until };
    }

    fn fail_pending(&mut self) {
        self.abandon_discoveries();
        self.abandon_waiting();
        self.fail_unpersisted();
        if !self.mail.pending_writes.is_durable() {
            for ended in self.mail.outbox.drain() {
                self.report_failed(ended, DeliveryState::Failed, ErrorCode::ShuttingDown);
            }
        }
        for broadcast in self.gossip.broadcasts.drain_all() {
            self.report_broadcast_failed(broadcast, DeliveryState::Failed, ErrorCode::ShuttingDown);
        }
    }

    /// Exits once the writer has written every line or its time is over, and peers have had their
    /// time to read.
    pub(crate) fn finish_flushing(&mut self) {
        let now = self.cx.now;
        if let Phase::Flushing { code, deadline, stay_until } = self.cx.phase
            && now.mono >= stay_until
            && (self.cx.replies.output.is_empty() || self.parent.output_closed || now.mono >= deadline)
        {
            // Writing the last lines may have broken the pipe.
            self.exit(if self.parent.pipe_broken { ExitCode::Io } else { code });
        }
    }

    fn exit(&mut self, code: ExitCode) {
        // The driver carries out no effects after `Exit`.
        self.cx.flush_output();
        self.persist_final_checkpoints();
        self.cx.phase = Phase::Exited;
        self.cx.effects.push_back(Effect::Exit(code));
    }
}
