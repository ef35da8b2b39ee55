//! What other agents sent, until the host has acknowledged it.

use std::collections::{HashSet, VecDeque};

use p2p_node_sdk::Message;

/// Largest number of messages without an acknowledgement. The daemon keeps the rest. Our choice: more than
/// a model reads at once.
pub(super) const MAX_MAIL: usize = 100;
/// Largest number of broadcasts that the host has not read. The oldest goes first. Our choice.
pub(super) const MAX_BROADCASTS: usize = 100;
/// Largest number of acknowledged messages that are remembered, should the daemon repeat them. Our choice:
/// those of ten full inboxes.
const MAX_FINISHED: usize = 10 * MAX_MAIL;

/// A message that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Box<Message>,
    /// The host has got it.
    pub(super) is_shown: bool,
}

/// The messages that wait, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    mail: VecDeque<Entry>,
    broadcasts: VecDeque<Entry>,
    finished: Finished,
    /// Broadcasts that were dropped since the last read.
    dropped: u64,
}

/// The ids of messages that the host has acknowledged. The oldest goes first.
#[derive(Debug, Default)]
struct Finished {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Finished {
    fn insert(&mut self, id: String) {
        if !self.ids.insert(id.clone()) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_FINISHED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// What a host reads at once.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Messages without an acknowledgement.
    pub(super) unacknowledged: usize,
    /// Messages and broadcasts that the host has not got.
    pub(super) unread: usize,
    /// Broadcasts that were dropped since the last read.
    pub(super) dropped: u64,
}

impl Inbox {
    /// Takes a message. Returns it if the host has acknowledged it before.
    pub(super) fn put(&mut self, message: Box<Message>) -> Option<Box<Message>> {
        if message.topic.is_some() {
            if self.broadcasts.len() >= MAX_BROADCASTS {
                self.broadcasts.pop_front();
                self.dropped += 1;
            }
            self.broadcasts.push_back(Entry { message, is_shown: false });
            return None;
        }
        if self.finished.ids.contains(&message.message_id) {
            return Some(message);
        }
        let is_full = self.mail.len() >= MAX_MAIL;
        match self.mail.iter_mut().find(|entry| entry.message.message_id == message.message_id) {
            Some(entry) => entry.message = message,
            // The daemon hands out no more than fit.
            None if is_full => {}
            None => self.mail.push_back(Entry { message, is_shown: false }),
        }
        None
    }

    /// Forgets the mail of a daemon that has ended. It comes again from the next one, or from its senders.
    pub(super) fn daemon_ended(&mut self) {
        self.mail.clear();
    }

    /// Counts broadcasts that were dropped before they came here.
    pub(super) fn count_dropped(&mut self, broadcasts: u64) {
        self.dropped += broadcasts;
    }

    /// Calls `show` with the messages that the host is to get next, until it returns `false`: mail, then
    /// broadcasts, oldest first. `again`: also mail that the host has got and not acknowledged.
    pub(super) fn read(&mut self, again: bool, mut show: impl FnMut(&Entry) -> bool) -> Counts {
        for entry in self.mail.iter_mut().filter(|entry| again || !entry.is_shown) {
            if !show(entry) {
                break;
            }
            entry.is_shown = true;
        }
        while let Some(entry) = self.broadcasts.front()
            && show(entry)
        {
            // Nobody acknowledges a broadcast.
            self.broadcasts.pop_front();
        }
        Counts { dropped: std::mem::take(&mut self.dropped), ..self.counts() }
    }

    pub(super) fn counts(&self) -> Counts {
        let unread = self.mail.iter().filter(|entry| !entry.is_shown).count() + self.broadcasts.len();
        Counts { unacknowledged: self.mail.len(), unread, dropped: self.dropped }
    }

    /// Removes messages that the host has handled. Returns them, and the ids that are unknown.
    pub(super) fn acknowledge(&mut self, ids: &[String]) -> (Vec<Message>, Vec<String>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for id in ids {
            let position = self.mail.iter().position(|entry| entry.message.message_id == *id);
            match position.and_then(|at| self.mail.remove(at)) {
                Some(entry) => {
                    self.finished.insert(id.clone());
                    known.push(*entry.message);
                }
                None if self.finished.ids.contains(id) => {}
                None => unknown.push(id.clone()),
            }
        }
        (known, unknown)
    }

