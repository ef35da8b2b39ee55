//! Lines that the core writes to its clients: answers, errors, deliveries and peer events.

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod command_rate;
pub mod output_queue;
pub(crate) mod recipients;
pub mod reply_to;
mod requests;
pub(crate) mod required;

use std::collections::BTreeSet;

use p2p_node_protocol::{
    Answer, Counter, Delivery, DeliveryState, DropCounts, ErrorCode, ErrorEvent, Event, Level, Log, Message,
    Priority, Route,
};
use serde_json::{Value, json};

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::effect::{Effect, NetworkCommand};
use crate::usage::Usage;
use client::Client;
use clients::{Clients, MAX_CLIENTS};
use output_queue::MailLine;
use reply_to::ReplyTo;
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

/// Bytes of a `message` line besides what others choose, at most: names, ids and numbers, and room
/// for more of them.
const MESSAGE_LINE_BYTES: usize = 1024;

/// Bytes of the field `file` of a `message` line besides its texts, at most: names of fields, a hash and a
/// number.
const FILE_LINE_BYTES: usize = 160;

/// Returns an upper bound of the bytes of a `message` line with these texts and this `data`.
pub(crate) fn message_line_bound(texts: [&str; 4], data: &str) -> usize {
    MESSAGE_LINE_BYTES + texts.into_iter().map(line_bytes).sum::<usize>() + raw_line_bytes(data)
}

/// Returns an upper bound of the bytes of the line of a message.
pub(crate) fn message_line_bytes(message: &Message) -> usize {
    let texts = [&message.kind, &message.reply_to, &message.conversation_id, &message.topic];
    let file = message.file.as_ref().map_or(0, |file| {
        FILE_LINE_BYTES + line_bytes(&file.path) + file.name.as_deref().map_or(0, line_bytes)
    });
    file + message_line_bound(texts.map(|text| text.as_deref().unwrap_or_default()), message.data.get())
}

/// Bytes of a line that its lists may still use. The node leaves out entries that do not fit,
/// because a client cannot read a line that is too long.
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

/// What the node owes its clients, and what it records of their commands.
#[derive(Debug)]
pub(crate) struct Replies {
    /// The clients, with their lines and their unanswered commands.
    pub(crate) clients: Clients,
    /// Outcomes for `--require-delivery`.
    pub(crate) required: Required,
    /// The node answered mail or published something since the last turn.
    pub(crate) has_spoken: bool,
}

impl Replies {
    pub(crate) fn new(required: Required, has_parent: bool) -> Self {
        let clients = if has_parent { Clients::new() } else { Clients::new().without_parent() };
        Replies { clients, required, has_spoken: false }
    }

    /// Records that the node refused a command. The exit code counts commands of the parent only.
    pub(crate) fn refused(&mut self, client: ClientId, code: ErrorCode) {
        if client == ClientId::PARENT {
            self.required.refused(code);
        }
    }
}

impl Cx {
    /// Returns the bytes of a line to this client, or to every client, that its lists may use.
    pub(crate) fn room_for_lists(&self, client: Option<ClientId>) -> Room {
        let is_reader = |id: &ClientId, of: &Client| match client {
            Some(only) => only == *id,
            None => of.is_connected && !of.is_gone,
        };
        let clients = self.replies.clients.iter().filter(|(id, client)| is_reader(id, client));
        let max_line = clients.map(|(_, client)| client.max_line).min().unwrap_or_default();
        Room(max_line.saturating_sub(LISTS_LINE_BYTES))
    }

    /// Returns the longest line that a client can read, in bytes.
    pub(crate) fn max_line(&self, client: ClientId) -> usize {
        self.replies.clients.get(client).map(|client| client.max_line).unwrap_or_default()
    }

