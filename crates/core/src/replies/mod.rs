//! Lines that the core writes to the parent: answers, errors, deliveries and peer events.

pub mod output_queue;
pub(crate) mod required;

use std::collections::BTreeSet;

use p2p_node_protocol::{
    Answer, Counter, Delivery, DeliveryState, DropCounts, ErrorCode, ErrorEvent, Event, Id, Level, Log,
    MAX_LINE_BYTES, Route,
};

use crate::MAX_INFLIGHT;
use crate::cx::Cx;
use crate::effect::{Effect, NetworkCommand};
use crate::usage::{MAX_REQUIRED, Usage};
use output_queue::OutputQueue;
use required::Required;

/// Upper bound of the bytes of a `peer_discovered` or `status` line without its lists, with a
/// reserve for new counters.
const LISTS_LINE_BYTES: usize = 3072;

/// Returns the bytes of a text in a line, without its quotes.
pub(crate) fn line_bytes(text: &str) -> usize {
    let of_char = |letter: char| match letter {
        '"' | '\\' => 2,
        '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => 6,
        other => other.len_utf8(),
    };
    text.chars().map(of_char).sum()
}

/// Returns the bytes of a JSON value in a line. The encoder escapes the line separators in it. The
/// value must not contain control characters.
pub(crate) fn raw_line_bytes(json: &str) -> usize {
    if json.is_ascii() {
        return json.len();
    }
    let of_char = |letter: char| match letter {
        '\u{85}' | '\u{2028}' | '\u{2029}' => 6,
        other => other.len_utf8(),
    };
    json.chars().map(of_char).sum()
}

/// Bytes of a line that its lists may still use. The node leaves out entries that do not fit,
/// because the parent cannot read a line that is too long.
pub(crate) struct Room(usize);

impl Room {
    /// Reserves `bytes`. Returns `false` if fewer are left.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    pub(crate) fn fits(&mut self, text: &str) -> bool {
        // The text needs two quotes and a comma.
        self.takes(line_bytes(text) + 3)
    }
}

/// What the node owes its parent: lines to write, and the commands that have no answer yet.
#[derive(Debug)]
pub(crate) struct Replies {
    /// The parent's `connect` named protocol version 1. Without a version the node writes the
    /// events of the first sidecar only.
    pub(crate) protocol_v1: bool,
    /// Longest line that the parent reads, in bytes.
    pub(crate) max_line: usize,
    /// Ids of unanswered `send` commands.
    pub(crate) open_sends: BTreeSet<Id>,
    /// Ids of other unanswered commands.
    pub(crate) open_requests: BTreeSet<Id>,
    /// Lines that wait for the writer.
    pub(crate) output: OutputQueue,
    /// Outcomes for `--require-delivery`.
    pub(crate) required: Required,
    /// The node answered mail or published something since the last turn.
    pub(crate) has_spoken: bool,
}

impl Replies {
    pub(crate) fn new(required: Required) -> Self {
        Replies {
            protocol_v1: false,
            max_line: MAX_LINE_BYTES,
            open_sends: BTreeSet::new(),
            open_requests: BTreeSet::new(),
            output: OutputQueue::default(),
            required,
            has_spoken: false,
        }
    }
}

impl Cx {
    /// Returns the bytes of a line that its lists may use.
    pub(crate) fn room_for_lists(&self) -> Room {
        Room(self.replies.max_line.saturating_sub(LISTS_LINE_BYTES))
    }

    pub(crate) fn network(&mut self, effect: NetworkCommand) {
        self.replies.has_spoken |= match &effect {
            NetworkCommand::AnswerMail { .. } => true,
            NetworkCommand::Publish { topic, .. } => {
                ![crate::ANNOUNCEMENTS, crate::STATUS].contains(&topic.as_str())
            }
            _ => false,
        };
        self.effects.push_back(Effect::Network(effect));
    }

    /// Answers a command that succeeded, if it has an id.
    pub(crate) fn answer(&mut self, id: Option<Id>, command: &str, fill: impl FnOnce(&mut Answer)) {
        let Some(id) = id else { return };
        let is_send = command == "send";
        if is_send {
            self.replies.open_sends.remove(&id);
        } else {
            self.replies.open_requests.remove(&id);
        }
        let mut answer = Answer::new(id, command);
        fill(&mut answer);
        self.replies.output.answer(Event::Result(Box::new(answer)), is_send);
    }

    /// Answers a command that failed.
    pub(crate) fn refuse(&mut self, id: Option<Id>, code: ErrorCode, message: impl Into<String>) {
        if let Some(id) = &id {
            self.replies.open_requests.remove(id);
        }
        self.replies.required.refused(code);
        let error = ErrorEvent { id, ..ErrorEvent::new(code, message) };
        self.emit_error(error);
    }

    /// Answers a `send` that failed.
    pub(crate) fn refuse_send(&mut self, id: Option<Id>, code: ErrorCode, message: impl Into<String>) {
        if let Some(id) = &id {
            self.replies.open_sends.remove(id);
        }
        self.replies.required.refused(code);
        let error = ErrorEvent { id, ..ErrorEvent::new(code, message) };
        self.replies.output.answer(Event::Error(Box::new(error)), true);
    }

