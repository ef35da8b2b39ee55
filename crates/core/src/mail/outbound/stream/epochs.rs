//! The streams that number the messages of one queue.
//!
//! A stream belongs to one process. A message that an earlier process accepted keeps the stream and
//! the number under which that process may have sent it. New messages use a stream of this process,
//! behind them. Each stream of the queue is an epoch.

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_wire::message_id::{MessageIdPrefix, StreamId, message_name};

/// The position of a message in the queue of one recipient and priority. All messages of an earlier
/// epoch precede those of a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The stream of the message, as an index in order of use.
    pub epoch: u32,
    /// The number of the message in that stream.
    pub seq: u64,
}

/// One stream of a queue.
#[derive(Debug)]
pub(crate) struct Epoch {
    number: u32,
    pub(crate) id: Bytes,
    pub(crate) name: MessageIdPrefix,
}

impl Epoch {
    fn new(account: &Address, number: u32, id: &StreamId) -> Self {
        Epoch { number, id: Bytes::copy_from_slice(id), name: message_name(account, id) }
    }

    pub(crate) fn stream_id(&self) -> StreamId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.id);
        StreamId(id)
    }
}

/// The streams of a queue: the current one, and at most one for each queued message.
#[derive(Debug)]
pub(crate) struct Epochs {
    account: Address,
    /// Sorted by number.
    earlier: Vec<Epoch>,
    current: Epoch,
    next_seq: u64,
}

impl Epochs {
    pub(crate) fn new(account: &Address, id: &StreamId) -> Self {
        Epochs { account: *account, earlier: Vec::new(), current: Epoch::new(account, 0, id), next_seq: 1 }
    }

    pub(crate) fn account(&self) -> &Address {
        &self.account
    }

    /// Returns the stream of new messages.
    pub(crate) fn current(&self) -> &Epoch {
        &self.current
    }

    /// Returns `true` if this epoch numbers new messages.
    pub(crate) fn is_current(&self, epoch: u32) -> bool {
        epoch == self.current.number
    }

    /// Returns the epoch of a stream.
    pub(crate) fn find(&self, id: &[u8]) -> Option<u32> {
        let epochs = [&self.current].into_iter().chain(self.earlier.iter().rev());
        epochs.into_iter().find(|epoch| epoch.id == id).map(|epoch| epoch.number)
    }

    /// Returns the stream of an epoch that has queued messages.
    pub(crate) fn get(&self, number: u32) -> &Epoch {
        match self.earlier.binary_search_by_key(&number, |epoch| epoch.number) {
            Ok(at) => &self.earlier[at],
            Err(_) => &self.current,
        }
    }

    /// Returns the position of the next new message.
    pub(crate) fn next_position(&mut self) -> Position {
        let position = Position { epoch: self.current.number, seq: self.next_seq };
        self.next_seq += 1;
        position
    }

    /// Numbers new messages in this stream from now on. No process has used the stream.
    pub(crate) fn begin(&mut self, id: &StreamId) {
        let current = Epoch::new(&self.account, self.current.number + 1, id);
        self.earlier.push(std::mem::replace(&mut self.current, current));
        self.next_seq = 1;
    }

    /// Returns the epoch of a stream of an earlier process, and creates it if there is none. The
    /// queue does not contain messages of this process yet.
    pub(crate) fn restore(&mut self, id: &StreamId) -> u32 {
        if let Some(known) = self.find(id) {
            return known;
        }
        let number = self.current.number;
        self.earlier.push(Epoch::new(&self.account, number, id));
        self.current.number += 1;
        number
    }

    /// Removes the streams before this epoch, or all except the current one.
    pub(crate) fn forget_before(&mut self, first: Option<u32>) {
        self.earlier.retain(|epoch| first.is_some_and(|first| epoch.number >= first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Address = Address::repeat_byte(1);

    #[test]
    fn streams_of_earlier_processes_are_sent_first() {
        let mut epochs = Epochs::new(&ACCOUNT, &StreamId([9; 16]));
        assert_eq!(
            (
                epochs.restore(&StreamId([1; 16])),
                epochs.restore(&StreamId([2; 16])),
                epochs.restore(&StreamId([1; 16]))
            ),
            (0, 1, 0)
        );
        assert_eq!(epochs.next_position(), Position { epoch: 2, seq: 1 });
        epochs.begin(&StreamId([10; 16]));
        assert_eq!(epochs.next_position(), Position { epoch: 3, seq: 1 }, "each stream counts from 1");
        assert_eq!(epochs.find(&[2; 16]), Some(1));
        assert_eq!(epochs.get(2).stream_id(), StreamId([9; 16]));
        epochs.forget_before(Some(2));
        assert_eq!((epochs.find(&[2; 16]), epochs.find(&[9; 16])), (None, Some(2)));
        epochs.forget_before(None);
        assert_eq!((epochs.find(&[9; 16]), epochs.find(&[10; 16])), (None, Some(3)));
    }
}
