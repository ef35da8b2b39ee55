//! Acks that no response carries: for messages that came by gossip, and for messages that the
//! parent acked after the response had left. The node sends them over a connection if there is one,
//! else by gossip.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::limits::{MAX_ACK_BEYOND, MAX_ACK_OUTCOMES, MAX_ACK_STREAMS};
use p2p_node_wire::envelope::{Ack, Batch, Payload, Rejection, Scope, StreamAck, WIRE_VERSION};
use p2p_node_wire::identity::{NodePublicKey, peer_id_of};
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;
use prost::Message as _;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gossip::Gossip;
use crate::input::Token;
use crate::mail::Mail;
use crate::peers::Peers;
use crate::signal::Signal;

/// Limit of the senders with a pending ack. Our choice: a sender without room repeats its messages
/// and receives its ack then.
pub(crate) const MAX_ACKS_OWED: usize = 256;

/// Limit of the acks in flight over connections. Our choice: the same number.
pub(crate) const MAX_ACKS_ON_WIRE: usize = MAX_ACKS_OWED;

/// An ack that the node has to send.
#[derive(Debug)]
struct PendingAck {
    node_key: NodePublicKey,
    streams: BTreeSet<StreamId>,
    /// `true` if the ack failed once. The node tries twice; after that the sender repeats its
    /// messages.
    again: bool,
}

/// What happened to an ack in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckOutcome {
    Arrived,
    GoesAgain,
    /// The sender of the messages will repeat them.
    Dropped,
}

/// The pending acks, and those in flight over connections: at most one to each sender.
#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    pending: BTreeMap<Address, PendingAck>,
    in_flight: BTreeMap<Token, (Address, PendingAck)>,
    /// When the acks that wait for the pace of gossip may go.
    paced_until: Option<Instant>,
}

impl PendingAcks {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns when the acks that wait for the pace of gossip may go.
    pub(crate) fn paced_until(&self) -> Option<Instant> {
        self.paced_until
    }

    /// Returns `true` if no ack is pending or in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Queues an ack of streams for the node of a sender. Returns `false` if there is no room.
    fn queue(&mut self, account: &Address, node_key: NodePublicKey, streams: BTreeSet<StreamId>) -> bool {
        if self.pending.len() >= MAX_ACKS_OWED && !self.pending.contains_key(account) {
            return false;
        }
        let none = || PendingAck { node_key, streams: BTreeSet::new(), again: false };
        let pending = self.pending.entry(*account).or_insert_with(none);
        pending.node_key = node_key;
        // An ack names at most so many streams. The sender repeats the messages of the others.
        let room = MAX_ACK_STREAMS.saturating_sub(pending.streams.len());
        pending.streams.extend(streams.into_iter().take(room));
        true
    }

    /// Removes and returns the acks that may be sent now.
    fn due(&mut self) -> Vec<(Address, PendingAck)> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let busy: BTreeSet<&Address> = self.in_flight.values().map(|(account, _)| account).collect();
        let room = MAX_ACKS_ON_WIRE - busy.len();
        self.pending.extract_if(.., |account, _| !busy.contains(account)).take(room).collect()
    }

    /// Handles the outcome of an ack in flight. Returns `None` if `token` does not belong to an
    /// ack.
    pub(crate) fn answered(&mut self, token: Token, has_arrived: bool) -> Option<AckOutcome> {
        let (account, pending) = self.in_flight.remove(&token)?;
        if has_arrived {
            return Some(AckOutcome::Arrived);
        }
        // A newer ack goes to another node of the sender, so this one is obsolete.
        let is_over = self.pending.get(&account).is_some_and(|newer| newer.node_key != pending.node_key);
        if pending.again || is_over || !self.queue(&account, pending.node_key, pending.streams) {
            return Some(AckOutcome::Dropped);
        }
        self.pending.entry(account).and_modify(|pending| pending.again = true);
        Some(AckOutcome::GoesAgain)
    }
}

impl Mail {
    /// Queues an ack of streams, sent at the end of the turn: to `node_key`, else to the node that
    /// sent the messages, else to the current node of the sender.
    pub(crate) fn queue_ack(
        &mut self,
        account: &Address,
        node_key: Option<NodePublicKey>,
        streams: BTreeSet<StreamId>,
        cx: &mut Cx,
    ) {
        let heard = || self.inbox.node_key_of(account);
        let Some(node_key) = node_key.or_else(heard) else {
            let streams = streams.into_iter().collect();
            return cx.signal(Signal::AcksFor { account: *account, streams });
        };
        if !self.pending_acks.queue(account, node_key, streams) {
            cx.stats.count(Counter::AcksDropped);
        }
    }

    /// Queues acks for a sender whose current node only its record names.
    pub(crate) fn queue_acks_by_record(
        &mut self,
        account: Address,
        streams: Vec<StreamId>,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        match directory.current_node_key(&account, cx) {
            Some(node_key) => self.queue_ack(&account, Some(node_key), streams.into_iter().collect(), cx),
            None => cx.stats.count(Counter::AcksDropped),
        }
    }

