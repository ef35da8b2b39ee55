//! What the parent says between `connect` and `ready`: it is held, in its order, so that the end of stdin behind it is always seen.

use std::collections::VecDeque;
use std::time::Duration;

use p2p_node_protocol::{Command, Counter, ErrorCode, Id, Request};

use crate::Core;
use crate::Phase;
use crate::effect::NetworkCommand;
use crate::input::Now;
use crate::parent::command_limits::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};

/// How long a node waits for its sockets to name their addresses before it is ready with those that it has. Ours: they do so within
/// milliseconds where there is an interface, and never where there is none.
pub(crate) const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why nothing more comes.
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
    /// Bytes of `data` of the sends.
    bytes: usize,
    over_since: Option<Duration>,
    /// What ends the node after them, and when it does so without `ready`.
    end: Option<(End, Duration)>,
}

/// Bytes of `data`.
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

    /// Whether it holds more sends than a parent may have unanswered.
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
    /// Keeps a command that came while the node begins to listen: nothing is answered before `ready` but errors.
    pub(crate) fn hold(&mut self, request: Request, now: Now) {
        let is_send = matches!(request.command, Command::Send(_));
        if self.parent.deferred.end.is_some() {
            return self.refuse_held([request], ErrorCode::ShuttingDown, "the node is closing");
        }
        if let Command::Shutdown(_) = request.command {
            self.parent.open_requests.extend(request.id.clone());
            self.parent.deferred.end = Some((End::Shutdown(request.id), self.ready_by(now)));
            return;
        }
        if self.parent.deferred.is_over() || self.parent.deferred.len() > 2 * MAX_INFLIGHT {
            return self.refuse_held([request], ErrorCode::Busy, "too many commands wait for `ready`");
        }
        let ids = if is_send { &mut self.parent.open_sends } else { &mut self.parent.open_requests };
        ids.extend(request.id.clone());
        self.cx.stats.count(Counter::CommandsHeld);
        self.parent.deferred.push(request);
    }

    /// How long the end of the node waits for the commands before it.
    fn ready_by(&self, now: Now) -> Duration {
        now.mono + self.local.identity.drain_timeout.max(MAX_PAUSE)
    }

    /// Stdin has ended while the node begins to listen.
    pub(crate) fn hold_end(&mut self, now: Now) {
        let deadline = self.ready_by(now);
        self.parent.deferred.end.get_or_insert((End::Eof, deadline));
    }

    /// Carries out what was held.
    pub(crate) fn release_held(&mut self, now: Now) {
        let DeferredCommands { requests, end, .. } = std::mem::take(&mut self.parent.deferred);
        for request in requests {
            if let Some(id) = &request.id
                && !self.parent.open_sends.remove(id)
            {
                self.parent.open_requests.remove(id);
            }
            self.on_command(request, now);
        }
        match end {
            Some((End::Eof, _)) => self.on_input_ended(now),
            Some((End::Shutdown(id), _)) => self.close("shutdown", id, now),
            None => {}
        }
    }

    /// Ends the pause of stdin, or the node, when that has waited long enough for `ready`.
    pub(crate) fn keep_starting(&mut self, now: Now) {
        let Phase::Starting { report_by, .. } = &mut self.parent.phase else { return };
        if report_by.take_if(|report_by| *report_by <= now.mono).is_some() {
            self.network(NetworkCommand::ReportListening);
        }
        if self.parent.deferred.end.as_ref().is_some_and(|(_, deadline)| *deadline <= now.mono) {
            let reason = match self.parent.deferred.end {
                Some((End::Shutdown(_), _)) => "shutdown",
                _ => "eof",
            };
            return self.close(reason, None, now);
        }
        if !self.parent.deferred.is_over() {
            self.parent.deferred.over_since = None;
            return;
        }
        if now.mono < *self.parent.deferred.over_since.get_or_insert(now.mono) + MAX_PAUSE {
            return;
        }
        self.parent.deferred.over_since = None;
        // The latest go, down to half of what there may be.
        let mut index = self.parent.deferred.len();
        while index > 0
            && (self.parent.deferred.sends > MAX_INFLIGHT / 2
                || self.parent.deferred.bytes > MAX_INFLIGHT_BYTES / 2)
        {
            index -= 1;
            if self.parent.deferred.requests.get(index).and_then(data_bytes).is_some() {
                let request = self.parent.deferred.remove(index);
                self.cx.stats.count(Counter::SendsRefusedAfterPause);
                self.refuse_held(request, ErrorCode::Busy, "the node does not listen yet");
            }
        }
    }

    /// Refuses everything that is held, because the node ends; the id of the `shutdown` among it.
    pub(crate) fn abandon_held(&mut self) -> Option<Id> {
        let DeferredCommands { requests, end, sends, .. } = std::mem::take(&mut self.parent.deferred);
        self.parent.sends_abandoned |= sends > 0;
        self.refuse_held(requests, ErrorCode::ShuttingDown, "the node closed before it listened");
        match end {
            Some((End::Shutdown(id), _)) => id,
            _ => None,
        }
    }

    fn refuse_held(&mut self, requests: impl IntoIterator<Item = Request>, code: ErrorCode, message: &str) {
        for Request { id, command } in requests {
            match command {
                Command::Send(_) => self.refuse_send(id, code, message),
                _ => self.refuse(id, code, message),
            }
        }
    }
}
