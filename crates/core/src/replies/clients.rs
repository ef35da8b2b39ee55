//! The clients of the node: the parent, and those that attach to it.

use std::collections::BTreeMap;

use p2p_node_protocol::{Command, DropCounts};
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::replies::client::Client;
use crate::replies::recipients::Unclaimed;
use crate::replies::reply_to::ReplyTo;

/// Largest number of clients, with the parent. Our choice: the processes of one agent and its tools.
/// The clients share the limits of messages, so their number costs little memory.
pub(crate) const MAX_CLIENTS: usize = 32;

/// The clients. A daemon has no parent: its place stays empty.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The parent process. The node accepts mail as fast as the parent reads.
    pub(crate) parent: Client,
    /// The other clients, each at its own speed.
    pub(super) attached: BTreeMap<ClientId, Client>,
    /// Messages that wait for a client.
    pub(super) unclaimed: Unclaimed,
    /// What the node dropped for clients that are gone.
    departed: DropCounts,
    /// Number of the last message that a client got for its group.
    pub(super) served: u64,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Clients {
            parent: Client::parent(),
            attached: BTreeMap::new(),
            unclaimed: Unclaimed::default(),
            departed: DropCounts::default(),
            served: 0,
        }
    }

    /// Records that no parent will ever write or read.
    pub(crate) fn without_parent(mut self) -> Self {
        self.parent.is_gone = true;
        self.parent.output.close();
        self
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.attached.len()
    }

    /// Adds a client. Returns `false` if there is no room for it.
    pub(crate) fn attach(&mut self, client: ClientId) -> bool {
        let is_new = self.get(client).is_none() && self.len() < MAX_CLIENTS;
        if is_new {
            self.attached.insert(client, Client::attached());
            self.share_limits();
        }
        is_new
    }

    /// Removes and returns a client that has gone.
    pub(crate) fn detach(&mut self, client: ClientId) -> Option<Client> {
        let gone = self.attached.remove(&client)?;
        let dropped = gone.output.total_dropped();
        add_drops(&mut self.departed, &dropped);
        self.share_limits();
        Some(gone)
    }

    /// Divides the limits of messages among the clients that are there.
    fn share_limits(&mut self) {
        let sharers = self.attached.len() + usize::from(!self.parent.is_gone);
        self.iter_mut().for_each(|(_, client)| client.output.share(sharers));
    }

    /// Returns a client, or `None` if it is gone.
    pub(crate) fn get(&self, client: ClientId) -> Option<&Client> {
        if client == ClientId::PARENT { Some(&self.parent) } else { self.attached.get(&client) }
    }

    /// Returns a client, or `None` if it is gone. The node drops lines for a client that is gone.
    pub(crate) fn get_mut(&mut self, client: ClientId) -> Option<&mut Client> {
        if client == ClientId::PARENT { Some(&mut self.parent) } else { self.attached.get_mut(&client) }
    }

    /// Returns the ids of the clients other than the parent.
    pub(crate) fn attached_ids(&self) -> impl Iterator<Item = ClientId> {
        self.attached.keys().copied()
    }

    /// Returns every client, the parent first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        let attached = self.attached.iter().map(|(id, client)| (*id, client));
        std::iter::once((ClientId::PARENT, &self.parent)).chain(attached)
    }

    /// Returns every client, the parent first.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ClientId, &mut Client)> {
        let attached = self.attached.iter_mut().map(|(id, client)| (*id, client));
        std::iter::once((ClientId::PARENT, &mut self.parent)).chain(attached)
    }

    /// Counts a command of a client, or a line that is none. Returns `true` if the node reads no more of the
    /// client for now, because it writes too many of them and other clients need the node too.
    pub(crate) fn count_command(&mut self, id: ClientId, command: Option<&Command>, now: Instant) -> bool {
        let needs_node =
            |client: &Client| !client.is_gone && (client.wants_mail() || client.commands.is_active(now));
        let is_shared = self.iter().any(|(other, client)| other != id && needs_node(client));
        let Some(client) = self.get_mut(id) else { return false };
        client.commands.count(command, is_shared, now);
        client.commands.is_paused()
    }

    /// Ends the pauses of clients that wrote too many commands.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.iter_mut().for_each(|(_, client)| client.commands.resume(now));
    }

    /// Returns when the next of these pauses ends.
    pub(crate) fn next_resumption(&self) -> Option<Instant> {
        self.iter().filter_map(|(_, client)| client.commands.deadline()).min()
    }

    /// Returns `true` if no line waits for a client that still reads.
    pub(crate) fn are_flushed(&self) -> bool {
        self.iter().all(|(_, client)| client.is_flushed())
    }

    /// Ignores all lines to all clients from now on.
    pub(crate) fn close_output(&mut self) {
        self.iter_mut().for_each(|(_, client)| client.output.close());
    }

    /// Hands a value to every connected client. The parent gets the value itself and the others get
    /// copies.
    pub(crate) fn each<T: Clone>(&mut self, value: T, mut put: impl FnMut(&mut Client, T)) {
        for client in self.attached.values_mut().filter(|client| client.is_connected) {
            put(client, value.clone());
        }
        put(&mut self.parent, value);
    }

    /// Returns what the node dropped for all clients since the start.
    pub(crate) fn total_dropped(&self) -> DropCounts {
        let mut total = self.departed;
        self.iter().for_each(|(_, client)| add_drops(&mut total, &client.output.total_dropped()));
        total
    }

    /// Returns the number of messages and broadcasts that wait for clients.
    pub(crate) fn waiting_messages(&self) -> usize {
        let of_clients = self.iter().map(|(_, client)| {
            let [_, mail, broadcasts, _, _] = client.output.lines();
            mail + broadcasts
        });
        of_clients.sum::<usize>() + self.unclaimed.len()
    }

    /// Returns `true` if the writer of a client has a message that the node acknowledges once it is
    /// written.
    pub(crate) fn await_receipts(&self) -> bool {
        self.iter().any(|(_, client)| client.output.awaits_receipts())
    }

    /// Returns the size of the longest line of a message that a client reads, in bytes.
    pub(crate) fn longest_line(&self) -> usize {
        if !self.parent.is_gone {
            return self.parent.max_line;
        }
        let lines = self.attached.values().filter(|client| client.is_connected).map(|client| client.max_line);
        lines.max().unwrap_or(p2p_node_protocol::MAX_LINE_BYTES)
    }

    /// Records that a `send` has no answer yet. Without an id it gets none.
    pub(crate) fn open_send(&mut self, command: &ReplyTo) {
        if let (Some(client), Some(id)) = (self.get_mut(command.client), &command.id) {
            client.open_sends.insert(id.clone());
        }
    }

    /// Records that another command has no answer yet. Without an id it gets none.
    pub(crate) fn open_request(&mut self, command: &ReplyTo) {
        if let (Some(client), Some(id)) = (self.get_mut(command.client), &command.id) {
            client.open_requests.insert(id.clone());
        }
    }

    /// Records that a command waits for no answer any more.
    pub(crate) fn close(&mut self, command: &ReplyTo) {
        if let (Some(client), Some(id)) = (self.get_mut(command.client), &command.id)
            && !client.open_sends.remove(id)
        {
            client.open_requests.remove(id);
        }
    }
}

fn add_drops(total: &mut DropCounts, more: &DropCounts) {
    total.broadcasts += more.broadcasts;
    total.mail += more.mail;
    total.oversized += more.oversized;
    total.peer_events += more.peer_events;
    total.log += more.log;
}
