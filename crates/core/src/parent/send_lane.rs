//! The send lane: `send` commands that wait for room, so that the commands behind them need not
//! wait. Order holds for each recipient and priority, and for each topic and priority. See
//! `docs/adr/0002-send-lane.md`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Id, Priority};
use p2p_node_wire::time::Instant;

use crate::budget::Budget;
use crate::capacity::Wait;
use crate::client_id::ClientId;
use crate::command_limits::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};
use crate::outgoing::OutgoingMessage;
use crate::parent::client_load::ClientLoads;
use crate::replies::reply_to::StepOf;

/// Number of `send` commands of a client that one recipient or topic keeps when the client has had
/// too many for [`MAX_PAUSE`]. Half of what the client may have, so that other recipients and
/// topics can use the rest.
const SHARE_SENDS: usize = MAX_INFLIGHT / 2;
/// The same limit in bytes of `data`.
const SHARE_BYTES: usize = MAX_INFLIGHT_BYTES / 2;

/// Destination of a `send`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum To {
    /// A message to an agent.
    Agent(Address),
    /// A message to the agent of a node whose record is not known yet. See
    /// `docs/adr/0040-mail-to-a-newcomer.md`.
    Node(PeerId),
    /// A broadcast on a topic.
    Topic(String),
}

impl To {
    /// Returns the topic, if the destination is one.
    pub(crate) fn topic(&self) -> Option<&str> {
        match self {
            To::Topic(topic) => Some(topic),
            To::Agent(_) | To::Node(_) => None,
        }
    }

    /// Returns the node to which the message goes, if the parent named the node.
    pub(crate) fn node(&self) -> Option<PeerId> {
        match self {
            To::Node(peer) => Some(*peer),
            To::Agent(_) | To::Topic(_) => None,
        }
    }
}

/// Key of a line. Each priority has its own line, so that high priority does not wait behind others
/// to the same recipient.
type Key = (To, Priority);

/// A `send` that waits for room.
#[derive(Debug)]
pub(crate) struct WaitingSend {
    pub(crate) draft: OutgoingMessage,
    /// Bytes of `data` as the client wrote it.
    pub(crate) length: usize,
}

impl WaitingSend {
    fn client(&self) -> ClientId {
        self.draft.command.client
    }
}

#[derive(Debug)]
struct Line {
    sends: VecDeque<WaitingSend>,
    /// The time at which the first `send` began to wait, or the node last accepted a `send` of the
    /// line.
    since: Instant,
    deadline: Instant,
}

/// All `send` commands that wait. Of each client, the lane may hold one `send` more than
/// `MAX_INFLIGHT` or `MAX_INFLIGHT_BYTES` allow: the last one that the node read.
#[derive(Debug, Default)]
pub(crate) struct SendLane {
    lines: BTreeMap<Key, Line>,
    /// The `send` commands of each client.
    loads: ClientLoads,
    /// Key of the line that was served last.
    last_served: Option<Key>,
}

