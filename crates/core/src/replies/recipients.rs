//! Which clients get a message of another agent.
//!
//! Each client that wants mail gets each message; of a group, one client gets it. The node accepts mail
//! while all clients have room. An attached client that reads too slowly counts no longer until it has
//! caught up, and loses what its queue cannot hold, so that it harms no other. The parent always counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use p2p_node_protocol::{Event, Priority};
use p2p_node_wire::time::Instant;

use crate::budget::{Budget, BudgetedQueue, Limit, Weigh};
use crate::client_id::ClientId;
use crate::replies::client::Client;
use crate::replies::clients::Clients;
use crate::replies::output_queue::{MAIL_LIMIT, MailLine, OutputQueue, in_lines};

/// The clients that get a message. A group without a client that has room gets it later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipients {
    /// Clients without a group.
    pub(crate) copies: BTreeSet<ClientId>,
    /// The groups, each with the client that gets the message.
    pub(crate) groups: BTreeMap<String, Option<ClientId>>,
}

impl Recipients {
    /// Returns `true` if no client wants the message.
    pub(crate) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.groups.is_empty()
    }

    fn len(&self) -> usize {
        self.copies.len() + self.groups.len()
    }
}

/// A message that waits for a client of its group, or for any client.
#[derive(Debug)]
struct UnclaimedMail {
    line: MailLine,
    group: Option<String>,
}

impl Weigh for UnclaimedMail {
    fn weight(&self) -> usize {
        self.line.weight()
    }
}

/// Messages that wait for a client, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Unclaimed {
    queue: BudgetedQueue<UnclaimedMail>,
    /// Number and size of the messages of each group.
    by_group: BTreeMap<Option<String>, Budget>,
}

impl Unclaimed {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns `true` if a message waits for this group, or for any client.
    fn has(&self, group: &Option<String>) -> bool {
        self.by_group.contains_key(group)
    }

    /// Appends a message. Returns how many of the oldest messages had to go for it.
    fn push(&mut self, line: MailLine, group: Option<String>) -> u64 {
        self.by_group.entry(group.clone()).or_default().add(line.weight());
        self.queue.push(UnclaimedMail { line, group });
        let mut dropped = 0;
        while self.queue.budget().is_over(MAIL_LIMIT)
            && self.queue.len() > 1
            && let Some(oldest) = self.queue.pop()
        {
            dropped += 1;
            if let Some(budget) = self.by_group.get_mut(&oldest.group) {
                budget.remove(oldest.weight());
            }
            self.by_group.retain(|_, budget| !budget.is_empty());
        }
        dropped
    }

    /// Removes and returns all messages.
    fn take(&mut self) -> VecDeque<UnclaimedMail> {
        self.by_group.clear();
        self.queue.take()
    }
}

impl Clients {
    /// Returns the clients that want mail.
    fn takers(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        self.iter().filter(|(_, client)| client.wants_mail())
    }

    /// Returns `true` if the parent is the only client and wants mail.
    pub(crate) fn is_parent_alone(&self) -> bool {
        self.attached.is_empty() && self.parent.wants_mail()
    }

    /// Returns how many messages may wait for an `ack`: as many as the client without a group that
    /// permits most, or the clients of a group together. `None` if no client wants mail.
    pub(crate) fn max_unacked(&self) -> Option<usize> {
        let mut of_groups: BTreeMap<&str, usize> = BTreeMap::new();
        let mut most = None;
        for (_, client) in self.takers() {
            let sum = match &client.group {
                None => client.max_unacked,
                Some(group) => {
                    let sum = of_groups.entry(group).or_default();
                    *sum += client.max_unacked;
                    *sum
                }
            };
            most = most.max(Some(sum));
        }
        most
    }

    /// Returns `true` if the client may take this message now.
    pub(crate) fn may_take(
        &self,
        id: ClientId,
        line: &MailLine,
        has_credit: impl Fn(ClientId, &Client) -> bool,
    ) -> bool {
        let is_able = |client: &Client| {
            has_credit(id, client)
                && client.can_read(line)
                && (id == ClientId::PARENT || has_room(client, line))
        };
        self.get(id).is_some_and(is_able)
    }

    /// Counts a message that the node dropped for a client.
    pub(crate) fn drop_mail(&mut self, id: ClientId) {
        if let Some(client) = self.get_mut(id) {
            client.output.drop_mail();
        }
    }

    /// Returns `true` if a client wants mail.
    pub(crate) fn want_mail(&self) -> bool {
        self.takers().next().is_some()
    }

