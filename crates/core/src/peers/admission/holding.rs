//! What arrives from a peer before the node has admitted it. Nothing of it has an effect until then, and
//! nothing of an honest peer is lost: gossipsub offers a message once only. For the same reason, what the
//! peer only relays counts at once: its author signed it, and a peer that never finishes its handshake must
//! not be able to suppress it.

use std::collections::{BTreeMap, VecDeque};

use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::limits::MAX_FRAME_BYTES;
use p2p_node_wire::envelope::{FrameClaim, Refused, Response};
use p2p_node_wire::record::SignedRecord;

use crate::budget::{Budget, Limit};
use crate::cx::Cx;
use crate::effect::{NetworkCommand, Verdict};
use crate::input::Input;
use crate::peers::Peers;
use crate::shared_budget::SharedBudget;
use crate::topics::ANNOUNCEMENTS;

/// Code of the refusal of mail from a peer that is not admitted. The sender tries again after its
/// admission.
pub(crate) const NOT_ADMITTED: &str = "NOT_ADMITTED";

/// Largest number of inputs that the node holds, and their bytes. Our choice: half of the mail requests
/// and gossip messages that the swarm keeps without an answer, so that the rest is for admitted peers.
pub(crate) const HELD: Limit = Limit { count: 512, bytes: 16 << 20 };
/// The same for one peer. Our choice: two of the largest frames of mail, and the mail of some round
/// trips.
pub(crate) const HELD_OF_PEER: Limit = Limit { count: 64, bytes: 2 * MAX_FRAME_BYTES };

/// The held inputs, by peer. Peers share the room, so that those that never finish leave some for others.
#[derive(Debug, Default)]
pub(super) struct Holding {
    by_peer: BTreeMap<PeerId, VecDeque<Input>>,
    budget: SharedBudget,
}

impl Holding {
    pub(super) fn total(&self) -> Budget {
        self.budget.all()
    }

    pub(super) fn peers(&self) -> usize {
        self.by_peer.len()
    }

    /// Holds an input. Returns the input as error if there is no room.
    fn push(&mut self, peer: PeerId, input: Input, bytes: usize) -> Result<(), Box<Input>> {
        let has_room = self.budget.fits(&peer, bytes, HELD);
        if !has_room || !self.budget.of(&peer).fits(bytes, HELD_OF_PEER) {
            return Err(Box::new(input));
        }
        self.budget.add(peer, bytes);
        self.by_peer.entry(peer).or_default().push_back(input);
        Ok(())
    }

    /// Removes and returns the inputs of a peer, oldest first.
    pub(super) fn take(&mut self, peer: &PeerId) -> VecDeque<Input> {
        self.budget.remove_all(peer);
        self.by_peer.remove(peer).unwrap_or_default()
    }
}

/// Returns the peer and the bytes of an input that has no effect before admission. The answers to
/// questions of this node are not among them: it asks only peers that it has admitted, and what
/// Kademlia finds by itself the directory checks like every record.
fn before_admission(input: &Input) -> Option<(PeerId, usize)> {
    match input {
        Input::MailRequestReceived { peer, frame, .. } => Some((*peer, frame.len())),
        Input::Gossip { from, data, .. } => Some((*from, data.len())),
        Input::FindRequestReceived { peer, body, .. } => Some((*peer, body.len())),
        Input::RecordOffered { peer, key, value } => Some((*peer, key.len() + value.len())),
        _ => None,
    }
}

/// Returns `true` for gossip that the peer relays for another node.
fn is_relayed(input: &Input) -> bool {
    let Input::Gossip { from, topic, data, .. } = input else { return false };
    if topic == ANNOUNCEMENTS {
        return SignedRecord::decode(data.clone()).is_ok_and(|signed| signed.peer_id() != *from);
    }
    FrameClaim::read(data).is_some_and(|claim| claim.peer_id != *from)
}

impl Peers {
    /// Returns an input that may have its effect now. Holds the others until the node admits their peer,
    /// or refuses them.
    pub(crate) fn hold_until_admitted(&mut self, input: Input, cx: &mut Cx) -> Option<Input> {
        let Some((peer, bytes)) = before_admission(&input) else { return Some(input) };
        if self.is_admitted(&peer) || is_relayed(&input) {
            return Some(input);
        }
        if matches!(input, Input::MailRequestReceived { .. }) {
            self.admissions.hasten(&peer, cx.now.mono);
        }
        let held = match self.admissions.is_pending(&peer) {
            true => self.admissions.holding.push(peer, input, bytes),
            false => Err(Box::new(input)),
        };
        match held {
            Ok(()) => cx.stats.count(Counter::DataHeldForAdmission),
            Err(input) => refuse(*input, cx),
        }
        None
    }

    /// Refuses what the node holds of a peer.
    pub(super) fn refuse_held(&mut self, peer: &PeerId, cx: &mut Cx) {
        self.admissions.holding.take(peer).into_iter().for_each(|input| refuse(input, cx));
    }
}

/// Refuses an input of a peer that is not admitted.
fn refuse(input: Input, cx: &mut Cx) {
    cx.stats.count(Counter::DataNotAdmitted);
    match input {
        Input::MailRequestReceived { token, .. } => {
            let (code, reason) = (NOT_ADMITTED.to_owned(), "the handshake has not ended".to_owned());
            cx.answer_mail(token, Response::Refused(Refused { code, reason, time_ms: 0 }));
        }
        Input::Gossip { token, .. } => {
            cx.network(NetworkCommand::ReportValidation { token, verdict: Verdict::Ignore });
        }
        Input::FindRequestReceived { token, .. } => {
            cx.network(NetworkCommand::AnswerFind { token, body: bytes::Bytes::new() });
        }
        _ => {}
    }
}