    pub(crate) fn send_pending_acks(&mut self, peers: &Peers, gossip: &mut Gossip, cx: &mut Cx) {
        let now = cx.now;
        let mut paced = Vec::new();
        for (account, pending) in self.pending_acks.due() {
            let connected = peer_id_of(&pending.node_key).filter(|peer| peers.is_admitted(peer));
            if connected.is_none() && now.mono < gossip.acks_ready_at() {
                paced.push((account, pending));
                continue;
            }
            let ack = self.ack(&account, &pending.streams, cx);
            let batch = Batch { messages: Vec::new(), acks: vec![ack] };
            let payload = Payload::Plain(batch);
            let token = cx.token();
            match connected {
                Some(peer) => {
                    let frame = cx.direct_frame(&pending.node_key, payload);
                    self.pending_acks.in_flight.insert(token, (account, pending));
                    cx.network(NetworkCommand::SendMail { token, peer, frame });
                }
                None => {
                    let scope = Scope::NodeKey(Bytes::copy_from_slice(&pending.node_key));
                    let data = cx.signed_frame(scope, payload);
                    gossip.record_own_frame(data.len(), None, now.mono);
                    let topic = crate::MESSAGES.to_owned();
                    cx.network(NetworkCommand::Publish { token, topic, data });
                }
            }
        }
        self.pending_acks.paced_until = (!paced.is_empty()).then(|| gossip.acks_ready_at());
        self.pending_acks.pending.extend(paced);
    }

    /// Returns the encoded ack of everything that the node has acknowledged in these streams.
    pub(crate) fn ack(&self, account: &Address, streams: &BTreeSet<StreamId>, cx: &Cx) -> Bytes {
        let now = cx.now;
        let (mut room, mut room_beyond) = (MAX_ACK_OUTCOMES, MAX_ACK_BEYOND);
        let mut of_stream = |stream: &StreamId| {
            let rejections: Vec<Rejection> =
                self.inbox.refusals(account, stream).take(room).cloned().collect();
            room -= rejections.len();
            let (cumulative, selective) = self.inbox.acked_up_to(account, stream);
            let selective: Vec<u64> =
                selective.iter().take(room_beyond).map(|seq| seq - cumulative).collect();
            room_beyond -= selective.len();
            let received = self.inbox.received_up_to(account, stream);
            let credit = || self.delivery.unacked.credit(account).min(self.inbox.window(account, stream));
            let window = if self.manual_ack() { 1 + credit() as u64 } else { 0 };
            StreamAck {
                stream: Bytes::copy_from_slice(stream),
                cumulative,
                selective,
                rejections,
                received,
                window,
            }
        };
        let (boot, counters) = self.inbox.heard_of(account);
        let ack = Ack {
            version: WIRE_VERSION,
            network: cx.identity.network.clone(),
            account: Bytes::copy_from_slice(account.as_slice()),
            streams: streams.iter().map(&mut of_stream).collect(),
            created_at_ms: now.unix_ms,
            boot,
            counters,
        };
        ack.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(number: usize) -> Address {
        Address::left_padding_from(&number.to_be_bytes())
    }

    fn queue(acks: &mut PendingAcks, number: usize, streams: impl IntoIterator<Item = u8>) -> bool {
        acks.queue(
            &account(number),
            NodePublicKey([1; 32]),
            streams.into_iter().map(|stream| StreamId([stream; 16])).collect(),
        )
    }

    /// Moves all due acks into flight and returns their number.
    fn send(acks: &mut PendingAcks, first_token: Token) -> usize {
        let due = acks.due();
        let number = due.len();
        acks.in_flight.extend((first_token..).zip(due));
        number
    }

    #[test]
    fn pending_and_in_flight_acks_are_bounded() {
        let mut acks = PendingAcks::default();
        for number in 0..MAX_ACKS_OWED {
            assert!(queue(&mut acks, number, [1]));
        }
        assert!(!queue(&mut acks, MAX_ACKS_OWED, [1]));
        assert!(queue(&mut acks, 0, [2]), "the sender has a pending ack already");
        assert_eq!(send(&mut acks, 1), MAX_ACKS_ON_WIRE);
        for number in 0..MAX_ACKS_OWED {
            assert!(queue(&mut acks, MAX_ACKS_OWED + number, [1]));
        }
        assert_eq!(send(&mut acks, 1000), 0, "the limit of acks in flight is reached");
        assert_eq!((acks.answered(1, true), acks.answered(1, true)), (Some(AckOutcome::Arrived), None));
        assert_eq!(send(&mut acks, 2000), 1);
    }

    #[test]
    fn one_ack_per_sender_is_in_flight_and_the_next_covers_all_since() {
        let mut acks = PendingAcks::default();
        queue(&mut acks, 1, [1]);
        assert_eq!(send(&mut acks, 1), 1);
        queue(&mut acks, 1, [1]);
        queue(&mut acks, 1, 2..=u8::MAX);
        assert!(acks.due().is_empty() && !acks.is_idle());
        acks.answered(1, true);
        let due = acks.due();
        assert_eq!(
            due.iter().map(|(_, pending)| pending.streams.len()).collect::<Vec<_>>(),
            [MAX_ACK_STREAMS]
        );
        assert!(acks.is_idle());
    }

    #[test]
    fn ack_that_did_not_arrive_is_sent_once_more() {
        let mut acks = PendingAcks::default();
        queue(&mut acks, 1, [1]);
        assert_eq!(send(&mut acks, 1), 1);
        assert_eq!(acks.answered(1, false), Some(AckOutcome::GoesAgain));
        assert_eq!(send(&mut acks, 2), 1);
        assert_eq!(acks.answered(2, false), Some(AckOutcome::Dropped));
        assert!(acks.is_idle());
    }

    #[test]
    fn ack_to_a_former_node_key_does_not_replace_one_to_the_current() {
        let mut acks = PendingAcks::default();
        queue(&mut acks, 1, [1]);
        assert_eq!(send(&mut acks, 1), 1);
        acks.queue(&account(1), NodePublicKey([2; 32]), BTreeSet::from([StreamId([2; 16])]));
        assert_eq!(acks.answered(1, false), Some(AckOutcome::Dropped));
        let due = acks.due();
        assert_eq!(
            due.iter().map(|(_, pending)| pending.node_key).collect::<Vec<_>>(),
            [NodePublicKey([2; 32])]
        );
    }
}
