//! Handover of messages between clients: which clients get a message, and what becomes of it when one
//! of them leaves without having it.

use p2p_node_protocol::Counter;

use super::inbox::Key;
use super::unacked::{Handed, MAX_UNACKED, MessageName};
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::mail::Mail;
use crate::replies::client::Client;
use crate::replies::clients::Clients;
use crate::replies::output_queue::MailLine;
use crate::replies::recipients::Recipients;

impl Mail {
    /// Hands a message to its clients, with manual acks. If none of them may hold it, it waits.
    pub(super) fn hand_over_unacked(&mut self, key: &Key, seq: u64, line: MailLine, cx: &mut Cx) {
        let clients = &mut cx.replies.clients;
        let is_next = self.delivery.unacked.first_waiting(&None).is_none();
        if is_next && clients.is_parent_alone() {
            clients.hand_over(line);
            return;
        }
        let to = if is_next { self.hand_out(&line, clients) } else { Recipients::default() };
        self.delivery.unacked.hand(key, seq, Handed { line, to, is_acked: false });
    }

    /// Queues a message for its clients. Those without a group that may not hold it lose it, unless
    /// none may: then the message waits. A group gets it behind those that wait for the group.
    fn hand_out(&self, line: &MailLine, clients: &mut Clients) -> Recipients {
        let has_credit = |id: ClientId, client: &Client| self.has_credit(id, client);
        let mut to = clients.recipients(line, has_credit);
        for (group, member) in &mut to.groups {
            member.take_if(|_| self.delivery.unacked.first_waiting(&Some(group.clone())).is_some());
        }
        let all = to.copies.clone();
        to.copies.retain(|id| clients.may_take(*id, line, has_credit));
        if !to.is_empty() {
            all.difference(&to.copies).for_each(|id| clients.drop_mail(*id));
        }
        for id in to.copies.iter().chain(to.groups.values().flatten()) {
            clients.put(*id, line.clone(), false);
        }
        to
    }

    fn has_credit(&self, id: ClientId, client: &Client) -> bool {
        self.delivery.unacked.held_by(id) < client.max_unacked
    }

    /// Hands the messages that wait for a client to those that take them now.
    pub(crate) fn hand_over_waiting(&mut self, cx: &mut Cx) {
        cx.replies.clients.update_pace(cx.now.mono);
        cx.replies.clients.claim();
        if !std::mem::take(&mut self.delivery.may_hand_over) || !cx.replies.clients.want_mail() {
            return;
        }
        for group in self.delivery.unacked.awaited() {
            while let Some(name) = self.delivery.unacked.first_waiting(&group)
                && self.hand_over_again(&name, group.as_deref(), &mut cx.replies.clients)
            {}
        }
    }

    /// Hands over a message that waits for a client of this group. Returns `false` if none may take it.
    fn hand_over_again(&mut self, name: &MessageName, group: Option<&str>, clients: &mut Clients) -> bool {
        let Some(handed) = self.delivery.unacked.handed(name) else { return false };
        let Some(group) = group else {
            let to = self.hand_out(&handed.line, clients);
            let is_taken = !to.is_empty();
            self.delivery.unacked.hand_waiting(name, |recipients| *recipients = to);
            return is_taken;
        };
        let has_credit = |id: ClientId, client: &Client| self.has_credit(id, client);
        let Some(member) = clients.member(group, &handed.line, has_credit) else { return false };
        clients.put(member, handed.line.clone(), false);
        self.delivery.unacked.hand_waiting(name, |to| {
            to.groups.insert(group.to_owned(), Some(member));
        });
        true
    }

    /// Gives the messages of a client that has gone to others, or keeps them for the next client.
    pub(crate) fn on_client_left(&mut self, id: ClientId, mut client: Client, cx: &mut Cx) {
        self.delivery.may_hand_over = true;
        self.update_unacked_limit(cx);
        let owed = client.output.drain_owed();
        if self.manual_ack() {
            let before = self.delivery.unacked.held_by(id);
            self.delivery.unacked.client_left(id);
            return cx.stats.add(Counter::MailHandedOver, before as u64);
        }
        cx.stats.add(Counter::MailHandedOver, owed.len() as u64);
        for line in owed {
            let dropped = cx.replies.clients.put_aside(line, client.group.clone());
            cx.stats.add(Counter::MailUnclaimed, dropped);
        }
    }

    /// Sets how many messages may wait for an `ack`: what the clients that want mail permit.
    pub(crate) fn update_unacked_limit(&mut self, cx: &Cx) {
        self.delivery.may_hand_over = true;
        self.delivery.unacked.set_limit(cx.replies.clients.max_unacked().unwrap_or(MAX_UNACKED));
    }
}
