//! Records and frames that wait for the check of the signature of a binding.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{Busy, Response};
use p2p_node_wire::identity::{BindingHash, SignedBinding};
use p2p_node_wire::record::SignedRecord;

use crate::budget::Limit;
use crate::cx::Cx;
use crate::effect::{NetworkCommand, Verdict};
use crate::gate::admission_policy::Refusal;
use crate::gate::reputation::Conduct;
use crate::input::Token;
use crate::shared_budget::SharedBudget;
use crate::signal::Signal;

/// Largest number of records and frames that wait for the crypto pool: our choice, some
/// milliseconds of a busy network.
pub(crate) const MAX_PENDING: usize = 1024;
/// Largest total size of these records and frames, in bytes: eight of the largest frames.
pub(crate) const MAX_PENDING_BYTES: usize = 8 << 20;
/// Both limits of [`PendingVerifications`].
pub(crate) const PENDING_LIMIT: Limit = Limit { count: MAX_PENDING, bytes: MAX_PENDING_BYTES };
/// Largest number of bindings that the crypto pool checks at the same time: our choice. A check takes
/// 0.15 ms, so the last one is done after 40 ms.
pub(crate) const MAX_CHECKS: usize = 256;
const CHECKS_LIMIT: Limit = Limit { count: MAX_CHECKS, bytes: usize::MAX };
/// Time after which a sender should try again when the crypto pool is full, in ms: our choice, long
/// enough for the pool to drain its queue.
pub(crate) const BUSY_MS: u64 = 500;

/// The source of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RecordSource {
    /// The admission of this connected peer.
    Admission(PeerId),
    /// The announcements topic, from this peer. The token waits for a verdict.
    Announcement(Token, PeerId),
    /// The node of the record, which asks us, a DHT server, to store it.
    Offer(PeerId),
    /// The answer of this DHT server, or of the recipient of our mail.
    Answer(PeerId),
    /// The answer of this peer to the question which agents it knows.
    Found(PeerId),
}

impl RecordSource {
    /// Returns `true` if another node than that of the record sent it.
    pub(crate) fn is_hearsay(self) -> bool {
        match self {
            RecordSource::Admission(_) | RecordSource::Offer(_) => false,
            RecordSource::Announcement(..) | RecordSource::Answer(_) | RecordSource::Found(_) => true,
        }
    }

    /// Returns the peer that sent the record, and what it did if every node rejects the record. Each had
    /// to check it: relayers and servers before they pass it on, the owner before it sends it.
    pub(crate) fn fault(self) -> (PeerId, Conduct) {
        match self {
            RecordSource::Admission(peer) => (peer, Conduct::InvalidAdmission),
            RecordSource::Announcement(_, peer) => (peer, Conduct::InvalidGossip),
            RecordSource::Offer(peer) | RecordSource::Answer(peer) | RecordSource::Found(peer) => {
                (peer, Conduct::InvalidRecord)
            }
        }
    }
}

/// A record that arrived and is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct OfferedRecord {
    /// The encoded record.
    pub(crate) bytes: Bytes,
    /// The source of the record.
    pub(crate) source: RecordSource,
    /// The agent whose record the node requested, if the node requested one.
    pub(crate) expected_address: Option<Address>,
}

/// A gossip message that is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct GossipMessage {
    /// The token of the verdict.
    pub(crate) token: Token,
    /// The peer that forwarded the message.
    pub(crate) from: PeerId,
    /// The topic, without the network's prefix.
    pub(crate) topic: String,
    /// An encoded frame.
    pub(crate) data: Bytes,
}

/// A frame of direct mail that is not checked yet.
#[derive(Clone, Debug)]
pub(crate) struct MailRequest {
    /// The token of the response.
    pub(crate) token: Token,
    /// The peer that sent the frame.
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

