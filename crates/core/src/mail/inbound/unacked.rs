//! Delivered messages that wait for an `ack`.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use p2p_node_protocol::Limits;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::message_id::{MessageIdPrefix, message_name};

use crate::budget::{Budget, Limit};
use crate::client_id::ClientId;
use crate::mail::inbound::inbox::Key;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::replies::output_queue::MailLine;
use crate::replies::recipients::Recipients;

/// Limit of the messages that wait for an `ack`. Our choice: as many as may wait for the parent to
/// read.
pub const MAX_UNACKED: usize = Limits::STANDARD.max_unacked;
/// Limit of their payloads, in bytes. The parent may have to keep these until its `ack`. Our
/// choice.
pub(crate) const MAX_UNACKED_BYTES: usize = 64 << 20;

/// Names a message.
pub(crate) type MessageName = (MessageIdPrefix, u64);

/// The clients that have a message, if they are not the parent alone.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The message, for another client if one goes without an `ack`.
    pub(crate) line: MailLine,
    /// The clients that have the message and have not written `ack`. A group without a client gets
    /// the message later.
    pub(crate) to: Recipients,
    /// The node has acknowledged the message to its sender, and the disk may not know yet.
    pub(crate) is_acked: bool,
}

impl Handed {
    /// Returns the groups for whose clients the message waits, and `None` if it waits for any client.
    fn awaited(&self) -> Vec<Option<String>> {
        if self.is_acked {
            return Vec::new();
        }
        if self.to.is_empty() {
            return vec![None];
        }
        let groups = self.to.groups.iter().filter(|(_, member)| member.is_none());
        groups.map(|(group, _)| Some(group.clone())).collect()
    }

    fn holders(&self) -> impl Iterator<Item = ClientId> {
        self.to.copies.iter().copied().chain(self.to.groups.values().flatten().copied())
    }
}

const FIRST_NAME: MessageName = (MessageIdPrefix([0; 16]), 0);
const LAST_NAME: MessageName = (MessageIdPrefix([u8::MAX; 16]), u64::MAX);

#[derive(Debug)]
struct Message {
    key: Key,
    /// Size of the payload.
    bytes: usize,
    /// `None`: the parent alone has the message, or the message waits for the disk.
    handed: Option<Box<Handed>>,
}

/// What an `ack` of a client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckMeaning {
    /// The client has no such message.
    Unknown,
    /// Others still have to acknowledge the message, or have done so before.
    Noted,
    /// The node acknowledges the message of this stream to its sender.
    Complete(Key),
}

/// Messages whose `ack` has not arrived or is not committed, by id.
#[derive(Debug)]
pub(crate) struct Unacked {
    messages: BTreeMap<MessageName, Message>,
    buffered: Budget,
    /// Number and size of the messages of each sender.
    by_sender: BTreeMap<Address, Budget>,
    /// Number of the messages that each attached client holds.
    by_client: BTreeMap<ClientId, usize>,
    /// Messages that wait for a client of a group, or for any client.
    waiting: BTreeMap<Option<String>, BTreeSet<MessageName>>,
    /// Messages that one client has acknowledged and another may still acknowledge, oldest first.
    settled: LruMap<(ClientId, MessageName), ()>,
    limit: usize,
}

impl Default for Unacked {
    fn default() -> Self {
        Unacked {
            messages: BTreeMap::new(),
            buffered: Budget::default(),
            by_sender: BTreeMap::new(),
            by_client: BTreeMap::new(),
            waiting: BTreeMap::new(),
            settled: LruMap::default(),
            limit: MAX_UNACKED,
        }
    }
}

