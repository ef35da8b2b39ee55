//! Changes that the store has not committed yet.
//!
//! With a store, the node answers a `send` and a command about an access rule, and acknowledges a message,
//! only after the store has committed it.

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Level, Route};

use crate::MAX_INFLIGHT;
use crate::cx::Cx;
use crate::effect::{Effect, ExitCode};
use crate::gate::Gate;
use crate::gate::access_list::{AccessRule, Subject};
use crate::mail::Mail;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::mail::outbound::outbox::{Accepted, Completed, PersistedMessage};
use crate::mail::outbound::stream::{Name, Renamed};
use crate::outgoing::OutgoingMessage;
use crate::replies::clients::MAX_CLIENTS;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;

/// Largest number of access rules that wait for the store: all commands without an answer of all clients.
pub(crate) const MAX_RULE_WRITES: usize = MAX_CLIENTS * (MAX_INFLIGHT + 1);

/// A change that the store has not committed.
#[derive(Debug)]
enum Waiting {
    /// An accepted message, and the `send` command that the node answers after the commit.
    Mail { recipient: Address, accepted: Accepted, command: ReplyTo, route: Route },
    /// New numbers of a message that was committed before. No command waits for this change.
    Renamed,
    /// A checkpoint of a received stream.
    Taken(StreamCheckpoint),
    /// An access rule, and the command that set it, with its name.
    AccessRule { command: ReplyTo, name: &'static str },
}

/// The changes in the order of their numbers. The outbox, the number of received streams and the commands
/// without an answer limit them.
#[derive(Debug)]
pub(crate) struct PendingWrites {
    durable: bool,
    last: u64,
    /// The position of the latest message in the store.
    position: u64,
    waiting: VecDeque<(u64, Waiting)>,
    /// The number of messages in `waiting`.
    messages: usize,
    /// The number of access rules in `waiting`.
    access_rules: usize,
}

impl PendingWrites {
    /// Creates an empty queue. `position` is the position of the latest message in the store.
    pub(crate) fn new(durable: bool, position: u64) -> Self {
        PendingWrites { durable, last: 0, position, waiting: VecDeque::new(), messages: 0, access_rules: 0 }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    pub(crate) fn access_rules(&self) -> usize {
        self.access_rules
    }

    fn push(&mut self, number: u64, waiting: Waiting) {
        self.messages += usize::from(matches!(waiting, Waiting::Mail { .. }));
        self.access_rules += usize::from(matches!(waiting, Waiting::AccessRule { .. }));
        self.waiting.push_back((number, waiting));
    }

    fn next_through(&mut self, through: u64) -> Option<Waiting> {
        let (_, waiting) = self.waiting.pop_front_if(|(number, _)| *number <= through)?;
        self.messages -= usize::from(matches!(waiting, Waiting::Mail { .. }));
        self.access_rules -= usize::from(matches!(waiting, Waiting::AccessRule { .. }));
        Some(waiting)
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn next_position(&mut self) -> u64 {
        self.position = self.position.saturating_add(1);
        self.position
    }
}

impl Mail {
    /// Persists an accepted message and answers the `send` after the commit. Without a store it
    /// answers at once.
    pub(crate) fn persist_message(
        &mut self,
        recipient: Address,
        accepted: Accepted,
        draft: Option<OutgoingMessage>,
        command: ReplyTo,
        route: Route,
        cx: &mut Cx,
    ) {
        let Some(draft) = draft else { return self.reply_accepted(recipient, accepted, command, route, cx) };
        let number = self.store_mail(recipient, (accepted.stream, accepted.seq), None, draft, cx);
        // The id stays in use, and counts against the limit, until the node answers.
        cx.replies.clients.open_send(&command);
        self.pending_writes.push(number, Waiting::Mail { recipient, accepted, command, route });
    }

    /// Persists the new numbers of messages, so that the next process sends them under the same
    /// numbers.
    pub(crate) fn persist_renamed(&mut self, recipient: Address, renamed: Vec<Renamed>, cx: &mut Cx) {
        cx.stats.add(Counter::MailRenumbered, renamed.len() as u64);
        if !self.pending_writes.durable {
            return;
        }
        let in_store = renamed.into_iter().filter(|renamed| renamed.draft.call.is_none());
        for Renamed { accepted_as, sent_as, draft } in in_store {
            let number = self.store_mail(recipient, accepted_as, Some(sent_as), draft, cx);
            self.pending_writes.waiting.push_back((number, Waiting::Renamed));
        }
    }

    /// Writes a message to the store. Returns the number by which the store confirms the write.
    fn store_mail(
        &mut self,
        recipient: Address,
        (stream, seq): Name,
        sent_as: Option<Name>,
        draft: OutgoingMessage,
        cx: &mut Cx,
    ) -> u64 {
        let now = cx.now;
        let (number, position) = (self.pending_writes.number(), self.pending_writes.next_position());
        let left = draft.expires.saturating_since(now.mono).as_millis() as u64;
        let expires_at_ms = now.unix_ms.saturating_add(left);
        let mail =
            Box::new(PersistedMessage { recipient, stream, seq, sent_as, position, expires_at_ms, draft });
        cx.effects.push_back(Effect::PersistMessage { number, mail });
        number
    }

    /// Persists a checkpoint of a received stream.
    pub(crate) fn persist_checkpoint(&mut self, row: StreamCheckpoint, cx: &mut Cx) {
        let number = self.pending_writes.number();
        cx.effects.push_back(Effect::PersistCheckpoint { number, row: Box::new(row.clone()) });
        self.pending_writes.push(number, Waiting::Taken(row));
    }

    /// Persists an access rule and answers its command after the commit. Without a store it answers at once.
    pub(crate) fn persist_access_rule(
        &mut self,
        subject: Subject,
        rule: Option<AccessRule>,
        command: ReplyTo,
        name: &'static str,
        cx: &mut Cx,
    ) {
        if !self.pending_writes.durable {
            return cx.answer(command, name, |_| {});
        }
        let number = self.pending_writes.number();
        cx.effects.push_back(Effect::PersistAccessRule { number, subject, rule });
        if command.id.is_some() {
            // Until the node answers, the id is in use and counts.
            cx.replies.clients.open_request(&command);
            self.pending_writes.push(number, Waiting::AccessRule { command, name });
        }
    }

    fn reply_accepted(
        &mut self,
        recipient: Address,
        accepted: Accepted,
        command: ReplyTo,
        route: Route,
        cx: &mut Cx,
    ) {
        cx.stats.count(Counter::MailAccepted);
        cx.stats.traffic.sent(accepted.priority, cx.now.mono);
        self.recipients_to_flush.insert(recipient);
        if let Some(step) = command.step {
            return cx.answer_step(command, step);
        }
        cx.answer(command, "send", |answer| {
            answer.message_id = Some(accepted.message_id);
            answer.delivery = Some("accepted".to_owned());
            answer.route = Some(route);
        });
    }

    pub(crate) fn on_persisted(&mut self, through: u64, gate: &mut Gate, cx: &mut Cx) {
        while let Some(waiting) = self.pending_writes.next_through(through) {
            match waiting {
                Waiting::Mail { recipient, accepted, command, route } => {
                    if self.outbox.mark_persisted(&recipient, &accepted.stream, accepted.seq) {
                        self.reply_accepted(recipient, accepted, command, route, cx);
                    }
                }
                Waiting::Renamed => {}
                Waiting::Taken(row) => self.on_checkpoint_persisted(&row, gate, cx),
                Waiting::AccessRule { command, name } => cx.answer(command, name, |_| {}),
            }
        }
    }

    pub(crate) fn on_persist_failed(&mut self, through: u64, reason: &str, cx: &mut Cx) {
        while let Some(waiting) = self.pending_writes.next_through(through) {
            match waiting {
                Waiting::Mail { recipient, accepted, command, .. } => {
                    if self.outbox.rollback(&recipient, &accepted.stream, accepted.seq) {
                        cx.stats.count(Counter::MailNotPersisted);
                        let message =
                            format!("message not accepted: disk write failed: {reason}; send it again later");
                        cx.refuse_send(command, ErrorCode::DiskFull, message);
                    }
                }
                // This process still uses the new numbers. The next process sends the message under
                // the old ones and the recipient rejects these once more.
                Waiting::Renamed => cx.stats.count(Counter::MailRenumberedNotPersisted),
                Waiting::Taken(row) => self.on_checkpoint_failed(&row, reason, cx),
                Waiting::AccessRule { command, name } => {
                    cx.stats.count(Counter::AccessRuleWritesDropped);
                    let message = format!(
                        "`{name}` holds until this process ends, but is not on the disk: {reason}; send it again later"
                    );
                    cx.refuse(command, ErrorCode::DiskFull, message);
                }
            }
        }
    }

    /// Fails every command that still waits for the store, because the node closes.
    pub(crate) fn fail_unpersisted(&mut self, cx: &mut Cx) {
        while let Some(waiting) = self.pending_writes.next_through(u64::MAX) {
            let (recipient, accepted, command) = match waiting {
                Waiting::Mail { recipient, accepted, command, .. } => (recipient, accepted, command),
                Waiting::AccessRule { command, name } => {
                    let message = format!("the node closed before `{name}` was on the disk");
                    cx.refuse(command, ErrorCode::ShuttingDown, message);
                    continue;
                }
                Waiting::Renamed | Waiting::Taken(_) => continue,
            };
            self.outbox.rollback(&recipient, &accepted.stream, accepted.seq);
            forget(&accepted, cx);
            cx.refuse_send(
                command,
                ErrorCode::ShuttingDown,
                "message not accepted: the node closed before it was persisted",
            );
        }
        self.reject_pending_acks(
            ErrorCode::ShuttingDown,
            "the node closed before it persisted the `ack`",
            cx,
        );
    }

    /// Deletes a completed message from the store.
    pub(crate) fn forget_mail(&mut self, ended: &Completed, cx: &mut Cx) {
        if self.pending_writes.durable && ended.mail.draft.call.is_none() {
            cx.effects.push_back(Effect::DeleteMessage { stream: ended.stream, seq: ended.seq });
        }
    }

    /// Reports a failing store once. The node continues, because data persisted for later processes
    /// is only a second line of defence.
    pub(crate) fn on_store_failed(&mut self, reason: String, cx: &mut Cx) {
        cx.stats.count(Counter::StoreFailures);
        if !std::mem::replace(&mut self.store_failed, true) {
            cx.log(Level::Warn, "store", reason);
        }
    }

    /// Exits, because a process on another host considered this process dead and took over its data
    /// directory. Two processes must not use one data directory.
    pub(crate) fn on_store_lost(&mut self, host: &str, cx: &mut Cx) {
        let message = format!(
            "a process on host {host} took over the data directory, because this process did not renew its claim in time; this process exits, and messages that it accepted since may be lost; give each node its own data directory"
        );
        cx.emit_error(ErrorEvent::new(ErrorCode::DataDirInUse, message));
        cx.signal(Signal::Abort(ExitCode::Io));
    }

    /// Returns the lifetime of a message without `ttlMs`: 24 hours with a store, because the
    /// message outlives the process, and 2 minutes without.
    pub(crate) fn default_ttl(&self) -> Duration {
        if self.pending_writes.durable { Duration::from_secs(24 * 3600) } else { Duration::from_secs(120) }
    }
}

fn forget(accepted: &Accepted, cx: &mut Cx) {
    let Accepted { stream, seq, .. } = *accepted;
    cx.effects.push_back(Effect::DeleteMessage { stream, seq });
}
