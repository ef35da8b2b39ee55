//! The lines of the parent and of the clients at the socket.

use std::collections::BTreeMap;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::{Input, Now};

use super::{COMMANDS_PER_TURN, Node};
use crate::pipe::{InputChunk, Line};
use crate::socket::Door;

/// The lines of a turn.
#[derive(Debug, Default)]
pub(super) struct Lines {
    of_parent: Vec<Line>,
    of_clients: BTreeMap<ClientId, Vec<Line>>,
}

impl Lines {
    /// Adds a line to a client.
    pub(super) fn push(&mut self, client: ClientId, line: Line) {
        match client {
            ClientId::PARENT => self.of_parent.push(line),
            attached => self.of_clients.entry(attached).or_default().push(line),
        }
    }
}

impl Node {
    /// Passes commands of the parent and of the clients to the core. All of them share the number of
    /// commands of a turn, so that one that floods delays the others by its share only.
    pub(super) fn accept_commands(&mut self, now: Now) {
        let clients = self.door.as_ref().map_or(0, Door::len);
        let budget = COMMANDS_PER_TURN / (clients + usize::from(self.has_parent)).max(1);
        self.accept_commands_of_parent(budget, now);
        if let Some(door) = &mut self.door {
            door.accept_lines(budget, &mut self.core, now);
        }
    }

    fn accept_commands_of_parent(&mut self, budget: usize, now: Now) {
        for _ in 0..budget {
            if !self.core.can_accept_command(ClientId::PARENT) {
                return;
            }
            let Some(line) = self.waiting.next() else {
                match self.input_end.take().or_else(|| self.input_open.then(|| self.pipe.input.try_recv())?) {
                    Some(batch) => self.accept_chunk(batch, now),
                    None => return,
                }
                continue;
            };
            let input = match line {
                Ok(request) => Input::Command { client: ClientId::PARENT, request },
                Err(error) => Input::BadLine { client: ClientId::PARENT, error },
            };
            self.core.handle(input, now);
        }
    }

    pub(super) fn accept_chunk(&mut self, batch: InputChunk, now: Now) {
        match batch {
            InputChunk::Lines(lines) => self.waiting = lines.into_iter(),
            InputChunk::Ended => {
                self.input_open = false;
                self.core.handle(Input::StdinClosed, now);
            }
            InputChunk::Failed(reason) => {
                self.input_open = false;
                self.core.handle(Input::InputFailed { reason }, now);
            }
        }
    }

    /// Reports the progress of the clients' writers. Returns `true` if one wrote lines.
    pub(super) fn poll_clients(&mut self, now: Now) -> bool {
        self.door.as_mut().is_some_and(|door| door.poll_writers(&mut self.core, now))
    }

    /// Closes the connection of a client after its last lines.
    pub(super) fn close_client(&mut self, client: ClientId, lines: &mut Lines) {
        if let Some(door) = &mut self.door {
            door.send(client, lines.of_clients.remove(&client).unwrap_or_default());
            door.close(client);
        }
    }

    /// Writes the lines of a turn.
    pub(super) fn write(&self, lines: Lines, now: Now) {
        let Lines { of_parent, of_clients } = lines;
        self.publish(&of_parent, &of_clients, now);
        if let Some(door) = &self.door {
            of_clients.into_iter().for_each(|(client, lines)| door.send(client, lines));
        }
        if let Err(error) = self.pipe.output.send(of_parent) {
            tracing::debug!("events were not written to stdout: {error}");
        }
    }
}
