//! One client: its protocol, its unanswered commands, and the lines that wait for it.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_node_protocol::{Id, Limits, MAX_LINE_BYTES};
use p2p_node_wire::time::Instant;

use crate::replies::command_rate::CommandRate;
use crate::replies::message_line_bytes;
use crate::replies::output_queue::{self, MailLine, OutputQueue};
use crate::replies::reply_to::ReplyTo;
use crate::usage::{MAX_REQUIRED, Usage};
use crate::{MAX_INFLIGHT, MAX_REQUESTS, MAX_TICKETS};

/// Limit of the lines of mail with those of requests: the last line of each request, and of each request of
/// another agent, needs no room.
const MAIL_AND_CALLS: usize = output_queue::MAIL_LINES + MAX_REQUESTS + MAX_TICKETS;

/// How far a client is that leaves while the node runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// The node finishes what the client began. It stops at `deadline`.
    Finishing { reason: &'static str, shutdown: Option<ReplyTo>, deadline: Instant },
    /// The client reads its last lines. The node stops at `deadline`.
    Flushing { deadline: Instant },
}

/// How long the mail of the node waits for a client that does not read, or reads too slowly. Our choice:
/// far longer than a program that reads needs, even on a busy machine, and short for the other clients,
/// who wait for it once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How fast an attached client reads. One that reads too slowly sets the pace of the mail no longer,
/// until it has caught up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Since when lines wait for the client, and its writer has written none.
    idle_since: Option<Instant>,
    /// Since when more than half of the room for mail is in use.
    behind_since: Option<Instant>,
    /// The client reads too slowly.
    pub(crate) is_slow: bool,
}

impl Pace {
    /// Records that the writer of the client has written lines.
    pub(crate) fn progressed(&mut self) {
        self.idle_since = None;
    }

    /// Updates the pace from the lines that wait.
    fn update(&mut self, output: &OutputQueue, now: Instant) {
        if output.mail_lag() == 0 {
            *self = Pace::default();
            return;
        }
        self.idle_since.get_or_insert(now);
        match output.is_behind() {
            true => drop(self.behind_since.get_or_insert(now)),
            false => self.behind_since = None,
        }
        let is_over = |since: Option<Instant>| since.is_some_and(|since| since + PATIENCE <= now);
        self.is_slow |= is_over(self.idle_since) || is_over(self.behind_since);
        self.is_slow &= !output.is_draining() || is_over(self.idle_since);
    }

    /// Returns when the patience with the client ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let since = [self.idle_since, self.behind_since].into_iter().flatten().min();
        since.filter(|_| !self.is_slow).map(|since| since + PATIENCE)
    }
}

/// What the node owes one client: lines to write, and the commands that have no answer yet.
#[derive(Debug)]
pub(crate) struct Client {
    /// The client gets events. An attached client gets none before its own `connect`.
    pub(crate) is_connected: bool,
    /// The `connect` of the client named protocol version 1. Without a version the node writes the
    /// events of the first sidecar only.
    pub(crate) protocol_v1: bool,
    /// Longest line that the client reads, in bytes.
    pub(crate) max_line: usize,
    /// The client wants the messages of other agents.
    pub(crate) inbox: bool,
    /// The group of the client. One client of a group gets each message.
    pub(crate) group: Option<String>,
    /// With manual acks: how many messages the client holds without an `ack`.
    pub(crate) max_unacked: usize,
    /// Ids of unanswered `send` commands.
    pub(crate) open_sends: BTreeSet<Id>,
    /// Ids of other unanswered commands.
    pub(crate) open_requests: BTreeSet<Id>,
    /// Ids of requests that have not ended.
    pub(crate) open_calls: BTreeSet<Id>,
    /// Lines that wait for the writer.
    pub(crate) output: OutputQueue,
    /// The client reads no more lines.
    pub(crate) is_gone: bool,
    /// The client leaves, and the node stays.
    pub(crate) leaving: Option<Leaving>,
    /// Number of the last message that the client got for its group.
    pub(crate) last_served: u64,
    /// How fast the client reads.
    pub(crate) pace: Pace,
    /// How fast the client writes.
    pub(crate) commands: CommandRate,
}

impl Client {
    /// Returns the parent. It needs no `connect` of its own, because the node starts with that of
    /// the parent.
    pub(crate) fn parent() -> Self {
        Client { is_connected: true, ..Client::attached() }
    }

    /// Returns a client that has attached and not written `connect`.
    pub(crate) fn attached() -> Self {
        Client {
            is_connected: false,
            protocol_v1: false,
            max_line: MAX_LINE_BYTES,
            inbox: true,
            group: None,
            max_unacked: Limits::STANDARD.max_unacked,
            open_sends: BTreeSet::new(),
            open_requests: BTreeSet::new(),
            open_calls: BTreeSet::new(),
            output: OutputQueue::default(),
            is_gone: false,
            leaving: None,
            last_served: 0,
            pace: Pace::default(),
            commands: CommandRate::default(),
        }
    }

    /// Returns `true` if a command with this id is unanswered.
    pub(crate) fn is_open(&self, id: &Id) -> bool {
        self.open_requests.contains(id) || self.open_sends.contains(id) || self.open_calls.contains(id)
    }

    /// Returns `true` if no line waits for the client any more.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_gone || self.output.is_empty()
    }

    /// Returns `true` if the client gets messages of other agents.
    pub(crate) fn wants_mail(&self) -> bool {
        self.is_connected && self.inbox && !self.is_gone && self.leaving.is_none()
    }

    /// Updates the pace of the client.
    pub(crate) fn update_pace(&mut self, now: Instant) {
        self.pace.update(&self.output, now);
    }

    /// Returns `true` if the client can read the line of this message.
    pub(crate) fn can_read(&self, line: &MailLine) -> bool {
        message_line_bytes(&line.message) <= self.max_line
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> impl Iterator<Item = Usage> {
        let [must, mail, topic, news, log] = self.output.lines();
        [
            ("commands unanswered", self.open_requests.len(), MAX_INFLIGHT + 1),
            // The lane may hold one send above its limit, and as many sends may wait for the disk.
            ("sends unanswered", self.open_sends.len(), 2 * MAX_INFLIGHT + 1),
            ("requests of a client", self.open_calls.len(), MAX_REQUESTS),
            ("unread replies", self.output.unread_others(), 2 * MAX_INFLIGHT + 1),
            ("unread replies to sends", self.output.unread_sends(), 2 * MAX_INFLIGHT + 1),
            ("required lines", must, MAX_REQUIRED),
            ("lines of mail", mail, MAIL_AND_CALLS),
            ("lines of broadcasts", topic, output_queue::TOPIC_LINES),
            ("lines of peer events", news, output_queue::PEER_EVENT_LINES),
            ("lines of logs", log, output_queue::LOG_LINES),
            ("lines at the writer", self.output.at_writer_lines(), output_queue::WRITER_LINES),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
    }
}
