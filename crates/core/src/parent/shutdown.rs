//! How a node ends: it admits nothing more, finishes what it accepted, tells what it could not, and exits.

use std::time::Duration;

use p2p_node_protocol::{Closing, DeliveryState, ErrorCode, ErrorEvent, Event, Id, Level};

use crate::effect::{Effect, ExitCode};
use crate::input::Now;
use crate::{Core, Phase};

/// How long the last lines may take to be read. Ours: an SDK that waits 7 s sees a drain of
/// 5 s and this.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long peers get to read what was said to them last before their connections are closed. Nobody tells when they have, and a libp2p that
/// finds the end of a connection right behind an answer or a broadcast drops it. Ours: they read within milliseconds unless they are busy.
const LAST_READ: Duration = Duration::from_millis(250);

/// The reason of a `closing` after the end of stdin.
const EOF: &str = "eof";
/// Why a node whose stdin ends before a `connect` ends too, for a person.
const NEVER_CONNECTED: &str = "stdin ended before a `connect` was carried out, so the node ends; \
    `--connect` starts it without that command, and `--on-eof stay` with `--connect` keeps it running without a stdin";
/// Why a node that stays without stdin cannot, for a person.
const NEVER_TOLD: &str = "`--on-eof stay`: stdin ended before a `connect`, so that nothing can tell the node to join the network any more; \
    start it with `--connect` too";

impl Core {
    pub(crate) fn on_input_ended(&mut self, now: Now) {
        if self.parent.phase == Phase::Idle {
            return self.end_unconnected(now);
        }
        if self.local.identity.stay_on_eof {
            return;
        }
        if let Phase::Starting { .. } = self.parent.phase {
            return self.hold_end(now);
        }
        if self.local.identity.receive_after_eof.is_zero() {
            return self.close(EOF, None, now);
        }
        self.parent.receive_until = Some(now.mono + self.local.identity.receive_after_eof);
    }

    /// Stdin ended before a `connect`: nothing can come any more, whatever the node was told to do then.
    fn end_unconnected(&mut self, now: Now) {
        if self.local.identity.stay_on_eof {
            self.emit_error(ErrorEvent::new(ErrorCode::InvalidArgument, NEVER_TOLD));
            return self.give_up(ExitCode::Config, now);
        }
        self.log(Level::Warn, "pipe", NEVER_CONNECTED);
        self.parent.required.refused(ErrorCode::NotConnected);
        self.close(EOF, None, now);
    }

    pub(crate) fn on_input_failed(&mut self, reason: &str, now: Now) {
        self.parent.pipe_broken = true;
        self.emit_error(ErrorEvent::new(ErrorCode::Internal, format!("stdin cannot be read: {reason}")));
        self.close(EOF, None, now);
    }

    pub(crate) fn on_output_closed(&mut self, broken: bool, now: Now) {
        self.parent.pipe_broken |= broken;
        self.parent.output_closed = true;
        self.close("output", None, now);
    }

    /// Whether anything would be lost with the process that was accepted, or waits for that.
    fn has_undelivered(&self) -> bool {
        self.parent.sends_abandoned
            || !self.parent.send_lane.is_empty()
            || !self.mail.pending_writes.is_durable() && !self.mail.outbox.is_empty()
            || !self.gossip.broadcasts.is_empty()
    }

    pub(crate) fn on_signal(&mut self, now: Now) {
        match self.parent.phase {
            Phase::Closing { .. } => {
                self.exit(self.exit_code(self.has_undelivered()));
            }
            Phase::Flushing { code, .. } => self.exit(code),
            _ => self.close("signal", None, now),
        }
    }

