//! The queue of `send`s: in order for each recipient, round-robin between recipients, and no more
//! unanswered `send`s than the node has room for. Has no I/O: the owner writes the lines.

use std::collections::{HashMap, VecDeque};

use p2p_node_protocol::{Limits, MAX_WAITING_SENDS, RESERVED_COMMANDS, Send};

use crate::Error;

/// The recipient of a `send`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Recipient {
    Peer(String),
    Topic(String),
}

impl Recipient {
    /// Returns the recipient of a `send`. The case of an address does not matter.
    pub(crate) fn of(send: &Send) -> Self {
        match (&send.peer_id, &send.topic) {
            (None, Some(topic)) => Recipient::Topic(topic.clone()),
            (peer_id, _) => Recipient::Peer(peer_id.as_deref().unwrap_or_default().to_ascii_lowercase()),
        }
    }
}

/// A `send` that the SDK has not written to a process.
pub(crate) struct Waiting<W> {
    pub(crate) id: i64,
    pub(crate) line: Vec<u8>,
    /// The length of `data` in bytes.
    pub(crate) bytes: usize,
    pub(crate) waiter: W,
}

/// The share of the node's limits that unanswered `send`s use.
#[derive(Clone, Copy, Default)]
struct Usage {
    count: usize,
    bytes: usize,
}

impl Usage {
    /// Returns `true` if `bytes` fit into the limit. A larger `send` fits when nothing else is
    /// unanswered.
    fn has_room(self, bytes: usize, limit: Usage) -> bool {
        self.count == 0 || (self.count < limit.count && self.bytes + bytes <= limit.bytes)
    }

    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}

/// The queue of `send`s. `W` is the waiter for an answer.
pub(crate) struct Lane<W> {
    /// The limit of unanswered `send`s. One recipient may use half of it.
    limit: Usage,
    queues: HashMap<Recipient, VecDeque<Waiting<W>>>,
    /// The recipients with waiting `send`s, in round-robin order.
    rotation: VecDeque<Recipient>,
    waiting: usize,
    /// The recipient and the bytes of `data`, by the id of the command.
    unanswered: HashMap<i64, (Recipient, usize)>,
    used: HashMap<Recipient, Usage>,
    total: Usage,
    closed: Option<Error>,
}

impl<W> Lane<W> {
    pub(crate) fn new() -> Self {
        let mut lane = Lane {
            limit: Usage::default(),
            queues: HashMap::new(),
            rotation: VecDeque::new(),
            waiting: 0,
            unanswered: HashMap::new(),
            used: HashMap::new(),
            total: Usage::default(),
            closed: None,
        };
        lane.reset(&Limits::STANDARD);
        lane
    }

    /// Starts to count for a new process, which has no unanswered `send`.
    pub(crate) fn reset(&mut self, limits: &Limits) {
        let count = limits.max_inflight;
        self.limit =
            Usage { count: count - RESERVED_COMMANDS.min(count / 2), bytes: limits.max_inflight_bytes };
        self.unanswered.clear();
        self.used.clear();
        self.total = Usage::default();
    }

