//! How messages leave the outbox without an ack: they expire, or the node removes them. Also which node
//! may respond to a frame.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::time::Instant;

use crate::backoff::Jitter;
use crate::input::Token;
use crate::mail::outbound::outbox::{Completed, Outbox};
use crate::mail::outbound::stream::{QueuedMessage, Stream};
use crate::outgoing::OutgoingMessage;

impl Outbox {
    /// Fails the gossip frames whose ack is overdue. Removes and returns the expired messages.
    pub fn expire(&mut self, now: Instant, jitter: &mut Jitter) -> Vec<Completed> {
        let overdue: Vec<Token> = self
            .destinations
            .values()
            .flat_map(|destination| &destination.flights)
            .filter(|flight| flight.deadline.is_some_and(|deadline| deadline <= now))
            .map(|flight| flight.token)
            .collect();
        for token in overdue {
            self.failed(token, Duration::ZERO, now, jitter);
        }
        for destination in self.destinations.values_mut() {
            destination.probe(|at| at <= now);
        }
        let due: Vec<Address> = self
            .destinations
            .iter()
            .filter(|(_, destination)| destination.earliest_expiry <= now)
            .map(|(recipient, _)| *recipient)
            .collect();
        let mut ended = Vec::new();
        for recipient in due {
            ended
                .extend(self.remove_if(&recipient, |_, mail, _| mail.persisted && mail.draft.expires <= now));
            if let Some(destination) = self.destinations.get_mut(&recipient) {
                let earliest = destination.streams.iter().filter_map(Stream::first_expiry).min();
                destination.earliest_expiry = earliest.unwrap_or(Instant::MAX);
            }
        }
        ended
    }

    /// Returns `true` if there is a message for which `is_meant` returns `true`.
    pub(crate) fn has(&self, is_meant: impl Fn(&OutgoingMessage) -> bool) -> bool {
        let mut streams = self.destinations.values().flat_map(|destination| &destination.streams);
        streams.any(|stream| stream.has(&is_meant))
    }

    /// Removes and returns the persisted messages for which `dead` is true.
    pub fn remove_where(&mut self, should_remove: impl Fn(&QueuedMessage) -> bool) -> Vec<Completed> {
        let recipients: Vec<Address> = self.destinations.keys().copied().collect();
        let should_remove = |mail: &QueuedMessage| mail.persisted && should_remove(mail);
        recipients
            .iter()
            .flat_map(|recipient| self.remove_if(recipient, |_, mail, _| should_remove(mail)))
            .collect()
    }

    /// Records the node to which a direct frame goes.
    pub(crate) fn record_node(&mut self, token: Token, node_key: NodePublicKey) {
        let destination = self.recipient(token).and_then(|recipient| self.destinations.get_mut(&recipient));
        let mut flights = destination.into_iter().flat_map(|destination| &mut destination.flights);
        if let Some(flight) = flights.find(|flight| flight.token == token) {
            flight.node_key = Some(node_key);
        }
    }

    /// Returns the node to which a direct frame went.
    pub(crate) fn node_key_of(&self, token: Token) -> Option<NodePublicKey> {
        let destination = self.destinations.get(&self.recipient(token)?)?;
        destination.flights.iter().find(|flight| flight.token == token)?.node_key
    }

    /// Returns `true` if the last response of this recipient was that it has no room.
    pub fn is_busy(&self, recipient: &Address) -> bool {
        self.destinations.get(recipient).is_some_and(|destination| destination.busy)
    }

    /// Removes and returns all persisted messages.
    pub fn drain(&mut self) -> Vec<Completed> {
        self.remove_where(|_| true)
    }

    pub(crate) fn remove_if(
        &mut self,
        recipient: &Address,
        should_remove: impl Fn(usize, &QueuedMessage, bool) -> bool,
    ) -> Vec<Completed> {
        let Some(destination) = self.destinations.get_mut(recipient) else { return Vec::new() };
        let mut ended = Vec::new();
        for index in 0..destination.streams.len() {
            let removed =
                destination.streams[index].remove_if(|mail, in_flight| should_remove(index, mail, in_flight));
            for mail in destination.remove_completed(removed) {
                ended.push(Completed::new(&destination.streams[index], *recipient, mail, None));
            }
        }
        self.forget(recipient, &ended);
        ended
    }

    pub(crate) fn forget(&mut self, recipient: &Address, ended: &[Completed]) {
        self.queued -= ended.iter().map(|ended| ended.mail.draft.size()).collect();
        if let Some(destination) = self.destinations.get_mut(recipient)
            && destination.queued.is_empty()
        {
            destination.earliest_expiry = Instant::MAX;
        }
    }
}