    /// Begins to end. `shutdown` is the id of the command that asked for it.
    pub(crate) fn close(&mut self, reason: &'static str, mut shutdown: Option<Id>, now: Now) {
        match std::mem::replace(&mut self.parent.phase, Phase::Exited) {
            phase @ (Phase::Closing { .. } | Phase::Flushing { .. } | Phase::Exited) => {
                self.parent.phase = phase;
                return;
            }
            Phase::Starting { id, .. } => {
                let message = "the node closed before it listened";
                if id.is_some() {
                    self.refuse(id, ErrorCode::ShuttingDown, message);
                }
                shutdown = shutdown.or(self.abandon_held());
            }
            Phase::Idle | Phase::Ready => {}
        }
        self.parent.open_requests.extend(shutdown.clone());
        self.parent.receive_until = None;
        let deadline = match reason {
            EOF if self.awaits_deliveries() => Duration::MAX,
            _ => now.mono + self.local.identity.drain_timeout,
        };
        self.parent.phase = Phase::Closing { reason, shutdown, deadline };
    }

    /// Ends the node because it must not or cannot run: what could be said has been.
    pub(crate) fn give_up(&mut self, code: ExitCode, now: Now) {
        // The first reason is the one to tell.
        if self.is_flushing() {
            return;
        }
        self.fail_pending();
        let flushing = Phase::Flushing { code, deadline: now.mono + FLUSH_TIMEOUT, stay_until: now.mono };
        match std::mem::replace(&mut self.parent.phase, flushing) {
            Phase::Starting { id, .. } => {
                id.map(|id| self.parent.open_requests.remove(&id));
                let shutdown = self.abandon_held();
                self.answer(shutdown, "shutdown", |_| {});
            }
            Phase::Closing { shutdown, .. } => self.answer(shutdown, "shutdown", |_| {}),
            _ => {}
        }
        self.parent.output.close();
    }

    /// Whether a sender waits for an answer to mail that the parent gets or has, or the parent for one to its `ack`.
    fn owes_answers(&self) -> bool {
        !self.mail.pending_acks.is_idle()
            || !self.mail.deferred_responses.is_empty()
            || self.mail.delivery.len() > 0
            || self.mail.delivery.has_pending_acks()
            || self.parent.output.awaits_receipts()
    }

    /// When everything accepted is done, or time is up, says so.
    pub(crate) fn finish_closing(&mut self, now: Now) {
        if std::mem::take(&mut self.parent.has_spoken) {
            self.parent.stay_until = now.mono + LAST_READ;
        }
        let sent = !self.has_unsent();
        let answered = matches!(self.parent.phase, Phase::Closing { .. }) && !self.owes_answers();
        let Phase::Closing { reason, shutdown, deadline } = &mut self.parent.phase else { return };
        if sent && *deadline == Duration::MAX {
            *deadline = now.mono + self.local.identity.drain_timeout;
        }
        let done = sent && self.parent.discoveries.is_empty() && answered;
        if !done && now.mono < *deadline {
            return;
        }
        let (reason, shutdown) = (*reason, shutdown.clone());
        let lost = self.has_undelivered();
        self.fail_pending();
        self.answer(shutdown, "shutdown", |_| {});
        if self.parent.protocol_v1 {
            self.parent.output.tell(Event::Closing(Closing { reason: reason.to_owned() }));
        }
        self.parent.output.close();
        let code = self.exit_code(lost);
        let stay_until = self.parent.stay_until.max(now.mono);
        self.parent.phase = Phase::Flushing { code, deadline: now.mono + FLUSH_TIMEOUT, stay_until };
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

    /// Exits once the writer has put out every line, or takes too long, and peers have had their time.
    pub(crate) fn finish_flushing(&mut self, now: Now) {
        if let Phase::Flushing { code, deadline, stay_until } = self.parent.phase
            && now.mono >= stay_until
            && (self.parent.output.is_empty() || self.parent.output_closed || now.mono >= deadline)
        {
            // What was to be told last may be what broke it.
            self.exit(if self.parent.pipe_broken { ExitCode::Io } else { code });
        }
    }

    fn exit(&mut self, code: ExitCode) {
        // Nothing comes after the exit.
        self.flush_output();
        self.persist_final_checkpoints();
        self.parent.phase = Phase::Exited;
        self.cx.effects.push_back(Effect::Exit(code));
    }
}
