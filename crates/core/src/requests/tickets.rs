//! Requests of other agents that wait for an answer.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::Priority;
use p2p_node_wire::time::Instant;

use crate::MAX_TICKETS;
use crate::client_id::ClientId;
use crate::requests::earliest;

/// Largest number of requests of one agent that wait. Our choice: an agent may have 10,000 requests at the
/// same time, and three such agents leave room for others.
pub(crate) const MAX_TICKETS_OF_ASKER: usize = 10_240;
/// Largest number of requests of all strangers that wait: half of all, so that strangers, whose keys cost
/// nothing, leave room for the agents that the node knows.
pub(crate) const MAX_TICKETS_OF_STRANGERS: usize = MAX_TICKETS / 2;

/// A request of another agent.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) asker: Address,
    /// The asker's id of the request.
    pub(super) call_id: Bytes,
    /// The client that handles it.
    pub(super) client: ClientId,
    pub(super) deadline: Instant,
    pub(super) priority: Priority,
    pub(super) is_stranger: bool,
    /// The answer may have several parts.
    pub(super) is_stream: bool,
    /// Number of parts that the handler may send in all.
    pub(super) credit: u32,
    /// Number of parts that the handler has sent.
    pub(super) sent: u32,
}

/// The requests of all other agents.
#[derive(Debug)]
pub(crate) struct Tickets {
    boot: u64,
    last_number: u64,
    tickets: BTreeMap<u64, Ticket>,
    numbers: BTreeMap<(Address, Bytes), u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    of_askers: BTreeMap<Address, usize>,
    of_clients: BTreeMap<ClientId, usize>,
    of_strangers: usize,
}

impl Tickets {
    pub(super) fn new(boot: u64) -> Self {
        Tickets {
            boot,
            last_number: 0,
            tickets: BTreeMap::new(),
            numbers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            of_askers: BTreeMap::new(),
            of_clients: BTreeMap::new(),
            of_strangers: 0,
        }
    }

    /// Returns `true` if there is room for one more request of this agent.
    pub(super) fn has_room(&self, asker: &Address, is_stranger: bool) -> bool {
        self.tickets.len() < MAX_TICKETS
            && self.of_askers.get(asker).is_none_or(|number| *number < MAX_TICKETS_OF_ASKER)
            && (!is_stranger || self.of_strangers < MAX_TICKETS_OF_STRANGERS)
    }

    /// Returns the number of requests that a client handles.
    pub(super) fn of_client(&self, client: ClientId) -> usize {
        self.of_clients.get(&client).copied().unwrap_or_default()
    }

