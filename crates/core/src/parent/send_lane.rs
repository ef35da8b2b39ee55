//! The lane of `send`s that found no room and wait for it, so that the commands behind them need not: in order for each recipient and
//! priority, and for each topic and priority.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Id, Priority};

use crate::mail::outbound::stream::OutgoingMessage;
use crate::parent::command_limits::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};

/// What one recipient or topic keeps of the lane when the lane has been too full for the longest pause. Half: the rest is for others.
const SHARE_SENDS: usize = MAX_INFLIGHT / 2;
/// … in bytes of `data`.
const SHARE_BYTES: usize = MAX_INFLIGHT_BYTES / 2;

/// Where a `send` goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum To {
    /// Mail to an agent.
    Agent(Address),
    /// A broadcast on a topic.
    Topic(String),
}

/// What is kept in order: urgent sends do not wait behind others of the same recipient.
type Key = (To, Priority);

/// How long it is worth waiting for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The recipient has used up its own share: until then, unless it settles more.
    Recipient(Duration),
    /// The room that all share is used up: until then, and no longer than the longest pause since one like it was accepted.
    Shared(Duration),
}

impl Wait {
    /// Whether waiting may help at all.
    pub(crate) fn may_help(self, now: Duration) -> bool {
        let (Wait::Recipient(until) | Wait::Shared(until)) = self;
        until > now
    }
}

/// A `send` without room, and how long it may wait for it.
#[derive(Debug)]
pub struct NoRoom {
    /// What was to be sent.
    pub draft: OutgoingMessage,
    /// How long to wait.
    pub wait: Wait,
}

/// A `send` that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) draft: OutgoingMessage,
    /// Bytes of its `data` as the parent counts them.
    pub(crate) length: usize,
}

#[derive(Debug)]
struct Line {
    sends: VecDeque<Waiting>,
    /// When the first `send` began to wait, or the one before it was accepted.
    since: Duration,
    deadline: Duration,
}

/// All that waits. One `send` more than `MAX_INFLIGHT`, or than `MAX_INFLIGHT_BYTES` has room for: the one that stopped the reading of stdin.
#[derive(Debug, Default)]
pub(crate) struct SendLane {
    lines: BTreeMap<Key, Line>,
    sends: usize,
    bytes: usize,
    /// The line whose turn was last.
    served: Option<Key>,
    /// Since when it has been too full for stdin to be read.
    over_since: Option<Duration>,
}

