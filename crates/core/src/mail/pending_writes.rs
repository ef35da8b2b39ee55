//! What is on its way to the disk: with a store, no mail is accepted and none acknowledged before that knows of it.

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Id, Level, Route};

use crate::cx::Cx;
use crate::effect::{Effect, ExitCode};
use crate::gate::Gate;
use crate::mail::Mail;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::mail::outbound::outbox::{Accepted, Completed, PersistedMessage};
use crate::mail::outbound::stream::{Name, Renamed};
use crate::outgoing::OutgoingMessage;
use crate::signal::Signal;

/// Something of which the store has not said that it has it.
#[derive(Debug)]
enum Waiting {
    /// Mail, with the command that waits for that.
    Mail { recipient: Address, accepted: Accepted, id: Option<Id>, route: Route },
    /// Mail that was accepted before, under another name: nobody waits for that.
    Renamed,
    /// How far the parent has the mail of a stream.
    Taken(StreamCheckpoint),
}

/// What is being kept, in the order of its numbers: no more than there are mails in the outbox, and streams received.
#[derive(Debug)]
pub(crate) struct PendingWrites {
    durable: bool,
    last: u64,
    /// The place of the latest mail in the store.
    position: u64,
    waiting: VecDeque<(u64, Waiting)>,
    /// Mail among it.
    mails: usize,
}