impl SendLane {
    pub(crate) fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }

    /// Returns the number and the bytes of the `send` commands of a client.
    pub(crate) fn of(&self, client: ClientId) -> Budget {
        self.loads.of(client)
    }

    /// Returns `true` if the lane holds more `send` commands of a client than the client may have
    /// unanswered.
    pub(crate) fn is_over(&self, client: ClientId) -> bool {
        self.loads.is_over(client)
    }

    /// Returns `true` if earlier `send` commands with this destination and priority wait.
    pub(crate) fn has_line(&self, to: &To, priority: Priority) -> bool {
        !self.lines.is_empty() && self.lines.contains_key(&(to.clone(), priority))
    }

    /// Appends a `send` to its line.
    pub(crate) fn push(&mut self, to: To, waiting: WaitingSend, now: Instant) {
        self.loads.add(waiting.client(), waiting.length);
        let key = (to, waiting.draft.priority);
        let fresh = || Line { sends: VecDeque::new(), since: now, deadline: now + MAX_PAUSE };
        self.lines.entry(key).or_insert_with(fresh).sends.push_back(waiting);
    }

    /// Returns the keys of all lines, beginning after the line that was served last, so that the
    /// node serves all lines in rotation.
    pub(crate) fn lines_in_rotation(&self) -> Vec<Key> {
        let Some(last) = &self.last_served else { return self.lines.keys().cloned().collect() };
        let after = self.lines.range((Bound::Excluded(last), Bound::Unbounded));
        after.chain(self.lines.range(..=last)).map(|(key, _)| key.clone()).collect()
    }

    /// Returns the first `send` of a line.
    pub(crate) fn head(&self, key: &Key) -> Option<&WaitingSend> {
        self.lines.get(key)?.sends.front()
    }

    /// Removes and returns the first `send` of a line, for which there is room.
    pub(crate) fn serve(&mut self, key: &Key, now: Instant) -> Option<WaitingSend> {
        let line = self.lines.get_mut(key)?;
        let waiting = line.sends.pop_front()?;
        (line.since, line.deadline) = (now, now + MAX_PAUSE);
        if line.sends.is_empty() {
            self.lines.remove(key);
        }
        if self.last_served.as_ref() != Some(key) {
            self.last_served = Some(key.clone());
        }
        self.subtract_load(&waiting);
        Some(waiting)
    }

    fn subtract_load(&mut self, waiting: &WaitingSend) {
        self.loads.remove(waiting.client(), waiting.length);
    }

    /// Updates the deadline of a line whose first `send` has no room. Returns `true` if it may wait
    /// longer.
    pub(crate) fn may_wait(&mut self, key: &Key, wait: Wait, now: Instant) -> bool {
        let Some(line) = self.lines.get_mut(key) else { return false };
        line.deadline = match wait {
            Wait::Recipient(until) => until,
            Wait::Shared(until) => until.min(line.since + MAX_PAUSE),
        };
        line.deadline > now
    }

    /// Removes a line and returns its `send` commands.
    pub(crate) fn remove_line(&mut self, key: &Key) -> VecDeque<WaitingSend> {
        let sends = self.lines.remove(key).map(|line| line.sends).unwrap_or_default();
        sends.iter().for_each(|waiting| self.subtract_load(waiting));
        sends
    }

    /// Removes and returns all `send` commands.
    pub(crate) fn drain(&mut self) -> Vec<WaitingSend> {
        self.loads = ClientLoads::default();
        std::mem::take(&mut self.lines).into_values().flat_map(|line| line.sends).collect()
    }

    /// Removes the `send` commands of a client that has gone.
    pub(crate) fn remove_of(&mut self, client: ClientId) {
        for line in self.lines.values_mut() {
            line.sends.retain(|waiting| {
                let is_gone = waiting.client() == client;
                if is_gone {
                    self.loads.remove(client, waiting.length);
                }
                !is_gone
            });
        }
        self.lines.retain(|_, line| !line.sends.is_empty());
    }

    /// Removes and returns the `send` of a client with this id.
    pub(crate) fn cancel(&mut self, client: ClientId, id: &Id) -> Option<WaitingSend> {
        let position =
            |line: &Line| line.sends.iter().position(|waiting| waiting.draft.command.is(client, id));
        let (key, index) = self.lines.iter().find_map(|(key, line)| Some((key.clone(), position(line)?)))?;
        let line = self.lines.get_mut(&key)?;
        let waiting = line.sends.remove(index)?;
        if line.sends.is_empty() {
            self.lines.remove(&key);
        }
        self.subtract_load(&waiting);
        Some(waiting)
    }

    /// Removes the messages of a request that has ended.
    pub(crate) fn remove_request(&mut self, number: u64) {
        let is_of = |waiting: &WaitingSend| matches!(waiting.draft.command.step, Some(StepOf::Request { number: of, .. }) if of == number);
        let mut removed = Vec::new();
        for line in self.lines.values_mut() {
            let (gone, kept) = std::mem::take(&mut line.sends).into_iter().partition(is_of);
            line.sends = kept;
            removed.extend::<VecDeque<_>>(gone);
        }
        self.lines.retain(|_, line| !line.sends.is_empty());
        removed.iter().for_each(|waiting| self.subtract_load(waiting));
    }

    /// Ends the pauses that have lasted [`MAX_PAUSE`]. In a pause the node does not read from a
    /// client. Returns the removed `send` commands by destination.
    pub(crate) fn end_pauses(&mut self, now: Instant) -> Vec<(To, Vec<WaitingSend>)> {
        let ended = self.loads.end_pauses(now);
        ended.into_iter().flat_map(|client| self.shorten(client)).collect()
    }

    /// Removes the latest `send` commands of a client to the destinations that have most of them,
    /// until each keeps its share and the client does not have too many. Returns the removed
    /// commands by destination.
    fn shorten(&mut self, client: ClientId) -> Vec<(To, Vec<WaitingSend>)> {
        let mut shares: BTreeMap<&To, (usize, usize)> = BTreeMap::new();
        for ((to, _), line) in &self.lines {
            let (sends, bytes) = shares.entry(to).or_default();
            for waiting in line.sends.iter().filter(|waiting| waiting.client() == client) {
                *sends += 1;
                *bytes += waiting.length;
            }
        }
        let mut shares: Vec<(To, usize, usize)> =
            shares.into_iter().map(|(to, (sends, bytes))| (to.clone(), sends, bytes)).collect();
        // Sort by the used part of the share, in commands or in bytes, whichever is larger.
        shares.sort_by_key(|(_, sends, bytes)| {
            std::cmp::Reverse((sends * SHARE_BYTES).max(bytes * SHARE_SENDS))
        });
        let mut out = Vec::new();
        for (to, mut sends, mut bytes) in shares {
            if !self.is_over(client) {
                break;
            }
            let mut cut = Vec::new();
            while sends > SHARE_SENDS || bytes > SHARE_BYTES || self.is_over(client) {
                let Some(waiting) = self.take_latest(&to, client) else { break };
                sends -= 1;
                bytes -= waiting.length;
                cut.push(waiting);
            }
            out.push((to, cut));
        }
        out
    }

    /// Removes and returns the latest `send` of a client, of the lowest priority, to a destination.
    fn take_latest(&mut self, to: &To, client: ClientId) -> Option<WaitingSend> {
        let latest =
            |key: &Key| self.lines.get(key)?.sends.iter().rposition(|waiting| waiting.client() == client);
        let (key, index) = [Priority::Low, Priority::Medium, Priority::High]
            .into_iter()
            .map(|priority| (to.clone(), priority))
            .find_map(|key| latest(&key).map(|index| (key, index)))?;
        let line = self.lines.get_mut(&key)?;
        let waiting = line.sends.remove(index)?;
        if line.sends.is_empty() {
            self.lines.remove(&key);
        }
        self.subtract_load(&waiting);
        Some(waiting)
    }

    /// Returns when the wait of a line, or the pause of a client, ends next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lines.values().map(|line| line.deadline).chain(self.loads.next_deadline()).min()
    }

    /// Returns when the wait for the record of a node ends next.
    pub(crate) fn next_record_deadline(&self) -> Option<Instant> {
        let lines = self.lines.iter().filter(|((to, _), _)| matches!(to, To::Node(_)));
        lines.map(|(_, line)| line.deadline).min()
    }
}

#[cfg(test)]
mod tests;