    /// Adds a `send` to the end of its recipient's queue.
    pub(crate) fn push(&mut self, to: Recipient, waiting: Waiting<W>) -> Result<(), Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if self.waiting >= MAX_WAITING_SENDS {
            return Err(Error::TooManyCalls { what: "sends", limit: MAX_WAITING_SENDS });
        }
        self.waiting += 1;
        let queue = self.queues.entry(to.clone()).or_default();
        if queue.is_empty() {
            self.rotation.push_back(to);
        }
        queue.push_back(waiting);
        Ok(())
    }

    /// Removes and returns the next `send` that fits. It counts until [`answered`](Self::answered).
    pub(crate) fn pop(&mut self) -> Option<Waiting<W>> {
        let half = Usage { count: (self.limit.count / 2).max(1), bytes: self.limit.bytes / 2 };
        // Skip recipients that use their half. Do not skip a recipient for lack of total room:
        // otherwise smaller messages would block a large one forever.
        let position = self.rotation.iter().position(|to| {
            let bytes = self.queues.get(to).and_then(VecDeque::front).map_or(0, |next| next.bytes);
            self.used.get(to).copied().unwrap_or_default().has_room(bytes, half)
        })?;
        let to = self.rotation.get(position)?.clone();
        let queue = self.queues.get_mut(&to)?;
        if !self.total.has_room(queue.front()?.bytes, self.limit) {
            return None;
        }
        let next = queue.pop_front()?;
        self.waiting -= 1;
        self.rotation.remove(position);
        if queue.is_empty() {
            self.queues.remove(&to);
        } else {
            self.rotation.push_back(to.clone());
        }
        self.total.add(next.bytes);
        self.used.entry(to.clone()).or_default().add(next.bytes);
        self.unanswered.insert(next.id, (to, next.bytes));
        Some(next)
    }

    /// Handles the node's answer to a command. Returns `true` if waiting `send`s may now fit.
    pub(crate) fn answered(&mut self, id: i64) -> bool {
        let Some((to, bytes)) = self.unanswered.remove(&id) else { return false };
        self.total.remove(bytes);
        if let Some(used) = self.used.get_mut(&to) {
            used.remove(bytes);
            if used.count == 0 {
                self.used.remove(&to);
            }
        }
        self.waiting > 0
    }

    /// Withdraws a waiting `send`. Returns `false` if the SDK has already written it.
    pub(crate) fn withdraw(&mut self, to: &Recipient, id: i64) -> bool {
        let Some(queue) = self.queues.get_mut(to) else { return false };
        let Some(at) = queue.iter().position(|waiting| waiting.id == id) else { return false };
        queue.remove(at);
        self.waiting -= 1;
        if queue.is_empty() {
            self.queues.remove(to);
            self.rotation.retain(|recipient| recipient != to);
        }
        true
    }

    /// Closes the queue with `error`: every later `send` fails. Returns the waiters. Only the first
    /// error counts.
    pub(crate) fn fail_all(&mut self, error: Error) -> Vec<W> {
        self.closed.get_or_insert(error);
        self.rotation.clear();
        self.waiting = 0;
        self.queues.drain().flat_map(|(_, queue)| queue).map(|waiting| waiting.waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a queue with room for four `send`s and 100 bytes.
    fn lane() -> Lane<()> {
        let mut lane = Lane::new();
        lane.reset(&Limits { max_inflight: 8, max_inflight_bytes: 100, ..Limits::STANDARD });
        assert_eq!(lane.limit.count, 4);
        lane
    }

    fn peer(name: &str) -> Recipient {
        Recipient::Peer(name.to_owned())
    }

    fn push(lane: &mut Lane<()>, to: &str, id: i64, bytes: usize) {
        lane.push(peer(to), Waiting { id, line: Vec::new(), bytes, waiter: () }).unwrap();
    }

    fn pop_all(lane: &mut Lane<()>) -> Vec<i64> {
        std::iter::from_fn(|| lane.pop()).map(|waiting| waiting.id).collect()
    }

    #[test]
    fn recipients_alternate_and_use_at_most_half_of_credit() {
        let mut lane = lane();
        for id in 1..=5 {
            push(&mut lane, "a", id, 1);
        }
        push(&mut lane, "b", 6, 1);
        push(&mut lane, "c", 7, 1);
        assert_eq!(pop_all(&mut lane), [1, 6, 7, 2]);
        assert!(lane.answered(6) && lane.answered(7) && !lane.answered(7));
        assert_eq!(pop_all(&mut lane), [0; 0], "`a` has its half");
        push(&mut lane, "b", 8, 1);
        assert_eq!(pop_all(&mut lane), [8], "others go past it");
        lane.answered(1);
        assert_eq!(pop_all(&mut lane), [3]);
    }

    #[test]
    fn bytes_are_bounded_and_large_send_goes_alone() {
        let mut lane = lane();
        push(&mut lane, "a", 1, 30);
        push(&mut lane, "a", 2, 30);
        push(&mut lane, "b", 3, 50);
        push(&mut lane, "c", 4, 1000);
        push(&mut lane, "d", 5, 1);
        assert_eq!(pop_all(&mut lane), [1, 3], "60 bytes are more than half, and 4 is not passed over");
        lane.answered(1);
        assert_eq!(pop_all(&mut lane), [0; 0]);
        lane.answered(3);
        assert_eq!(pop_all(&mut lane), [4]);
        lane.answered(4);
        assert_eq!(pop_all(&mut lane), [5, 2]);
    }

    #[test]
    fn withdrawn_sends_leave_no_state_and_new_process_has_full_credit() {
        let mut lane = lane();
        for id in 1..=4 {
            push(&mut lane, "a", id, 10);
        }
        assert_eq!(pop_all(&mut lane), [1, 2]);
        assert!(!lane.withdraw(&peer("a"), 1), "a process has seen it");
        assert!(lane.withdraw(&peer("a"), 3) && !lane.withdraw(&peer("a"), 3));
        lane.reset(&Limits { max_inflight: 8, max_inflight_bytes: 100, ..Limits::STANDARD });
        assert!(!lane.answered(1));
        assert_eq!(pop_all(&mut lane), [4]);
        push(&mut lane, "b", 5, 10);
        assert!(lane.withdraw(&peer("b"), 5));
        assert!(lane.rotation.is_empty() && lane.queues.is_empty() && lane.waiting == 0);
    }

    #[test]
    fn waiting_sends_are_bounded_and_fail_together() {
        let mut lane = lane();
        for id in 0..MAX_WAITING_SENDS {
            push(&mut lane, "a", i64::try_from(id).unwrap(), 1);
        }
        let more = |lane: &mut Lane<()>| {
            lane.push(peer("b"), Waiting { id: -1, line: Vec::new(), bytes: 1, waiter: () })
        };
        assert!(matches!(more(&mut lane), Err(Error::TooManyCalls { .. })));
        assert_eq!(lane.fail_all(Error::NodeClosed).len(), MAX_WAITING_SENDS);
        assert!(matches!(more(&mut lane), Err(Error::NodeClosed)));
        assert!(lane.pop().is_none());
    }

    #[test]
    fn address_recipient_ignores_case_and_differs_from_topic() {
        let data = || serde_json::value::to_raw_value("1").unwrap();
        let to = |to: &str| Recipient::of(&Send::to_peer(to, data()));
        assert_eq!(to("0xAB"), to("0xab"));
        assert_ne!(to("t"), Recipient::of(&Send::to_topic("t", data())));
    }
}