    /// Adds a request. Returns its number.
    pub(super) fn insert(&mut self, ticket: Ticket) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.numbers.insert((ticket.asker, ticket.call_id.clone()), number);
        self.deadlines.insert((ticket.deadline, number));
        *self.of_askers.entry(ticket.asker).or_default() += 1;
        *self.of_clients.entry(ticket.client).or_default() += 1;
        self.of_strangers += usize::from(ticket.is_stranger);
        self.tickets.insert(number, ticket);
        number
    }

    /// Removes a request, which is answered or void.
    pub(super) fn remove(&mut self, number: u64) -> Option<Ticket> {
        let ticket = self.tickets.remove(&number)?;
        self.numbers.remove(&(ticket.asker, ticket.call_id.clone()));
        self.deadlines.remove(&(ticket.deadline, number));
        decrement(&mut self.of_askers, &ticket.asker);
        decrement(&mut self.of_clients, &ticket.client);
        self.of_strangers -= usize::from(ticket.is_stranger);
        Some(ticket)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Ticket> {
        self.tickets.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Ticket> {
        self.tickets.get_mut(&number)
    }

    /// Returns the number of the request of an agent.
    pub(super) fn number_of(&self, asker: Address, call_id: &Bytes) -> Option<u64> {
        self.numbers.get(&(asker, call_id.clone())).copied()
    }

    /// Returns the name of a request for its client. The process is part of it, so that no ticket of an
    /// earlier process names a request of this one.
    pub(super) fn name(&self, number: u64) -> String {
        format!("{:016x}-{number}", self.boot)
    }

    /// Returns the number of the request with this name that a client handles.
    pub(super) fn number_of_name(&self, client: ClientId, name: &str) -> Option<u64> {
        let number = name.split_once('-')?.1.parse().ok()?;
        let ticket = self.tickets.get(&number)?;
        (ticket.client == client && self.name(number) == name).then_some(number)
    }

    /// Returns the requests whose deadline has passed.
    pub(super) fn overdue(&self, now: Instant) -> Vec<u64> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number).collect()
    }

    /// Returns the requests that these clients handle.
    pub(super) fn of(&self, is_of: impl Fn(ClientId) -> bool) -> Vec<u64> {
        let of = self.tickets.iter().filter(|(_, ticket)| is_of(ticket.client));
        of.map(|(number, _)| *number).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        earliest(&self.deadlines)
    }

    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(asker: u64, call: u64, is_stranger: bool) -> Ticket {
        Ticket {
            asker: Address::left_padding_from(&asker.to_be_bytes()),
            call_id: Bytes::copy_from_slice(&call.to_be_bytes()),
            client: ClientId::PARENT,
            deadline: Instant::from_secs(1),
            priority: Priority::Medium,
            is_stranger,
            is_stream: false,
            credit: 1,
            sent: 0,
        }
    }

    #[test]
    fn requests_of_one_asker_and_of_all_strangers_leave_room_for_others() {
        let mut tickets = Tickets::new(1);
        let [one, other, third] = [1, 2, 3].map(|asker| ticket(asker, 0, false).asker);
        for call in 0..MAX_TICKETS_OF_ASKER as u64 {
            assert!(tickets.has_room(&one, true));
            tickets.insert(ticket(1, call, true));
        }
        assert!(!tickets.has_room(&one, true) && !tickets.has_room(&one, false));
        for call in 0..(MAX_TICKETS_OF_STRANGERS - MAX_TICKETS_OF_ASKER) as u64 {
            tickets.insert(ticket(2, call, true));
        }
        assert!(!tickets.has_room(&third, true) && tickets.has_room(&third, false));
        assert!(tickets.has_room(&other, false));
        let first = tickets.number_of(one, &ticket(1, 0, true).call_id).unwrap();
        tickets.remove(first);
        assert!(tickets.has_room(&one, true) && tickets.has_room(&third, true));
    }

    #[test]
    fn all_requests_are_bounded() {
        let mut tickets = Tickets::new(1);
        for call in 0..MAX_TICKETS as u64 {
            tickets.insert(ticket(call, call, false));
        }
        assert_eq!(tickets.len(), MAX_TICKETS);
        assert!(!tickets.has_room(&Address::ZERO, false));
        tickets.overdue(Instant::from_secs(1)).into_iter().for_each(|number| drop(tickets.remove(number)));
        let empty = (tickets.len(), tickets.of_askers.len(), tickets.of_strangers, tickets.next_deadline());
        assert_eq!(empty, (0, 0, 0, None));
    }

    #[test]
    fn name_of_a_ticket_holds_for_its_client_and_process_only() {
        let mut tickets = Tickets::new(7);
        let number = tickets.insert(ticket(1, 1, false));
        let name = tickets.name(number);
        assert_eq!(tickets.number_of_name(ClientId::PARENT, &name), Some(number));
        assert_eq!(tickets.number_of_name(ClientId(1), &name), None);
        let mut other = Tickets::new(8);
        assert_eq!(other.insert(ticket(1, 1, false)), number);
        assert_eq!(other.number_of_name(ClientId::PARENT, &name), None);
        for bad in ["", "-", "1", "0000000000000007-x", "7-1"] {
            assert_eq!(tickets.number_of_name(ClientId::PARENT, bad), None, "{bad}");
        }
    }
}