    /// Returns the neighbour that sent the object.
    fn from(&self) -> PeerId {
        match self {
            Pending::Record(record) => record.source.fault().0,
            Pending::Gossip(message) => message.from,
            Pending::Mail(request) => request.peer,
        }
    }
}

/// The objects that wait for the check of one binding, and the neighbour that brought the first of them.
#[derive(Debug)]
struct Check {
    /// The binding, if a contract wallet may have signed it.
    of_contract: Option<Box<SignedBinding>>,
    from: PeerId,
    waiting: Vec<Pending>,
}

/// The records and frames that wait for the crypto pool. Neighbours share the room for them, and the
/// capacity of the pool.
#[derive(Debug, Default)]
pub(crate) struct PendingVerifications {
    checks: BTreeMap<BindingHash, Check>,
    objects: SharedBudget,
    running: SharedBudget,
}

impl PendingVerifications {
    /// Returns the number of objects.
    pub(crate) fn len(&self) -> usize {
        self.objects.count()
    }

    /// Returns the number of bindings that the crypto pool checks.
    pub(crate) fn checks(&self) -> usize {
        self.checks.len()
    }

    /// Queues an object until the binding is checked. Returns `true` for the first object that
    /// waits for this binding. Returns the object as error if its neighbour has no share left.
    pub(crate) fn push(&mut self, binding: &SignedBinding, pending: Pending) -> Result<bool, Box<Pending>> {
        let (from, bytes, hash) = (pending.from(), pending.bytes(), binding.hash());
        let is_first = !self.checks.contains_key(&hash);
        let has_room = self.objects.fits(&from, bytes, PENDING_LIMIT);
        if !has_room || is_first && !self.running.fits(&from, 0, CHECKS_LIMIT) {
            return Err(Box::new(pending));
        }
        self.objects.add(from, bytes);
        if is_first {
            self.running.add(from, 0);
        }
        let none = || Check {
            of_contract: binding.may_be_of_contract().then(|| Box::new(binding.clone())),
            from,
            waiting: Vec::new(),
        };
        self.checks.entry(hash).or_insert_with(none).waiting.push(pending);
        Ok(is_first)
    }

    /// Returns the binding of this hash with the neighbour that brought it, if a contract wallet may have
    /// signed it.
    pub(crate) fn of_contract(&self, binding: &BindingHash) -> Option<(&SignedBinding, PeerId)> {
        let check = self.checks.get(binding)?;
        Some((check.of_contract.as_deref()?, check.from))
    }

    /// Removes the objects that wait for this binding, oldest first.
    pub(crate) fn remove(&mut self, binding: &BindingHash) -> Vec<Pending> {
        let Some(Check { from, waiting, .. }) = self.checks.remove(binding) else { return Vec::new() };
        self.running.remove(&from, 0);
        waiting.iter().for_each(|pending| self.objects.remove(&pending.from(), pending.bytes()));
        waiting
    }
}

/// Drops an object for which there is no capacity. The node does not penalise the sender, and
/// answers `BUSY` to a sender of direct mail.
pub(crate) fn drop_pending(pending: Pending, counter: Counter, cx: &mut Cx) {
    cx.stats.count(counter);
    match pending {
        Pending::Record(OfferedRecord { source: RecordSource::Announcement(token, _), .. })
        | Pending::Gossip(GossipMessage { token, .. }) => {
            cx.network(NetworkCommand::ReportValidation { token, verdict: Verdict::Ignore });
        }
        Pending::Record(OfferedRecord { source: RecordSource::Admission(peer), bytes, .. }) => {
            let hash = SignedRecord::hash_of(&bytes);
            cx.signal(Signal::PeerRecordChecked { peer, record: hash, outcome: Err(Refusal::Busy) });
        }
        Pending::Record(_) => {}
        Pending::Mail(MailRequest { token, .. }) => {
            cx.answer_mail(token, Response::Busy(Busy { retry_after_ms: BUSY_MS }));
        }
    }
}