    /// Returns the mail without an acknowledgement.
    pub(super) fn mail(&self) -> impl Iterator<Item = &Entry> {
        self.mail.iter()
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::Event;
    use p2p_node_protocol::line::decode_event;

    use super::*;

    fn message(id: &str, topic: Option<&str>) -> Box<Message> {
        let topic = topic.map(|topic| format!(r#""topic":"{topic}","#)).unwrap_or_default();
        let line = format!(
            r#"{{"type":"message","from":"0x0","data":1,"peerId":"p","messageId":"{id}",{topic}"priority":"medium","sentAtMs":0,"receivedAtMs":0,"route":"direct","trust":"unverified"}}"#
        );
        let Ok(Some(Event::Message(message))) = decode_event(line.as_bytes()) else { panic!("{line}") };
        message
    }

    fn read(inbox: &mut Inbox, again: bool, limit: usize) -> Vec<String> {
        let mut ids = Vec::new();
        inbox.read(again, |entry| {
            let fits = ids.len() < limit;
            ids.extend(fits.then(|| entry.message.message_id.clone()));
            fits
        });
        ids
    }

    #[test]
    fn mail_is_shown_once_and_again_on_demand_until_it_is_acknowledged() {
        let mut inbox = Inbox::default();
        for id in ["a", "b", "c"] {
            assert!(inbox.put(message(id, None)).is_none());
        }
        assert_eq!(read(&mut inbox, false, 2), ["a", "b"]);
        assert_eq!((inbox.counts().unread, inbox.counts().unacknowledged), (1, 3));
        assert_eq!(read(&mut inbox, false, 9), ["c"]);
        let (known, unknown) = inbox.acknowledge(&["b".to_owned(), "x".to_owned()]);
        assert_eq!((known.len(), known[0].message_id.as_str(), unknown), (1, "b", vec!["x".to_owned()]));
        let (known, unknown) = inbox.acknowledge(&["b".to_owned()]);
        assert!(known.is_empty() && unknown.is_empty(), "a repeated ack is no error");
        assert_eq!(read(&mut inbox, true, 9), ["a", "c"]);
    }

    #[test]
    fn repeated_mail_is_one_message_and_finished_mail_is_returned_for_its_ack() {
        let mut inbox = Inbox::default();
        inbox.put(message("a", None));
        inbox.put(message("a", None));
        assert_eq!(read(&mut inbox, false, 9), ["a"]);
        inbox.acknowledge(&["a".to_owned()]);
        assert_eq!(inbox.put(message("a", None)).unwrap().message_id, "a");
        inbox.put(message("b", None));
        inbox.daemon_ended();
        inbox.put(message("b", None));
        assert_eq!(read(&mut inbox, false, 9), ["b"], "it comes again with the next daemon");
    }

    #[test]
    fn every_collection_has_a_limit() {
        let mut inbox = Inbox::default();
        for number in 0..MAX_BROADCASTS + 3 {
            inbox.put(message(&number.to_string(), Some("t")));
        }
        let mut first = None;
        let counts = inbox.read(false, |entry| {
            first.get_or_insert(entry.message.message_id.clone());
            true
        });
        assert_eq!((first.as_deref(), counts.dropped, inbox.broadcasts.len()), (Some("3"), 3, 0));
        for number in 0..MAX_MAIL + 1 {
            inbox.put(message(&number.to_string(), None));
        }
        assert_eq!(inbox.mail.len(), MAX_MAIL);
        for number in 0..MAX_FINISHED + 1 {
            inbox.finished.insert(number.to_string());
        }
        assert_eq!((inbox.finished.ids.len(), inbox.finished.order.len()), (MAX_FINISHED, MAX_FINISHED));
        assert!(!inbox.finished.ids.contains("0"));
    }
}
