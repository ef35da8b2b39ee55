//! Tracks which messages the program has finished and which of them the node has confirmed. Has no
//! I/O: the owner writes the lines.

use std::collections::{BTreeMap, HashMap, VecDeque};

use p2p_node_protocol::{Ack, ErrorCode, Limits, MAX_ACK_MESSAGES};

use crate::Error;

/// The number of finished messages whose `ack` the node has not confirmed. It equals the node's
/// limit of unacknowledged messages.
const MAX_UNCONFIRMED: usize = Limits::STANDARD.max_unacked;

/// A message to acknowledge, and the waiting `ack` call, if there is one.
struct PendingAck<W> {
    message_id: String,
    waiter: Option<W>,
}

/// The result of an `ack` call of the program.
pub(crate) type Outcome<W> = (W, Result<(), Error>);

/// The `ack`s of a node. One line is unanswered at a time; the next line names all messages that
/// the program finishes meanwhile.
pub(crate) struct Acks<W> {
    pending: VecDeque<PendingAck<W>>,
    /// The messages in unanswered lines, by the id of the command. There is one line, or more while
    /// the node closes.
    unanswered: BTreeMap<i64, Vec<PendingAck<W>>>,
    unconfirmed: Unconfirmed,
    not_found: u64,
}

impl<W> Acks<W> {
    pub(crate) fn new() -> Self {
        let (pending, unanswered) = (VecDeque::new(), BTreeMap::new());
        Acks { pending, unanswered, unconfirmed: Unconfirmed::default(), not_found: 0 }
    }

    /// Queues an `ack` for a finished message of the current process.
    pub(crate) fn finish(&mut self, message_id: String) {
        self.unconfirmed.insert(message_id.clone());
        // The queue exceeds the node's limit only if the node delivers the same messages
        // repeatedly.
        if self.pending.len() < MAX_UNCONFIRMED {
            self.pending.push_back(PendingAck { message_id, waiter: None });
        }
    }

    /// Remembers a finished message of an earlier process. The SDK acknowledges it when the sender
    /// sends it again.
    pub(crate) fn remember(&mut self, message_id: String) {
        self.unconfirmed.insert(message_id);
    }

    /// Queues an `ack` that the program requests.
    pub(crate) fn ask(&mut self, message_id: String, waiter: W) {
        self.pending.push_back(PendingAck { message_id, waiter: Some(waiter) });
    }

    /// Returns `true` if the program has finished this message and the node has not confirmed the
    /// `ack`.
    pub(crate) fn is_finished(&self, message_id: &str) -> bool {
        self.unconfirmed.numbers.contains_key(message_id)
    }

    /// Returns `true` if there is an `ack` to write. `at_once`: do not wait for the answer to the
    /// previous line.
    pub(crate) fn is_due(&self, at_once: bool) -> bool {
        !self.pending.is_empty() && (at_once || self.unanswered.is_empty())
    }

    /// Returns the next `ack` to write, and registers it under the id of its command.
    pub(crate) fn next(&mut self, id: i64, at_once: bool) -> Option<Ack> {
        if !self.is_due(at_once) {
            return None;
        }
        let count = self.pending.len().min(MAX_ACK_MESSAGES);
        let batch: Vec<PendingAck<W>> = self.pending.drain(..count).collect();
        let ack = Ack::many(batch.iter().map(|pending| pending.message_id.clone()).collect());
        self.unanswered.insert(id, batch);
        Some(ack)
    }

    /// Handles the node's answer to a line. Returns `true` if the SDK must send the same messages
    /// again after a pause, and the results for the waiting calls.
    pub(crate) fn answered(&mut self, id: i64, answer: Result<(), Error>) -> (bool, Vec<Outcome<W>>) {
        let mut outcomes = Vec::new();
        let mut is_busy = false;
        for PendingAck { message_id, waiter } in
            self.unanswered.remove(&id).unwrap_or_default().into_iter().rev()
        {
            let outcome = match &answer {
                Err(error) if is_known(error, &message_id) => Ok(()),
                other => other.clone(),
            };
            match (&outcome, waiter) {
                (Err(Error::CommandRefused { code: ErrorCode::Busy, .. }), None) => {
                    is_busy = true;
                    self.pending.push_front(PendingAck { message_id, waiter: None });
                    continue;
                }
                (Err(Error::CommandRefused { code: ErrorCode::MessageNotFound, .. }), None) => {
                    self.not_found += 1;
                    self.unconfirmed.remove(&message_id);
                }
                (Ok(()), None) => self.unconfirmed.remove(&message_id),
                // The `ack` counts, but the node has not persisted it: the message may arrive again
                // after a crash.
                (Err(_), None) => {}
                (_, Some(waiter)) => outcomes.push((waiter, outcome)),
            }
        }
        outcomes.reverse();
        (is_busy, outcomes)
    }

    /// Handles the end of the process: messages without a confirmed `ack` arrive again. Returns the
    /// waiting calls.
    pub(crate) fn process_ended(&mut self) -> Vec<W> {
        let unanswered = std::mem::take(&mut self.unanswered).into_values().flatten();
        unanswered.chain(self.pending.drain(..)).filter_map(|pending| pending.waiter).collect()
    }

