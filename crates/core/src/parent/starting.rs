//! Commands between `connect` and `ready`. The node reads and defers them, in their order, so that
//! it always notices the end of stdin behind them.

use std::collections::VecDeque;
use std::time::Duration;

use p2p_node_protocol::{Command, Counter, ErrorCode, Id, Request};

use crate::Core;
use crate::Phase;
use crate::effect::NetworkCommand;
use crate::parent::command_limits::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};

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

/// Commands that wait for `ready`.
#[derive(Debug, Default)]
pub(crate) struct DeferredCommands {
    requests: VecDeque<Request>,
    sends: usize,
    /// Bytes of `data` of the deferred `send` commands.
    bytes: usize,
    over_since: Option<Duration>,
    /// What ends the node after the commands, and when the node stops waiting for `ready`.
    end: Option<(End, Duration)>,
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
        self.sends
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns `true` if more `send` commands wait than a parent may have unanswered.
    pub(crate) fn is_over(&self) -> bool {
        self.sends > MAX_INFLIGHT || self.bytes > MAX_INFLIGHT_BYTES
    }

    fn push(&mut self, request: Request) {
        let bytes = data_bytes(&request);
        self.sends += usize::from(bytes.is_some());
        self.bytes += bytes.unwrap_or_default();
        self.requests.push_back(request);
    }

    fn remove(&mut self, index: usize) -> Option<Request> {
        let request = self.requests.remove(index)?;
        let bytes = data_bytes(&request);
        self.sends -= usize::from(bytes.is_some());
        self.bytes -= bytes.unwrap_or_default();
        Some(request)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let pause = self.over_since.map(|since| since + MAX_PAUSE);
        self.end.as_ref().map(|(_, deadline)| *deadline).into_iter().chain(pause).min()
    }
}

impl Core {
    /// Defers a command until `ready`. Before `ready` the node answers with errors only.
    pub(crate) fn hold(&mut self, request: Request) {
        let is_send = matches!(request.command, Command::Send(_));
        if self.parent.deferred.end.is_some() {
            return self.refuse_held(
                [request],
                ErrorCode::ShuttingDown,
                "the node is closing and accepts no commands",
            );
        }
        if let Command::Shutdown(_) = request.command {
            self.cx.replies.open_requests.extend(request.id.clone());
            self.parent.deferred.end = Some((End::Shutdown(request.id), self.ready_by()));
            return;
        }
        if self.parent.deferred.is_over() || self.parent.deferred.len() > 2 * MAX_INFLIGHT {
            return self.refuse_held(
                [request],
                ErrorCode::Busy,
                "too many commands wait for `ready`; send this one again after `ready`",
            );
        }
        let ids = if is_send { &mut self.cx.replies.open_sends } else { &mut self.cx.replies.open_requests };
        ids.extend(request.id.clone());
        self.cx.stats.count(Counter::CommandsHeld);
        self.parent.deferred.push(request);
    }

    /// Returns until when the end of the node waits for the commands before it.
    fn ready_by(&self) -> Duration {
        let now = self.cx.now;
        now.mono + self.cx.identity.drain_timeout.max(MAX_PAUSE)
    }

    /// Records that stdin ended before `ready`.
    pub(crate) fn hold_end(&mut self) {
        let deadline = self.ready_by();
        self.parent.deferred.end.get_or_insert((End::Eof, deadline));
    }

    /// Carries out the deferred commands.
    pub(crate) fn release_held(&mut self) {
        let DeferredCommands { requests, end, .. } = std::mem::take(&mut self.parent.deferred);
        for request in requests {
            if let Some(id) = &request.id
                && !self.cx.replies.open_sends.remove(id)
            {
                self.cx.replies.open_requests.remove(id);
            }
            self.on_command(request);
        }
        match end {
            Some((End::Eof, _)) => self.on_input_ended(),
            Some((End::Shutdown(id), _)) => self.close("shutdown", id),
            None => {}
        }
    }

    /// Ends a pause of stdin, or the node, that has waited too long for `ready`.
    pub(crate) fn keep_starting(&mut self) {
        let now = self.cx.now;
        let Phase::Starting { report_by, .. } = &mut self.cx.phase else { return };
        if report_by.take_if(|report_by| *report_by <= now.mono).is_some() {
            self.cx.network(NetworkCommand::ReportListening);
        }
        if self.parent.deferred.end.as_ref().is_some_and(|(_, deadline)| *deadline <= now.mono) {
            let reason = match self.parent.deferred.end {
                Some((End::Shutdown(_), _)) => "shutdown",
                _ => "eof",
            };
            return self.close(reason, None);
        }
        if !self.parent.deferred.is_over() {
            self.parent.deferred.over_since = None;
            return;
        }
        if now.mono < *self.parent.deferred.over_since.get_or_insert(now.mono) + MAX_PAUSE {
            return;
        }
        self.parent.deferred.over_since = None;
        // Refuse the latest `send` commands, down to half of the limits.
        let mut index = self.parent.deferred.len();
        while index > 0
            && (self.parent.deferred.sends > MAX_INFLIGHT / 2
                || self.parent.deferred.bytes > MAX_INFLIGHT_BYTES / 2)
        {
            index -= 1;
            if self.parent.deferred.requests.get(index).and_then(data_bytes).is_some() {
                let request = self.parent.deferred.remove(index);
                self.cx.stats.count(Counter::SendsRefusedAfterPause);
                self.refuse_held(
                    request,
                    ErrorCode::Busy,
                    "the node is not ready yet; send this one again after `ready`",
                );
            }
        }
    }

    /// Refuses every deferred command because the node ends. Returns the id of a deferred
    /// `shutdown`.
    pub(crate) fn abandon_held(&mut self) -> Option<Id> {
        let DeferredCommands { requests, end, sends, .. } = std::mem::take(&mut self.parent.deferred);
        self.parent.sends_abandoned |= sends > 0;
        self.refuse_held(requests, ErrorCode::ShuttingDown, "the node closed before it was ready");
        match end {
            Some((End::Shutdown(id), _)) => id,
            _ => None,
        }
    }

    fn refuse_held(&mut self, requests: impl IntoIterator<Item = Request>, code: ErrorCode, message: &str) {
        for Request { id, command } in requests {
            match command {
                Command::Send(_) => self.cx.refuse_send(id, code, message),
                _ => self.cx.refuse(id, code, message),
            }
        }
    }
}