impl SendLane {
    pub(crate) fn is_empty(&self) -> bool {
        self.sends == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.sends
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it holds more than a parent may have unanswered.
    pub(crate) fn is_over(&self) -> bool {
        self.sends > MAX_INFLIGHT || self.bytes > MAX_INFLIGHT_BYTES
    }

    /// Whether earlier sends of this priority wait for the same room.
    pub(crate) fn has_line(&self, to: &To, priority: Priority) -> bool {
        !self.lines.is_empty() && self.lines.contains_key(&(to.clone(), priority))
    }

    /// Appends a `send`.
    pub(crate) fn push(&mut self, to: To, waiting: Waiting, now: Duration) {
        self.sends += 1;
        self.bytes += waiting.length;
        let key = (to, waiting.draft.priority);
        let fresh = || Line { sends: VecDeque::new(), since: now, deadline: now + MAX_PAUSE };
        self.lines.entry(key).or_insert_with(fresh).sends.push_back(waiting);
    }

    /// The lines, those after the one that was served last first, so that none waits for ever behind its name.
    pub(crate) fn in_turn(&self) -> Vec<Key> {
        let Some(served) = &self.served else { return self.lines.keys().cloned().collect() };
        let after = self.lines.range((Bound::Excluded(served), Bound::Unbounded));
        after.chain(self.lines.range(..=served)).map(|(key, _)| key.clone()).collect()
    }

    /// The first `send` of a line.
    pub(crate) fn head(&self, key: &Key) -> Option<&Waiting> {
        self.lines.get(key)?.sends.front()
    }

    /// Takes the first `send` of a line, for which there is room.
    pub(crate) fn serve(&mut self, key: &Key, now: Duration) -> Option<Waiting> {
        let line = self.lines.get_mut(key)?;
        let waiting = line.sends.pop_front()?;
        (line.since, line.deadline) = (now, now + MAX_PAUSE);
        if line.sends.is_empty() {
            self.lines.remove(key);
        }
        if self.served.as_ref() != Some(key) {
            self.served = Some(key.clone());
        }
        self.took(&waiting);
        Some(waiting)
    }

    fn took(&mut self, waiting: &Waiting) {
        self.sends -= 1;
        self.bytes -= waiting.length;
    }

    /// There is no room for the first `send` of a line yet; whether it waits on.
    pub(crate) fn waits_on(&mut self, key: &Key, wait: Wait, now: Duration) -> bool {
        let Some(line) = self.lines.get_mut(key) else { return false };
        line.deadline = match wait {
            Wait::Recipient(until) => until,
            Wait::Shared(until) => until.min(line.since + MAX_PAUSE),
        };
        line.deadline > now
    }

    /// Takes out a line.
    pub(crate) fn give_up(&mut self, key: &Key) -> VecDeque<Waiting> {
        let sends = self.lines.remove(key).map(|line| line.sends).unwrap_or_default();
        sends.iter().for_each(|waiting| self.took(waiting));
        sends
    }

    /// Takes out everything.
    pub(crate) fn drain(&mut self) -> Vec<Waiting> {
        (self.sends, self.bytes, self.over_since) = (0, 0, None);
        std::mem::take(&mut self.lines).into_values().flat_map(|line| line.sends).collect()
    }

    /// Takes out the `send` with this id.
    pub(crate) fn cancel(&mut self, id: &Id) -> Option<Waiting> {
        let position =
            |line: &Line| line.sends.iter().position(|waiting| waiting.draft.request_id.as_ref() == Some(id));
        let (key, index) = self.lines.iter().find_map(|(key, line)| Some((key.clone(), position(line)?)))?;
        let line = self.lines.get_mut(&key)?;
        let waiting = line.sends.remove(index)?;
        if line.sends.is_empty() {
            self.lines.remove(&key);
        }
        self.took(&waiting);
        Some(waiting)
    }

    /// Notes since when the lane has been too full. After the longest pause those that have most in it keep a share, and the latest of
    /// their sends are taken out: whose they are, and the sends.
    pub(crate) fn end_pause(&mut self, now: Duration) -> Vec<(To, Vec<Waiting>)> {
        if !self.is_over() {
            self.over_since = None;
            return Vec::new();
        }
        if now < *self.over_since.get_or_insert(now) + MAX_PAUSE {
            return Vec::new();
        }
        self.over_since = None;
        let mut shares: BTreeMap<&To, (usize, usize)> = BTreeMap::new();
        for ((to, _), line) in &self.lines {
            let (sends, bytes) = shares.entry(to).or_default();
            *sends += line.sends.len();
            *bytes += line.sends.iter().map(|waiting| waiting.length).sum::<usize>();
        }
        let mut shares: Vec<(To, usize, usize)> =
            shares.into_iter().map(|(to, (sends, bytes))| (to.clone(), sends, bytes)).collect();
        // The part of a share that is used, whichever of the two it is.
        shares.sort_by_key(|(_, sends, bytes)| {
            std::cmp::Reverse((sends * SHARE_BYTES).max(bytes * SHARE_SENDS))
        });
        let mut out = Vec::new();
        for (to, mut sends, mut bytes) in shares {
            if !self.is_over() {
                break;
            }
            let mut cut = Vec::new();
            while sends > SHARE_SENDS || bytes > SHARE_BYTES || self.is_over() {
                let Some(waiting) = self.take_latest(&to) else { break };
                sends -= 1;
                bytes -= waiting.length;
                cut.push(waiting);
            }
            out.push((to, cut));
        }
        out
    }

    /// Takes the latest `send` to somebody, of the lowest priority.
    fn take_latest(&mut self, to: &To) -> Option<Waiting> {
        let key = [Priority::Low, Priority::Medium, Priority::High]
            .into_iter()
            .map(|priority| (to.clone(), priority))
            .find(|key| self.lines.contains_key(key))?;
        let line = self.lines.get_mut(&key)?;
        let waiting = line.sends.pop_back()?;
        if line.sends.is_empty() {
            self.lines.remove(&key);
        }
        self.took(&waiting);
        Some(waiting)
    }

    /// When a line, or the pause of stdin, has lasted long enough.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let pause = self.over_since.map(|since| since + MAX_PAUSE);
        self.lines.values().map(|line| line.deadline).chain(pause).min()
    }
}

#[cfg(test)]
mod tests;