    /// Returns the number of messages that the program finished after their senders had given them
    /// up.
    pub(crate) fn not_found(&self) -> u64 {
        self.not_found
    }
}

/// Returns `true` if the node knows the message. The node's error names the unknown ones.
fn is_known(error: &Error, message_id: &str) -> bool {
    let Error::CommandRefused { code: ErrorCode::MessageNotFound, details: Some(details), .. } = error else {
        return false;
    };
    let unknown = details.get("messageIds").and_then(|ids| ids.as_array());
    unknown.is_some_and(|unknown| !unknown.iter().any(|id| id == message_id))
}

/// A bounded set of message ids. A full set drops its oldest id.
#[derive(Default)]
struct Unconfirmed {
    numbers: HashMap<String, u64>,
    order: BTreeMap<u64, String>,
    next: u64,
}

impl Unconfirmed {
    fn insert(&mut self, message_id: String) {
        self.remove(&message_id);
        if self.order.len() >= MAX_UNCONFIRMED
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.numbers.remove(&oldest);
        }
        self.numbers.insert(message_id.clone(), self.next);
        self.order.insert(self.next, message_id);
        self.next += 1;
    }

    fn remove(&mut self, message_id: &str) {
        if let Some(number) = self.numbers.remove(message_id) {
            self.order.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Named = Acks<&'static str>;

    fn refusal(code: ErrorCode, unknown: &[&str]) -> Error {
        let details = Some(json!({ "messageIds": unknown }));
        Error::CommandRefused { code, message: String::new(), retryable: code.retryable(), details }
    }

    fn finish(acks: &mut Named, ids: &[&str]) {
        ids.iter().for_each(|id| acks.finish((*id).to_owned()));
    }

    fn next(acks: &mut Named) -> Vec<String> {
        acks.next(1, false).map(|ack| ack.message_ids).unwrap_or_default()
    }

    #[test]
    fn messages_finished_during_an_ack_join_the_next_ack() {
        let mut acks = Named::new();
        finish(&mut acks, &["a"]);
        assert_eq!(next(&mut acks), ["a"]);
        finish(&mut acks, &["b", "c"]);
        assert!(next(&mut acks).is_empty());
        assert!(acks.is_finished("a") && acks.is_finished("b"));
        assert!(!acks.answered(1, Ok(())).0);
        assert!(!acks.is_finished("a"));
        assert_eq!(next(&mut acks), ["b", "c"]);
        for number in 0..MAX_ACK_MESSAGES + 1 {
            acks.finish(number.to_string());
        }
        assert_eq!(acks.next(2, true).unwrap().message_ids.len(), MAX_ACK_MESSAGES);
        assert_eq!(acks.next(3, true).unwrap().message_ids.len(), 1);
        assert!(acks.next(4, true).is_none());
    }

    #[test]
    fn unknown_messages_are_counted_and_each_waiter_gets_its_own_outcome() {
        let mut acks = Named::new();
        finish(&mut acks, &["gone", "known"]);
        acks.ask("mine".to_owned(), "one");
        acks.ask("lost".to_owned(), "other");
        next(&mut acks);
        let (is_busy, outcomes) =
            acks.answered(1, Err(refusal(ErrorCode::MessageNotFound, &["gone", "lost"])));
        assert!(!is_busy && acks.not_found() == 1);
        assert!(!acks.is_finished("gone") && !acks.is_finished("known"));
        assert!(
            matches!(&outcomes[..], [("one", Ok(())), ("other", Err(Error::CommandRefused { .. }))]),
            "{outcomes:?}"
        );
    }

    #[test]
    fn busy_ack_is_repeated_in_order_and_disk_full_ack_is_remembered() {
        let mut acks = Named::new();
        finish(&mut acks, &["a", "b"]);
        next(&mut acks);
        finish(&mut acks, &["c"]);
        assert!(acks.answered(1, Err(refusal(ErrorCode::Busy, &[]))).0);
        assert_eq!(next(&mut acks), ["a", "b", "c"]);
        assert!(!acks.answered(1, Err(refusal(ErrorCode::DiskFull, &[]))).0);
        assert!(acks.is_finished("a") && next(&mut acks).is_empty());
    }

    #[test]
    fn finished_messages_outlive_process_and_are_bounded() {
        let mut acks = Named::new();
        finish(&mut acks, &["a", "b"]);
        next(&mut acks);
        finish(&mut acks, &["c"]);
        acks.ask("mine".to_owned(), "one");
        assert_eq!(acks.process_ended(), ["one"]);
        assert!(next(&mut acks).is_empty());
        assert!(["a", "b", "c"].iter().all(|id| acks.is_finished(id)) && !acks.is_finished("mine"));
        for number in 0..MAX_UNCONFIRMED - 1 {
            acks.remember(number.to_string());
        }
        assert!(!acks.is_finished("a") && !acks.is_finished("b") && acks.is_finished("c"));
        let Unconfirmed { numbers, order, .. } = &acks.unconfirmed;
        assert_eq!((numbers.len(), order.len()), (MAX_UNCONFIRMED, MAX_UNCONFIRMED));
    }
}