    /// Returns the clients that set the pace of mail: the parent, and those that do not read too slowly. If
    /// all do, the one that lags least sets it.
    fn pacers(&self) -> Vec<&Client> {
        let mut pacers: Vec<&Client> =
            self.takers().map(|(_, client)| client).filter(|client| !client.pace.is_slow).collect();
        if pacers.is_empty() {
            let outputs = self.takers().map(|(_, client)| client);
            pacers.extend(outputs.min_by_key(|client| client.output.mail_lag()));
        }
        pacers
    }

    /// Returns `true` if all clients that set the pace agree. For a group one client is enough. `None` if no
    /// client wants mail.
    fn all_agree(&self, agrees: impl Fn(&OutputQueue) -> bool) -> Option<bool> {
        if self.is_parent_alone() {
            return Some(agrees(&self.parent.output));
        }
        let pacers = self.pacers();
        let agrees_for = |client: &&Client| match &client.group {
            None => agrees(&client.output),
            group => pacers.iter().any(|other| other.group == *group && agrees(&other.output)),
        };
        (!pacers.is_empty()).then(|| pacers.iter().all(agrees_for))
    }

    /// Updates the pace of each attached client.
    pub(crate) fn update_pace(&mut self, now: Instant) {
        self.attached.values_mut().for_each(|client| client.update_pace(now));
    }

    /// Returns when the patience with an attached client ends next.
    pub(crate) fn pace_deadline(&self) -> Option<Instant> {
        self.attached.values().filter_map(|client| client.pace.deadline()).min()
    }

    /// Returns `true` if there is room for these messages besides those that are `coming`.
    /// `has_high` allows the use of the high-priority reserve.
    pub(crate) fn has_mail_room(&self, messages: Budget, has_high: bool, coming: Budget) -> bool {
        self.all_agree(|output| output.has_mail_room(messages, has_high, coming)).unwrap_or_else(|| {
            // What waits for a group gives way.
            let waiting = self.unclaimed.by_group.get(&None).copied().unwrap_or_default();
            waiting.is_empty() || waiting.fits_all(in_lines(messages + coming), MAIL_LIMIT)
        })
    }

    /// Returns `true` if the clients read mail about as fast as the node receives it.
    pub(crate) fn are_draining(&self) -> bool {
        self.all_agree(OutputQueue::is_draining).unwrap_or(true)
    }

    /// Returns the number of the next line, and that of the oldest queued message of medium
    /// priority, of the first client that sets the pace.
    pub(crate) fn turns(&self) -> (u64, Option<u64>) {
        if self.is_parent_alone() {
            return self.parent.output.turns();
        }
        self.pacers().first().map_or(&self.parent, |client| *client).output.turns()
    }

    /// Returns the clients that get this message. `has_credit` states that a client may get one more
    /// message.
    pub(crate) fn recipients(
        &self,
        line: &MailLine,
        has_credit: impl Fn(ClientId, &Client) -> bool,
    ) -> Recipients {
        let mut recipients = Recipients::default();
        for (id, client) in self.takers() {
            match &client.group {
                None => drop(recipients.copies.insert(id)),
                Some(group) if !recipients.groups.contains_key(group) => {
                    let member = self.member(group, line, &has_credit);
                    recipients.groups.insert(group.clone(), member);
                }
                Some(_) => {}
            }
        }
        recipients
    }

    /// Returns the client of a group that gets a message: the one that lags least, and of those the one
    /// that was served first. `None` if no client of the group has room.
    pub(crate) fn member(
        &self,
        group: &str,
        line: &MailLine,
        has_credit: impl Fn(ClientId, &Client) -> bool,
    ) -> Option<ClientId> {
        let members = self.takers().filter(|(_, client)| client.group.as_deref() == Some(group));
        let able = members.filter(|(id, _)| self.may_take(*id, line, &has_credit));
        able.min_by_key(|(id, client)| (client.output.mail_lag(), client.last_served, *id)).map(|(id, _)| id)
    }

    /// Hands a message to the clients that get it, behind those that wait for a client. Returns how many
    /// messages the node dropped, because none took them.
    pub(crate) fn hand_over(&mut self, line: MailLine) -> u64 {
        if self.is_parent_alone() {
            let MailLine { priority, message, bytes, receipt } = line;
            self.parent.output.mail(priority, Event::Message(message), bytes, receipt);
            return 0;
        }
        if !self.want_mail() || self.unclaimed.has(&None) {
            return self.unclaimed.push(line, None);
        }
        self.hand_out(line)
    }

