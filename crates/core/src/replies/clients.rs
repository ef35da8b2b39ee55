//! The clients of the node: the parent, and those that attach to it.

use std::collections::BTreeMap;

use crate::client_id::ClientId;
use crate::replies::client::Client;
use crate::replies::reply_to::ReplyTo;

/// Largest number of clients, with the parent. Our choice: the parent and a few tools. Each client
/// may keep as many lines in memory as the parent.
pub(crate) const MAX_CLIENTS: usize = 4;

/// The clients. The parent is always there, because the node ends with it.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The parent process. The node accepts mail as fast as the parent reads.
    pub(crate) parent: Client,
    /// The other clients, each at its own speed.
    attached: BTreeMap<ClientId, Client>,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Clients { parent: Client::new(), attached: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.attached.len()
    }

    /// Returns a client, or `None` if it is gone.
    pub(crate) fn get(&self, client: ClientId) -> Option<&Client> {
        if client == ClientId::PARENT { Some(&self.parent) } else { self.attached.get(&client) }
    }

    /// Returns a client, or `None` if it is gone. The node drops lines for a client that is gone.
    pub(crate) fn get_mut(&mut self, client: ClientId) -> Option<&mut Client> {
        if client == ClientId::PARENT { Some(&mut self.parent) } else { self.attached.get_mut(&client) }
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

    /// Returns the clients other than the parent.
    pub(crate) fn attached_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.attached.values_mut()
    }

    /// Returns `true` if no line waits for a client that still reads.
    pub(crate) fn are_flushed(&self) -> bool {
        self.iter().all(|(_, client)| client.is_flushed())
    }

    /// Ignores all lines to all clients from now on.
    pub(crate) fn close_output(&mut self) {
        self.iter_mut().for_each(|(_, client)| client.output.close());
    }

    /// Hands a value to every client. The parent gets the value itself and the others get copies.
    pub(crate) fn each<T: Clone>(&mut self, value: T, mut put: impl FnMut(&mut Client, T)) {
        for client in self.attached.values_mut() {
            put(client, value.clone());
        }
        put(&mut self.parent, value);
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

#[cfg(test)]
impl Clients {
    /// Adds a client. Returns `false` if there is no room for it.
    pub(crate) fn attach(&mut self, client: ClientId) -> bool {
        let is_new = self.get(client).is_none() && self.len() < MAX_CLIENTS;
        if is_new {
            self.attached.insert(client, Client::new());
        }
        is_new
    }

    /// Removes a client that has gone.
    pub(crate) fn detach(&mut self, client: ClientId) {
        self.attached.remove(&client);
    }
}