    /// Writes an error event.
    pub(crate) fn emit_error(&mut self, error: ErrorEvent) {
        self.replies.output.tell(Event::Error(Box::new(error)));
    }

    pub(crate) fn log(&mut self, level: Level, namespace: &str, message: impl Into<String>) {
        self.replies.output.log(Log {
            level,
            namespace: namespace.to_owned(),
            message: message.into(),
            meta: None,
        });
    }

    /// Reports the end of an accepted message or broadcast. A parent without protocol version 1
    /// gets an `error` event if it failed, and nothing otherwise.
    pub(crate) fn emit_delivery(&mut self, mut delivery: Delivery) {
        self.replies.required.ended(delivery.state == DeliveryState::Delivered, delivery.redelivered);
        self.stats.count(match delivery.state {
            DeliveryState::Delivered => Counter::MailDelivered,
            DeliveryState::Expired => Counter::MailExpired,
            DeliveryState::Rejected => Counter::MailRejected,
            DeliveryState::Failed | DeliveryState::Unknown => Counter::MailFailed,
        });
        let failed = delivery.state != DeliveryState::Delivered;
        let code = delivery.code.unwrap_or(ErrorCode::Expired);
        let known = delivery.message.take();
        delivery.message = failed.then(|| known.unwrap_or_else(|| delivery_failure(code, delivery.route)));
        if self.replies.protocol_v1 {
            self.replies.output.tell(Event::Delivery(Box::new(delivery)));
        } else if let Some(message) = delivery.message {
            self.emit_error(ErrorEvent {
                request_id: delivery.request_id,
                message_id: Some(delivery.message_id),
                ..ErrorEvent::new(code, message)
            });
        }
    }

    /// Queues a peer event for a parent that uses protocol version 1.
    pub(crate) fn emit_peer_event(&mut self, event: Event) {
        if self.replies.protocol_v1 {
            self.replies.output.news(event, |_| false);
        }
    }

    /// Moves queued lines to the writer while it has room.
    pub(crate) fn flush_output(&mut self) {
        while let Some(event) = self.replies.output.pop() {
            let event = match event {
                Event::Overflow(overflow) if !self.replies.protocol_v1 => {
                    let DropCounts { broadcasts, oversized, peer_events, log } = overflow.dropped;
                    let message = format!(
                        "the node dropped {broadcasts} broadcasts, {peer_events} peer events and {log} logs because the parent does not read stdout fast enough, \
                         and {oversized} broadcasts because they do not fit into a line"
                    );
                    let namespace = "front".to_owned();
                    Event::Log(Box::new(Log { level: Level::Warn, namespace, message, meta: None }))
                }
                other => other,
            };
            self.effects.push_back(Effect::Emit { event, numbered: self.replies.protocol_v1 });
        }
    }
}

/// Returns the standard text of a code: what happened to the message, and what to do.
fn delivery_failure(code: ErrorCode, route: Option<Route>) -> String {
    match code {
        ErrorCode::PeerNotFound => {
            "no verified record of this address was found in time; check that the agent runs, has joined this network and has the right time".into()
        }
        ErrorCode::PeerUnreachable => {
            "none of the recipient's addresses answered in time; check that its node runs and can be reached, or use `route` `auto`, which also tries gossip".into()
        }
        ErrorCode::NoSubscribers => "no subscriber of the topic was reached in time".into(),
        ErrorCode::ShuttingDown => "the node closed before the message was acknowledged; it may have arrived".into(),
        ErrorCode::PeerBusy => "the recipient's node had no room for the message in time, because its agent does not read fast enough".into(),
        ErrorCode::Cancelled => "a `cancel` command ended the message; it may have arrived".into(),
        ErrorCode::PeerRejected => "rejected by the recipient: you are blocked, or its version does not support this message format".into(),
        ErrorCode::MessageTooLarge => "the message is too long for the recipient's agent to read, or for the network to carry".into(),
        _ if route == Some(Route::Gossip) => "no acknowledgement came back by gossip in time; the message may have arrived".into(),
        _ => "no acknowledgement came in time; the message may have arrived".into(),
    }
}

impl Replies {
    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let [must, mail, topic, news, log] = self.output.lines();
        [
            ("commands unanswered", self.open_requests.len(), MAX_INFLIGHT + 1),
            // The lane may hold one send above its limit, and as many sends may wait for the disk.
            ("sends unanswered", self.open_sends.len(), 2 * MAX_INFLIGHT + 1),
            ("unread replies", self.output.unread_others(), 2 * MAX_INFLIGHT + 1),
            ("unread replies to sends", self.output.unread_sends(), 2 * MAX_INFLIGHT + 1),
            ("required lines", must, MAX_REQUIRED),
            ("lines of mail", mail, output_queue::MAIL_LINES),
            ("lines of broadcasts", topic, output_queue::TOPIC_LINES),
            ("lines of peer events", news, output_queue::NEWS_LINES),
            ("lines of logs", log, output_queue::LOG_LINES),
            ("lines at the writer", self.output.at_writer_lines(), output_queue::WRITER_LINES),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}
