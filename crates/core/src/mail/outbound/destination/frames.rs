//! Frames that acks name, and frames with offers of files.

use p2p_node_wire::envelope::Ack;
use p2p_node_wire::time::Instant;

use super::Destination;
use crate::input::Token;
use crate::mail::outbound::lane::Lane;

impl Destination {
    /// Records the boot id and the counter of a gossip frame.
    pub(crate) fn record_frame(&mut self, token: Token, frame: (u64, u64)) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.token == token) {
            flight.frame = Some(frame);
        }
    }

    /// Returns the frames in flight by gossip that an ack answers.
    pub(crate) fn answered_by(&self, ack: &Ack) -> Vec<Token> {
        let is_named =
            |(boot, counter): (u64, u64)| boot == ack.boot && ack.counters.binary_search(&counter).is_ok();
        let named = self.flights.iter().filter(|flight| flight.frame.is_some_and(is_named));
        named.map(|flight| flight.token).collect()
    }

    /// Lets a message with a file wait until its recipient has the file, if this frame had one. The node offers
    /// it again at `until` if nothing happens before.
    pub(crate) fn await_file(&mut self, token: Token, until: Instant) {
        let lane = Lane::Files.index();
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.token == token) else { return };
        if let Some((first, last)) = flight.seqs[lane].take()
            && self.streams[lane].has_sent(first, last)
        {
            self.waiting += self.streams[lane].requeue_from(first);
            self.streams[lane].pause(until);
        }
    }

    /// Offers the next message with a file at once.
    pub(crate) fn resume_files(&mut self) {
        self.streams[Lane::Files.index()].resume();
    }
}