    pub(crate) fn network(&mut self, effect: NetworkCommand) {
        self.stats.traffic.count_effect(&effect);
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
    pub(crate) fn answer(&mut self, to: ReplyTo, command: &str, fill: impl FnOnce(&mut Answer)) {
        let Some(id) = to.id else { return };
        let Some(client) = self.replies.clients.get_mut(to.client) else { return };
        let is_send = matches!(command, "send" | "respond");
        if is_send {
            client.open_sends.remove(&id);
        } else {
            client.open_requests.remove(&id);
        }
        let mut answer = Answer::new(id, command);
        answer.address = to.resolved.map(|address| address.to_string());
        fill(&mut answer);
        client.output.answer(Event::Result(Box::new(answer)), is_send);
    }

    /// Answers a command that failed.
    pub(crate) fn refuse(&mut self, to: ReplyTo, code: ErrorCode, message: impl Into<String>) {
        self.refuse_with(to, ErrorEvent::new(code, message));
    }

    /// Answers a command that failed, with an error event that has more than code and message.
    pub(crate) fn refuse_with(&mut self, to: ReplyTo, error: ErrorEvent) {
        self.replies.refused(to.client, error.code);
        let Some(client) = self.replies.clients.get_mut(to.client) else { return };
        if let Some(id) = &to.id {
            client.open_requests.remove(id);
        }
        client.output.push_required(Event::Error(Box::new(ErrorEvent { id: to.id, ..error })));
    }

    /// Answers a `send` that failed.
    pub(crate) fn refuse_send(&mut self, to: ReplyTo, code: ErrorCode, message: impl Into<String>) {
        if let Some(step) = to.step {
            return self.end_step(step, Err((code, message.into())));
        }
        self.replies.refused(to.client, code);
        let Some(client) = self.replies.clients.get_mut(to.client) else { return };
        if let Some(id) = &to.id {
            client.open_sends.remove(id);
        }
        let error = ErrorEvent { id: to.id, ..ErrorEvent::new(code, message) };
        client.output.answer(Event::Error(Box::new(error)), true);
    }

    /// Writes an error event that concerns no command, to every client.
    pub(crate) fn emit_error(&mut self, error: ErrorEvent) {
        self.replies
            .clients
            .each(Event::Error(Box::new(error)), |client, event| client.output.push_required(event));
    }

    pub(crate) fn log(&mut self, level: Level, namespace: &str, message: impl Into<String>) {
        let log = Log { level, namespace: namespace.to_owned(), message: message.into(), meta: None };
        self.emit_log(log);
    }

    /// Writes a log with the values of the message for programs. `meta` holds ids, names, numbers and
    /// codes, never a payload or a secret.
    pub(crate) fn log_with(
        &mut self,
        level: Level,
        namespace: &str,
        message: impl Into<String>,
        meta: Value,
    ) {
        let log = Log { level, namespace: namespace.to_owned(), message: message.into(), meta: Some(meta) };
        self.emit_log(log);
    }

    fn emit_log(&mut self, log: Log) {
        self.replies.clients.each(log, |client, log| client.output.log(log));
    }

    /// Reports the end of an accepted message or broadcast to the client that sent it. A client
    /// without protocol version 1 gets an `error` event if it failed, and nothing otherwise.
    pub(crate) fn emit_delivery(&mut self, to: ClientId, mut delivery: Delivery) {
        let failed = delivery.state != DeliveryState::Delivered;
        if to == ClientId::PARENT {
            self.replies.required.ended(!failed, delivery.redelivered);
        }
        self.stats.count(match delivery.state {
            DeliveryState::Delivered => Counter::MailDelivered,
            DeliveryState::Expired => Counter::MailExpired,
            DeliveryState::Rejected => Counter::MailRejected,
            DeliveryState::Failed | DeliveryState::Unknown => Counter::MailFailed,
        });
        let Some(client) = self.replies.clients.get_mut(to) else { return };
        let code = delivery.code.unwrap_or(ErrorCode::Expired);
        let known = delivery.message.take();
        delivery.message = failed.then(|| known.unwrap_or_else(|| delivery_failure(code, delivery.route)));
        if client.protocol_v1 {
            client.output.push_required(Event::Delivery(Box::new(delivery)));
        } else if let Some(message) = delivery.message {
            client.output.push_required(Event::Error(Box::new(ErrorEvent {
                request_id: delivery.request_id,
                message_id: Some(delivery.message_id),
                ..ErrorEvent::new(code, message)
            })));
        }
    }

    /// Queues a peer event for every client that uses protocol version 1.
    pub(crate) fn emit_peer_event(&mut self, event: Event) {
        self.replies.clients.each(event, |client, event| {
            if client.protocol_v1 {
                client.output.push_peer_event(event, |_| false);
            }
        });
    }

    /// Queues a message from another agent for the clients that get it. The caller has checked that
    /// there is room.
    pub(crate) fn emit_mail(&mut self, line: MailLine) {
        let dropped = self.replies.clients.hand_over(line);
        self.stats.add(Counter::MailUnclaimed, dropped);
    }

    /// Queues a broadcast from another agent for its subscribers.
    pub(crate) fn emit_broadcast(
        &mut self,
        subscribers: &BTreeSet<ClientId>,
        priority: Priority,
        message: Box<Message>,
        bytes: usize,
    ) {
        let line = MailLine { priority, message, bytes, receipt: None };
        self.replies.clients.broadcast(subscribers, line);
    }

    /// Moves queued lines to the writer of each client while it has room.
    pub(crate) fn flush_output(&mut self) {
        for (id, client) in self.replies.clients.iter_mut() {
            while let Some(event) = client.output.pop() {
                let mut event = match event {
                    Event::Overflow(overflow) if !client.protocol_v1 => overflow_log(overflow.dropped),
                    other => other,
                };
                if let Event::Message(message) = &mut event {
                    self.effects.extend(self.tracer.end_deliver(message, self.now));
                }
                self.effects.push_back(Effect::Emit { client: id, event, numbered: client.protocol_v1 });
            }
        }
        self.count_dropped_spans();
    }
}

/// Returns the log that stands for an `overflow` event without protocol version 1.
fn overflow_log(dropped: DropCounts) -> Event {
    let DropCounts { broadcasts, mail, oversized, peer_events, log } = dropped;
    let message = format!(
        "the node dropped {broadcasts} broadcasts, {mail} messages, {peer_events} peer events and {log} logs because the parent does not read stdout fast enough, \
         and {oversized} broadcasts because they do not fit into a line"
    );
    let meta = json!({
        "broadcasts": broadcasts, "mail": mail, "oversized": oversized, "peerEvents": peer_events, "log": log
    });
    Event::Log(Box::new(Log { level: Level::Warn, namespace: "front".to_owned(), message, meta: Some(meta) }))
}

/// Returns the standard text of a code: what happened to the message, and what to do.
pub(crate) fn delivery_failure(code: ErrorCode, route: Option<Route>) -> String {
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
        ErrorCode::NotRegistered => "rejected by the recipient: it accepts messages of registered agents only, and the registry does not name this agent".into(),
        ErrorCode::RegistryBlocked => "rejected by the recipient: the owner of the registry blocked this agent".into(),
        ErrorCode::FlowLimit => "rejected by the recipient: this agent sends it more messages a minute than it permits".into(),
        ErrorCode::TooManyHops => "rejected by the recipient: the exchange has more replies than it permits".into(),
        ErrorCode::MessageTooLarge => "the message is too long for the recipient's agent to read, or for the network to carry".into(),
        ErrorCode::FileChanged => "the file is not what it was when the message was sent, or it cannot be read any more; send it again, and keep it until the `delivery`".into(),
        ErrorCode::FileTooLarge => "rejected by the recipient: the file is larger than it accepts from this agent".into(),
        ErrorCode::FilesRefused => "rejected by the recipient: its node accepts no files".into(),
        _ if route == Some(Route::Gossip) => "no acknowledgement came back by gossip in time; the message may have arrived".into(),
        _ => "no acknowledgement came in time; the message may have arrived".into(),
    }
}

impl Replies {
    /// Returns the size of each collection of each client, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let clients = Usage { name: "clients", size: self.clients.len(), limit: MAX_CLIENTS };
        let (unclaimed, limit) = self.clients.unclaimed();
        let unclaimed = [
            Usage { name: "unclaimed messages", size: unclaimed.count(), limit: limit.count },
            Usage {
                name: "bytes of unclaimed messages",
                size: unclaimed.bytes(),
                limit: limit.bytes + crate::MAX_DIRECT_BYTES,
            },
        ];
        self.clients.iter().flat_map(|(_, client)| client.usage()).chain([clients]).chain(unclaimed).collect()
    }
}

#[cfg(test)]
mod tests;