    fn hand_out(&mut self, line: MailLine) -> u64 {
        let mut recipients = self.recipients(&line, |_, _| true);
        // A message does not overtake those that wait.
        for (group, member) in &mut recipients.groups {
            member.take_if(|_| self.unclaimed.has(&Some(group.clone())));
        }
        let is_sole = recipients.len() == 1;
        for id in recipients.copies {
            self.put(id, line.clone(), is_sole);
        }
        let mut dropped = 0;
        for (group, member) in recipients.groups {
            match member {
                Some(id) => drop(self.put(id, line.clone(), true)),
                None => dropped += self.unclaimed.push(line.clone(), Some(group)),
            }
        }
        dropped
    }

    /// Queues a message for a client. Counts it for the client if the client has no room, or cannot
    /// read the line. `is_owed` states that no other client gets it.
    pub(crate) fn put(&mut self, id: ClientId, line: MailLine, is_owed: bool) -> bool {
        self.served += 1;
        let served = self.served;
        let is_parent = id == ClientId::PARENT;
        let Some(client) = self.get_mut(id) else { return false };
        client.last_served = served;
        if !client.can_read(&line) {
            client.output.too_long();
            return false;
        }
        // The node accepted the message because the parent has room.
        if !is_parent && !has_room(client, &line) {
            client.output.drop_mail();
            return false;
        }
        if is_owed && !is_parent {
            client.output.owed_mail(line);
        } else {
            let MailLine { priority, message, bytes, receipt } = line;
            client.output.mail(priority, Event::Message(message), bytes, receipt);
        }
        true
    }

    /// Keeps a message for the next client of a group, or for the next client of any kind. Returns how
    /// many messages the node dropped for it.
    pub(crate) fn put_aside(&mut self, line: MailLine, group: Option<String>) -> u64 {
        self.unclaimed.push(line, group)
    }

    /// Hands the messages that wait for a client to those that are there now and have room.
    pub(crate) fn claim(&mut self) {
        if self.unclaimed.len() == 0 || !self.want_mail() {
            return;
        }
        let mut full: BTreeSet<Option<String>> = BTreeSet::new();
        for UnclaimedMail { line, group } in self.unclaimed.take() {
            // Messages keep their order, so the first that finds no room stops those behind it.
            let taker = match &group {
                _ if full.contains(&group) => None,
                Some(name) => self.member(name, &line, |_, _| true),
                None => self.first_with_room(&line),
            };
            match (taker, &group) {
                (Some(_), None) => drop(self.hand_out(line)),
                (Some(id), Some(_)) => drop(self.put(id, line, true)),
                (None, _) => {
                    full.insert(group.clone());
                    self.unclaimed.push(line, group);
                }
            }
        }
    }

    fn first_with_room(&self, line: &MailLine) -> Option<ClientId> {
        let mut able = self.takers().filter(|(id, _)| self.may_take(*id, line, |_, _| true));
        able.next().map(|(id, _)| id)
    }

    /// Returns the number and the limit of the messages that wait for a client.
    pub(crate) fn unclaimed(&self) -> (Budget, Limit) {
        (self.unclaimed.queue.budget(), MAIL_LIMIT)
    }

    /// Queues a broadcast for its subscribers.
    pub(crate) fn broadcast(&mut self, subscribers: &BTreeSet<ClientId>, line: MailLine) {
        for (id, client) in &mut self.attached {
            if subscribers.contains(id) {
                queue_broadcast(client, line.clone());
            }
        }
        if subscribers.contains(&ClientId::PARENT) {
            queue_broadcast(&mut self.parent, line);
        }
    }

    /// Counts a broadcast that no client can read, for its subscribers.
    pub(crate) fn too_long_for(&mut self, subscribers: &BTreeSet<ClientId>) {
        let clients = self.iter_mut().filter(|(id, _)| subscribers.contains(id));
        clients.for_each(|(_, client)| client.output.too_long());
    }
}

fn queue_broadcast(client: &mut Client, line: MailLine) {
    if !client.can_read(&line) {
        return client.output.too_long();
    }
    let MailLine { priority, message, bytes, .. } = line;
    client.output.broadcast(priority, Event::Message(message), bytes);
}

/// Returns `true` if the queue of the client has room for the message.
fn has_room(client: &Client, line: &MailLine) -> bool {
    client.output.has_mail_room(Budget::of(1, line.bytes), line.priority == Priority::High, Budget::default())
}
