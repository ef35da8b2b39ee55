//! Requests of clients that have not ended.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::{Id, Priority};
use p2p_node_wire::time::Instant;

use crate::MAX_REQUESTS;
use crate::client_id::ClientId;
use crate::replies::reply_to::ReplyTo;
use crate::requests::earliest;

/// A request of a client.
#[derive(Debug)]
pub(super) struct Asked {
    /// The command, with its id.
    pub(super) to: ReplyTo,
    pub(super) deadline: Instant,
    pub(super) priority: Priority,
    pub(super) audience: Audience,
    /// Number of answers with which the request ends, if the client chose one.
    pub(super) quorum: Option<usize>,
    /// Number of agents that answered.
    pub(super) answers: usize,
    /// Agents whose answer has not ended, and whether their node has the request.
    pub(super) waiting: BTreeMap<Address, bool>,
    /// Agents that failed; of a topic, all agents from which something came.
    pub(super) heard: BTreeSet<Address>,
    /// The parts of a streamed answer.
    pub(super) stream: Option<PartFlow>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// One agent.
    One(Address),
    /// Each agent of a list.
    List,
    /// The subscribers of a topic.
    Topic(String),
}

/// The flow of a streamed answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartFlow {
    /// Number of parts that the handler may send in all.
    pub(super) granted: u32,
    /// Number of parts that the client permits beyond those that it got; `None` if it says so itself.
    pub(super) window: Option<u32>,
    /// Number of parts that arrived.
    pub(super) received: u32,
}

impl Asked {
    /// Returns how much of the client's limit the request uses: an agent counts until the request ends.
    fn weight(&self) -> usize {
        match self.audience {
            Audience::Topic(_) => 1 + self.heard.len(),
            Audience::One(_) | Audience::List => self.waiting.len() + self.heard.len() + self.answers,
        }
    }
}

/// The requests of all clients.
#[derive(Debug)]
pub(crate) struct AskedRequests {
    boot: u64,
    last_number: u64,
    requests: BTreeMap<u64, Asked>,
    numbers: BTreeMap<(ClientId, Id), u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// The limit that the requests of each client use.
    loads: BTreeMap<ClientId, usize>,
    /// Requests whose handlers may send more parts as soon as their clients have read.
    stalled: BTreeSet<u64>,
}

impl AskedRequests {
    pub(super) fn new(boot: u64) -> Self {
        AskedRequests {
            boot,
            last_number: 0,
            requests: BTreeMap::new(),
            numbers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            loads: BTreeMap::new(),
            stalled: BTreeSet::new(),
        }
    }

    /// Returns `true` if the requests of a client may wait for this many more agents.
    pub(super) fn has_room(&self, client: ClientId, agents: usize) -> bool {
        self.loads.get(&client).copied().unwrap_or_default() + agents <= MAX_REQUESTS
    }

    /// Adds a request. Returns its number.
    pub(super) fn insert(&mut self, asked: Asked) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        if let Some(id) = &asked.to.id {
            self.numbers.insert((asked.to.client, id.clone()), number);
        }
        self.deadlines.insert((asked.deadline, number));
        *self.loads.entry(asked.to.client).or_default() += asked.weight();
        self.requests.insert(number, asked);
        number
    }

    pub(super) fn get(&self, number: u64) -> Option<&Asked> {
        self.requests.get(&number)
    }

    /// Changes a request. The limit of its client follows.
    pub(super) fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Asked) -> T) -> Option<T> {
        let asked = self.requests.get_mut(&number)?;
        let before = asked.weight();
        let out = change(asked);
        let load = self.loads.entry(asked.to.client).or_default();
        *load = *load + asked.weight() - before;
        Some(out)
    }

    /// Removes a request.
    pub(super) fn remove(&mut self, number: u64) -> Option<Asked> {
        let asked = self.requests.remove(&number)?;
        if let Some(id) = &asked.to.id {
            self.numbers.remove(&(asked.to.client, id.clone()));
        }
        self.deadlines.remove(&(asked.deadline, number));
        self.stalled.remove(&number);
        if let Some(load) = self.loads.get_mut(&asked.to.client) {
            *load -= asked.weight();
            if *load == 0 {
                self.loads.remove(&asked.to.client);
            }
        }
        Some(asked)
    }

    /// Returns the number of the request of a client with this id.
    pub(super) fn number_of(&self, client: ClientId, id: &Id) -> Option<u64> {
        self.numbers.get(&(client, id.clone())).copied()
    }

    /// Returns the id of a request on the wire.
    pub(super) fn call_id(&self, number: u64) -> Bytes {
        [self.boot.to_be_bytes(), number.to_be_bytes()].concat().into()
    }

    /// Returns the number of the request with this id on the wire, if this process made it.
    pub(super) fn number_of_call(&self, id: &[u8]) -> Option<u64> {
        let (boot, number) = id.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        (*boot == self.boot.to_be_bytes() && self.requests.contains_key(&number)).then_some(number)
    }

    /// Returns the requests whose deadline has passed.
    pub(super) fn overdue(&self, now: Instant) -> Vec<u64> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        earliest(&self.deadlines)
    }

    /// Returns the requests of a client.
    pub(super) fn of_client(&self, client: ClientId) -> Vec<u64> {
        let of = self.requests.iter().filter(|(_, asked)| asked.to.client == client);
        of.map(|(number, _)| *number).collect()
    }

    /// Returns all requests.
    pub(super) fn all(&self) -> Vec<u64> {
        self.requests.keys().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the number of agents that all requests wait for.
    pub(super) fn load(&self) -> usize {
        self.loads.values().sum()
    }

    /// Notes that the handler of a request may soon send more parts.
    pub(super) fn stall(&mut self, number: u64) {
        self.stalled.insert(number);
    }

    /// Removes and returns the requests whose handlers may send more parts.
    pub(super) fn take_stalled(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.stalled)
    }
}
