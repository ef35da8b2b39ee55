//! Clients that attach to the nodes of the mesh.

use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::{ClientEvent, Input};
use p2p_node_protocol::{Event, line};
use serde_json::Value;

use super::Mesh;

/// A client that attached to a node.
#[derive(Default)]
pub struct Attached {
    pub lines: Vec<Value>,
    /// `true` if the client does not read its lines.
    pub is_stopped: bool,
    /// `true` if the node closed the connection.
    pub is_closed: bool,
    unread: usize,
}

impl Attached {
    pub fn push(&mut self, event: &Event, numbered: bool) {
        let mut bytes = Vec::new();
        line::encode_event(event, numbered.then_some(0), &mut bytes);
        self.lines.push(serde_json::from_slice(&bytes).unwrap());
        self.unread += 1;
    }
}

impl Mesh {
    /// Attaches a client to a node, with these fields of its `connect`.
    pub fn attach(&mut self, node: usize, number: u32, fields: &str) -> ClientId {
        let client = ClientId(number);
        self.clients.insert((node, client), Attached::default());
        self.client_event(node, client, ClientEvent::Attached);
        self.client_command(
            node,
            client,
            &format!(r#"{{"type":"connect","protocol":1,"id":"connect"{fields}}}"#),
        );
        client
    }

    pub fn client_event(&mut self, node: usize, client: ClientId, event: ClientEvent) {
        let now = self.clock_of(node);
        self.nodes[node].core.handle(Input::Client { client, event }, now);
        self.settle();
    }

    pub fn client_command(&mut self, node: usize, client: ClientId, command: &str) {
        let request = line::decode_request(command.as_bytes()).unwrap();
        let now = self.clock_of(node);
        self.nodes[node].core.handle(Input::Command { client, request }, now);
        self.settle();
    }

    /// Stops a client, or lets it read on.
    pub fn stop(&mut self, node: usize, client: ClientId, is_stopped: bool) {
        self.clients.get_mut(&(node, client)).unwrap().is_stopped = is_stopped;
        self.settle();
    }

    /// Lets the clients read their lines. Returns `true` if one had lines.
    pub(super) fn read_clients(&mut self) -> bool {
        let mut busy = false;
        let keys: Vec<(usize, ClientId)> = self.clients.keys().copied().collect();
        for (node, client) in keys {
            let now = self.clock_of(node);
            let Some(attached) = self.clients.get_mut(&(node, client)).filter(|client| !client.is_stopped)
            else {
                continue;
            };
            let lines = std::mem::take(&mut attached.unread);
            if lines > 0 {
                busy = true;
                self.nodes[node].core.handle(Input::Written { client, lines }, now);
            }
        }
        busy
    }

    /// Returns the lines of one type that a client got.
    pub fn client_lines(&self, node: usize, client: ClientId, kind: &str) -> Vec<&Value> {
        self.clients[&(node, client)].lines.iter().filter(|line| line["type"] == kind).collect()
    }

    /// Returns the payloads of the messages that a client got, in order.
    pub fn client_mail(&self, node: usize, client: ClientId) -> Vec<u64> {
        let messages = self.client_lines(node, client, "message");
        messages.iter().map(|line| line["data"].as_u64().unwrap()).collect()
    }
}
