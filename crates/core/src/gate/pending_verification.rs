//! Records and frames that wait for the crypto pool to check the signature of a binding.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_wire::identity::BindingHash;

use crate::input::Token;

/// Largest number of records and frames that wait for the crypto pool: our choice, some
/// milliseconds of a busy network.
pub(crate) const MAX_PARKED: usize = 1024;
/// Largest total size of these records and frames, in bytes: eight of the largest frames.
pub(crate) const MAX_PARKED_BYTES: usize = 8 << 20;
/// Time after which a sender should try again when the crypto pool is full, in ms: our choice, long
/// enough for the pool to drain its queue.
pub(crate) const BUSY_MS: u64 = 500;

/// The source of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RecordSource {
    /// The `Hello` of this connected peer.
    Hello(PeerId),
    /// The announcements topic. The token waits for a verdict.
    Announcement(Token),
    /// A peer that asks us, a DHT server, to store the record.
    Offer,
    /// The answer of a DHT server.
    Answer,
}

/// A record that arrived and is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct OfferedRecord {
    /// The encoded record.
    pub(crate) bytes: Bytes,
    /// Where it came from.
    pub(crate) source: RecordSource,
    /// The agent whose record the node asked for, if it asked.
    pub(crate) expected_address: Option<Address>,
}

/// A gossip message that is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct GossipMessage {
    /// Waits for a verdict.
    pub(crate) token: Token,
    /// The peer that forwarded it.
    pub(crate) from: PeerId,
    /// The topic, without the network's prefix.
    pub(crate) topic: String,
    /// An encoded frame.
    pub(crate) data: Bytes,
}

/// A frame of direct mail that is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct MailRequest {
    /// Waits for the response.
    pub(crate) token: Token,
    /// The peer that sent it.
    pub(crate) peer: PeerId,
    /// An encoded frame.
    pub(crate) frame: Bytes,
}

/// A record or frame that cannot be accepted before the signature of a binding is checked.
#[derive(Debug)]
pub(crate) enum Pending {
    Record(OfferedRecord),
    Gossip(GossipMessage),
    Mail(MailRequest),
}

impl Pending {
    fn bytes(&self) -> usize {
        match self {
            Pending::Record(record) => record.bytes.len(),
            Pending::Gossip(message) => message.data.len(),
            Pending::Mail(request) => request.frame.len(),
        }
    }
}

/// The records and frames that wait for the crypto pool.
#[derive(Debug, Default)]
pub(crate) struct PendingVerifications {
    waiting: BTreeMap<BindingHash, Vec<Pending>>,
    number: usize,
    bytes: usize,
}

impl PendingVerifications {
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Queues an object until the binding is checked. Returns `true` if it is the first that waits
    /// for this binding, and the object itself if there is no capacity.
    pub(crate) fn push(&mut self, binding: BindingHash, pending: Pending) -> Result<bool, Pending> {
        let bytes = pending.bytes();
        if self.number >= MAX_PARKED || self.bytes + bytes > MAX_PARKED_BYTES {
            return Err(pending);
        }
        self.number += 1;
        self.bytes += bytes;
        let waiting = self.waiting.entry(binding).or_default();
        waiting.push(pending);
        Ok(waiting.len() == 1)
    }

    /// Removes the objects that wait for this binding, oldest first.
    pub(crate) fn remove(&mut self, binding: &BindingHash) -> Vec<Pending> {
        let ready = self.waiting.remove(binding).unwrap_or_default();
        self.number -= ready.len();
        self.bytes -= ready.iter().map(Pending::bytes).sum::<usize>();
        ready
    }
}