impl PendingWrites {
    /// `position` is that of the latest mail in the store.
    pub(crate) fn new(durable: bool, position: u64) -> Self {
        PendingWrites { durable, last: 0, position, waiting: VecDeque::new(), mails: 0 }
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn mails(&self) -> usize {
        self.mails
    }

    fn push(&mut self, number: u64, waiting: Waiting) {
        self.mails += usize::from(matches!(waiting, Waiting::Mail { .. }));
        self.waiting.push_back((number, waiting));
    }

    fn next_upto(&mut self, upto: u64) -> Option<Waiting> {
        let (_, waiting) = self.waiting.pop_front_if(|(number, _)| *number <= upto)?;
        self.mails -= usize::from(matches!(waiting, Waiting::Mail { .. }));
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
    /// Has accepted mail kept, and answers then; or at once, without a store.
    pub(crate) fn keep_mail(
        &mut self,
        recipient: Address,
        accepted: Accepted,
        draft: Option<OutgoingMessage>,
        id: Option<Id>,
        route: Route,
        cx: &mut Cx,
    ) {
        let Some(draft) = draft else { return self.reply_accepted(recipient, accepted, id, route, cx) };
        let number = self.store_mail(recipient, (accepted.stream, accepted.seq), None, draft, cx);
        // Until it is answered its id is taken, and counts.
        cx.replies.open_sends.extend(id.clone());
        self.pending_writes.push(number, Waiting::Mail { recipient, accepted, id, route });
    }

    /// Has it kept under which names mail goes now, so that the next process sends it under the same.
    pub(crate) fn keep_renamed(&mut self, recipient: Address, renamed: Vec<Renamed>, cx: &mut Cx) {
        cx.stats.add(Counter::MailRenamed, renamed.len() as u64);
        if !self.pending_writes.durable {
            return;
        }
        for Renamed { accepted_as, sent_as, draft } in renamed {
            let number = self.store_mail(recipient, accepted_as, Some(sent_as), draft, cx);
            self.pending_writes.waiting.push_back((number, Waiting::Renamed));
        }
    }

    /// Has mail written to the store, which says so by this number.
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
        let left = draft.expires.saturating_sub(now.mono).as_millis() as u64;
        let expires_at_ms = now.unix_ms.saturating_add(left);
        let mail =
            Box::new(PersistedMessage { recipient, stream, seq, sent_as, position, expires_at_ms, draft });
        cx.effects.push_back(Effect::PersistMessage { number, mail });
        number
    }

    /// Has it kept how far the parent has the mail of a stream.
    pub(crate) fn keep_taken(&mut self, row: StreamCheckpoint, cx: &mut Cx) {
        let number = self.pending_writes.number();
        cx.effects.push_back(Effect::PersistCheckpoint { number, row: Box::new(row.clone()) });
        self.pending_writes.push(number, Waiting::Taken(row));
    }

    fn reply_accepted(
        &mut self,
        recipient: Address,
        accepted: Accepted,
        id: Option<Id>,
        route: Route,
        cx: &mut Cx,
    ) {
        cx.stats.count(Counter::MailAccepted);
        self.recipients_to_flush.insert(recipient);
        cx.answer(id, "send", |answer| {
            answer.message_id = Some(accepted.message_id);
            answer.delivery = Some("accepted".to_owned());
            answer.route = Some(route);
        });
    }

    pub(crate) fn on_kept(&mut self, upto: u64, gate: &mut Gate, cx: &mut Cx) {
        while let Some(waiting) = self.pending_writes.next_upto(upto) {
            match waiting {
                Waiting::Mail { recipient, accepted, id, route } => {
                    if self.outbox.keep(&recipient, &accepted.stream, accepted.seq) {
                        self.reply_accepted(recipient, accepted, id, route, cx);
                    }
                }
                Waiting::Renamed => {}
                Waiting::Taken(row) => self.on_taken_kept(&row, gate, cx),
            }
        }
    }

    pub(crate) fn on_not_kept(&mut self, upto: u64, reason: &str, cx: &mut Cx) {
        while let Some(waiting) = self.pending_writes.next_upto(upto) {
            match waiting {
                Waiting::Mail { recipient, accepted, id, .. } => {
                    if self.outbox.rollback(&recipient, &accepted.stream, accepted.seq) {
                        cx.stats.count(Counter::MailNotKept);
                        let message =
                            format!("message not accepted: disk write failed: {reason}; send it again later");
                        cx.refuse_send(id, ErrorCode::DiskFull, message);
                    }
                }
                // It goes under its new name all the same; the next process would have to learn once more that it must.
                Waiting::Renamed => cx.stats.count(Counter::MailRenamedNotKept),
                Waiting::Taken(row) => self.on_taken_not_kept(&row, reason, cx),
            }
        }
    }

    /// Mail whose keeping nobody will hear of any more.
    pub(crate) fn fail_unpersisted(&mut self, cx: &mut Cx) {
        while let Some(waiting) = self.pending_writes.next_upto(u64::MAX) {
            let Waiting::Mail { recipient, accepted, id, .. } = waiting else { continue };
            self.outbox.rollback(&recipient, &accepted.stream, accepted.seq);
            forget(&accepted, cx);
            cx.refuse_send(
                id,
                ErrorCode::ShuttingDown,
                "message not accepted: the node closed before it was persisted",
            );
        }
        self.refuse_asked(ErrorCode::ShuttingDown, "the node closed before it persisted the `ack`", cx);
    }

    /// Mail has ended: the store need not keep it.
    pub(crate) fn forget_mail(&mut self, ended: &Completed, cx: &mut Cx) {
        if self.pending_writes.durable {
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

    /// A process on another host has taken this one for dead, and its data directory: two may not go on with it.
    pub(crate) fn on_store_lost(&mut self, host: &str, cx: &mut Cx) {
        let message = format!(
            "a process on host {host} took over the data directory, because this process did not renew its claim in time; this process exits, and messages that it accepted since may be lost; give each node its own data directory"
        );
        cx.emit_error(ErrorEvent::new(ErrorCode::DataDirInUse, message));
        cx.signal(Signal::GiveUp(ExitCode::Io));
    }

    /// How long mail is tried when `ttlMs` is absent: it is of use for longer where it outlives the process.
    pub(crate) fn default_ttl(&self) -> Duration {
        if self.pending_writes.durable { Duration::from_secs(24 * 3600) } else { Duration::from_secs(120) }
    }
}

fn forget(accepted: &Accepted, cx: &mut Cx) {
    let Accepted { stream, seq, .. } = *accepted;
    cx.effects.push_back(Effect::DeleteMessage { stream, seq });
}
