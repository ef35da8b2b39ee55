//! Properties of all lines and effects of a core.

use std::collections::{BTreeMap, BTreeSet};

use p2p_node_core::input::Token;
use p2p_node_protocol::{DeliveryState, ErrorCode, Event, Id, MAX_LINE_BYTES, Priority};

use super::super::lines::check_event;

/// Use of a command id.
#[derive(Default)]
struct Uses {
    /// Lines of the parent with this id.
    used: usize,
    /// Terminal lines with this id.
    ended: usize,
    /// Lines that reused the id of an open command and are not rejected yet.
    unrejected: usize,
}

/// The requests to a core and its answers.
pub struct Ledger {
    ids: BTreeMap<Id, Uses>,
    gossip: BTreeMap<Token, bool>,
    mail: BTreeMap<Token, bool>,
    admissions: BTreeMap<Token, bool>,
    names: BTreeSet<Token>,
    ended: BTreeSet<String>,
    streams: BTreeMap<(String, String, Priority), u64>,
    delivered_ids: BTreeSet<(String, String)>,
    /// The id of the last message.
    pub last_message: String,
    seq: u64,
    max_line: usize,
    closing: bool,
    ready: bool,
    exited: bool,
}

impl Ledger {
    pub fn new() -> Self {
        Ledger {
            ids: BTreeMap::new(),
            gossip: BTreeMap::new(),
            mail: BTreeMap::new(),
            admissions: BTreeMap::new(),
            names: BTreeSet::new(),
            ended: BTreeSet::new(),
            streams: BTreeMap::new(),
            delivered_ids: BTreeSet::new(),
            last_message: String::new(),
            seq: 0,
            max_line: MAX_LINE_BYTES,
            closing: false,
            ready: false,
            exited: false,
        }
    }

    pub fn exited(&self) -> bool {
        self.exited
    }

    pub fn check_running(&self) {
        assert!(!self.exited, "an effect after the exit");
    }

    pub fn exit(&mut self) {
        self.exited = true;
    }

    /// Records that a line of the parent uses this id. `all_read`: the parent has read all lines.
    pub fn used(&mut self, id: Option<&Id>, all_read: bool) {
        if let Some(id) = id {
            let uses = self.ids.entry(id.clone()).or_default();
            uses.unrejected += usize::from(all_read && uses.used > uses.ended);
            uses.used += 1;
        }
    }

    pub fn on_event(&mut self, event: &Event, numbered: bool) {
        assert!(!self.closing, "`closing` is the last line");
        self.seq += 1;
        let line = check_event(event, numbered.then_some(self.seq));
        assert!(line.len() <= self.max_line, "{} bytes are more than the parent reads", line.len());
        match event {
            Event::Ready(ready) => {
                assert!(!self.ready, "a second `ready`");
                self.max_line = ready.limits.max_line_bytes;
                assert!(line.len() <= self.max_line, "`ready` itself is too long");
                self.ready = true;
            }
            Event::Result(answer) => self.command_ended(&answer.id, false),
            Event::Error(error) => {
                let twice = error.details.as_ref().filter(|_| error.code == ErrorCode::DuplicateId);
                match twice {
                    Some(details) => {
                        assert_eq!(error.id, None, "the id belongs to the command that is still open");
                        let id = serde_json::from_value(details["id"].clone()).expect("an id");
                        self.command_ended(&id, true);
                    }
                    None => error.id.iter().for_each(|id| self.command_ended(id, false)),
                }
                if let Some(message_id) = &error.message_id {
                    self.message_completed(message_id);
                }
            }
            Event::Delivery(delivery) => {
                assert_eq!(delivery.code.is_none(), delivery.state == DeliveryState::Delivered);
                self.message_completed(&delivery.message_id);
            }
            Event::Message(message) => {
                assert!(self.ready, "a message before `ready`");
                if message.topic.is_none() {
                    self.last_message.clone_from(&message.message_id);
                    self.received(&message.from, &message.message_id, message.priority);
                }
            }
            Event::Closing(_) => self.closing = true,
            _ => {}
        }
    }

    fn command_ended(&mut self, id: &Id, duplicate: bool) {
        let Some(uses) = self.ids.get_mut(id) else { panic!("no line used the id {id}") };
        uses.ended += 1;
        assert!(uses.ended <= uses.used, "the id {id} has a second terminal line");
        if duplicate {
            uses.unrejected = uses.unrejected.saturating_sub(1);
        } else {
            assert_eq!(uses.unrejected, 0, "ambiguous: {id} is answered while a duplicate is not rejected");
        }
    }

    /// Checks that messages arrive once and in the order of their stream. An honest stream has one
    /// priority, so the order is checked for each priority.
    fn received(&mut self, from: &str, message_id: &str, priority: Priority) {
        assert!(
            self.delivered_ids.insert((from.to_owned(), message_id.to_owned())),
            "{message_id} of {from} is delivered twice"
        );
        let (stream, seq) = message_id.split_once('-').expect("a stream and a number");
        let seq: u64 = seq.parse().expect("a number");
        let before = self.streams.insert((from.to_owned(), stream.to_owned(), priority), seq);
        assert!(before.is_none_or(|before| before < seq), "{message_id} of {from} after {before:?}");
    }

    fn message_completed(&mut self, message_id: &str) {
        assert!(self.ended.insert(message_id.to_owned()), "{message_id} completes twice");
    }

    pub fn check_every_id_ended(&self) {
        for (id, Uses { used, ended, .. }) in &self.ids {
            assert_eq!(used, ended, "lines that used the id {id}, and terminal lines for it");
        }
    }

    pub fn gossip_received(&mut self, token: Token) {
        self.gossip.insert(token, false);
    }

    pub fn mail_requested(&mut self, token: Token) {
        self.mail.insert(token, false);
    }

    pub fn admission_requested(&mut self, token: Token) {
        self.admissions.insert(token, false);
    }

    pub fn verdict_given(&mut self, token: Token) {
        close(&mut self.gossip, token, "verdict");
    }

    pub fn mail_answered(&mut self, token: Token) {
        close(&mut self.mail, token, "answer to mail");
    }

    pub fn admission_answered(&mut self, token: Token) {
        close(&mut self.admissions, token, "answer to a step of admission");
    }

    /// Records a token that the core has chosen.
    pub fn token_chosen(&mut self, token: Token) {
        assert!(self.names.insert(token), "a token is used twice");
    }

    pub fn check_all_answered(&self) {
        let open = |tokens: &BTreeMap<Token, bool>| tokens.values().filter(|closed| !**closed).count();
        assert_eq!(open(&self.gossip), 0, "gossip without a verdict");
        assert_eq!(open(&self.mail), 0, "mail without a response");
    }
}

fn close(open: &mut BTreeMap<Token, bool>, token: Token, what: &str) {
    match open.insert(token, true) {
        None => panic!("a {what} for an unknown token"),
        Some(closed) => assert!(!closed, "a second {what}"),
    }
}