impl Unacked {
    /// Sets the limit of the messages that wait for an `ack`.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_UNACKED);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffered.count()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffered.bytes()
    }

    /// Returns the number and the bytes of the messages that have room.
    fn free(&self) -> Limit {
        Limit {
            count: self.limit.saturating_sub(self.buffered.count()),
            bytes: MAX_UNACKED_BYTES.saturating_sub(self.buffered.bytes()),
        }
    }

    /// Returns `true` if these messages of a sender may wait too.
    ///
    /// A sender may use at most as much room as is free, so no sender takes the room of the next
    /// one. A sender without unacked messages finds room as long as there is any. The largest
    /// message finds room when no other waits.
    pub(crate) fn has_room(&self, sender: &Address, messages: Budget) -> bool {
        let (own, free) = (self.of(sender), self.free());
        if own.is_empty() && free.count >= 1 && messages.count() <= 1 {
            return messages.bytes() <= free.bytes || self.buffered.is_empty();
        }
        own.fits_all(messages, free)
    }

    /// Returns how many more messages of a sender may wait.
    pub(crate) fn credit(&self, sender: &Address) -> usize {
        let own = self.of(sender).count();
        let free = self.free().count;
        // Each message increases the share of the sender and reduces the free room.
        let credit = free.saturating_sub(own).div_ceil(2);
        credit.max(usize::from(own == 0 && free > 0))
    }

    /// Returns `true` if messages of this sender wait.
    pub(crate) fn has_sender(&self, sender: &Address) -> bool {
        !self.of(sender).is_empty()
    }

    fn of(&self, sender: &Address) -> Budget {
        self.by_sender.get(sender).copied().unwrap_or_default()
    }

    pub(crate) fn insert(&mut self, key: Key, seq: u64, bytes: usize) {
        self.remove(&key, seq);
        let message = Message { key, bytes, handed: None };
        self.messages.insert((message_name(&key.0, &key.1), seq), message);
        self.buffered.add(bytes);
        self.by_sender.entry(key.0).or_default().add(bytes);
    }

    /// Records which clients have a message, or that it waits for one.
    pub(crate) fn hand(&mut self, key: &Key, seq: u64, handed: Handed) {
        let name = (message_name(&key.0, &key.1), seq);
        if self.messages.contains_key(&name) {
            self.change(&name, |message| message.handed = Some(Box::new(handed)));
        }
    }

    /// Returns the number of messages that an attached client holds.
    pub(crate) fn held_by(&self, client: ClientId) -> usize {
        self.by_client.get(&client).copied().unwrap_or_default()
    }

    /// Changes a message, and the sums of its clients.
    fn change(&mut self, name: &MessageName, change: impl FnOnce(&mut Message)) {
        let Some(mut message) = self.messages.remove(name) else { return };
        self.release_holders(name, &message);
        change(&mut message);
        if let Some(handed) = &message.handed {
            handed.holders().for_each(|client| *self.by_client.entry(client).or_default() += 1);
            for group in handed.awaited() {
                self.waiting.entry(group).or_default().insert(*name);
            }
        }
        self.messages.insert(*name, message);
    }

    fn release_holders(&mut self, name: &MessageName, message: &Message) {
        for group in message.handed.iter().flat_map(|handed| handed.awaited()) {
            if let Some(names) = self.waiting.get_mut(&group) {
                names.remove(name);
                if names.is_empty() {
                    self.waiting.remove(&group);
                }
            }
        }
        for client in message.handed.iter().flat_map(|handed| handed.holders()) {
            if let Some(held) = self.by_client.get_mut(&client) {
                *held -= 1;
                if *held == 0 {
                    self.by_client.remove(&client);
                }
            }
        }
    }

    /// Records the `ack` of a client. The node acknowledges a message to its sender when one client
    /// of each group has acknowledged it; without groups, when the first client has.
    pub(crate) fn ack(&mut self, name: &MessageName, client: ClientId) -> AckMeaning {
        let Some(message) = self.messages.get(name) else {
            let settled = self.settled.remove(&(client, *name));
            return settled.map_or(AckMeaning::Unknown, |()| AckMeaning::Noted);
        };
        let key = message.key;
        let Some(handed) = &message.handed else {
            return if client == ClientId::PARENT { AckMeaning::Complete(key) } else { AckMeaning::Unknown };
        };
        if handed.is_acked {
            return AckMeaning::Complete(key);
        }
        if !handed.holders().any(|holder| holder == client) {
            return AckMeaning::Unknown;
        }
        let group = handed.to.groups.iter().find(|(_, member)| **member == Some(client));
        let group = group.map(|(group, _)| group.clone());
        let is_complete = match &group {
            Some(_) => handed.to.groups.len() == 1,
            None => handed.to.groups.is_empty(),
        };
        self.change(name, |message| {
            let Some(handed) = &mut message.handed else { return };
            handed.is_acked = is_complete;
            handed.to.copies.remove(&client);
            handed.to.groups.retain(|of, _| Some(of) != group.as_ref());
        });
        if is_complete { AckMeaning::Complete(key) } else { AckMeaning::Noted }
    }

    /// Removes a client that has gone from all messages. Those for which no other client has to answer
    /// wait for another one.
    pub(crate) fn client_left(&mut self, client: ClientId) {
        let of_client = (client, FIRST_NAME)..=(client, LAST_NAME);
        let settled: Vec<_> = self.settled.range(of_client).map(|(settled, ())| *settled).collect();
        for settled in settled {
            self.settled.remove(&settled);
        }
        let held = |message: &Message| {
            message.handed.as_ref().is_some_and(|handed| handed.holders().any(|holder| holder == client))
        };
        let names: Vec<MessageName> =
            self.messages.iter().filter(|(_, message)| held(message)).map(|(name, _)| *name).collect();
        for name in names {
            self.change(&name, |message| {
                let Some(handed) = &mut message.handed else { return };
                handed.line.message.redelivered = true;
                handed.to.copies.remove(&client);
                for member in handed.to.groups.values_mut() {
                    member.take_if(|member| *member == client);
                }
            });
        }
    }

    /// Returns the groups for whose clients messages wait. `None` stands for any client.
    pub(crate) fn awaited(&self) -> Vec<Option<String>> {
        self.waiting.keys().cloned().collect()
    }

    /// Returns the first message that waits for a client of this group.
    pub(crate) fn first_waiting(&self, group: &Option<String>) -> Option<MessageName> {
        self.waiting.get(group)?.first().copied()
    }

    /// Returns a message that clients have, or that waits for one.
    pub(crate) fn handed(&self, name: &MessageName) -> Option<&Handed> {
        self.messages.get(name)?.handed.as_deref()
    }

    /// Changes which clients have a message.
    pub(crate) fn hand_waiting(&mut self, name: &MessageName, change: impl FnOnce(&mut Recipients)) {
        self.change(name, |message| {
            if let Some(handed) = &mut message.handed {
                change(&mut handed.to);
            }
        });
    }

    /// Returns `true` if this message waits for an `ack`.
    pub(crate) fn contains(&self, name: &MessageName) -> bool {
        self.messages.contains_key(name)
    }

    /// Returns the number of acks that other clients may still write.
    pub(crate) fn settled(&self) -> usize {
        self.settled.len()
    }

    /// Remembers the other clients that have a message, because each may still write its `ack`.
    fn settle(&mut self, name: MessageName, message: &Message) {
        let Some(handed) = message.handed.as_ref().filter(|handed| handed.is_acked) else { return };
        for client in handed.holders() {
            self.settled.insert((client, name), ());
        }
        self.settled.shrink_to(MAX_UNACKED);
    }

    /// Removes a message.
    pub(crate) fn remove(&mut self, key: &Key, seq: u64) {
        self.remove_if(key, seq, seq, |_| true);
    }

    /// Removes all messages of a stream.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.remove_if(key, 0, u64::MAX, |_| true);
    }

    /// Removes the messages whose acks a committed checkpoint contains.
    pub(crate) fn commit(&mut self, row: &StreamCheckpoint) {
        let last = row.out_of_order.last().copied().unwrap_or(row.next);
        let is_known = |seq: u64| seq < row.next || row.out_of_order.binary_search(&seq).is_ok();
        self.remove_if(&(row.sender, row.stream), 0, last, is_known);
    }

    fn remove_if(&mut self, key: &Key, first: u64, last: u64, is_done: impl Fn(u64) -> bool) {
        let name = message_name(&key.0, &key.1);
        let done = self.messages.extract_if((name, first)..=(name, last), |(_, seq), _| is_done(*seq));
        let done: Vec<(MessageName, Message)> = done.collect();
        if done.is_empty() {
            return;
        }
        let freed: Budget = done.iter().map(|(_, message)| message.bytes).collect();
        for (name, message) in &done {
            self.release_holders(name, message);
            self.settle(*name, message);
        }
        self.buffered -= freed;
        if let Some(own) = self.by_sender.get_mut(&key.0) {
            *own -= freed;
            if own.is_empty() {
                self.by_sender.remove(&key.0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
