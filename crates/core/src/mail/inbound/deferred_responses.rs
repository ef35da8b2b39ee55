//! Responses to frames of mail that must wait: for earlier messages that are missing, for the disk,
//! or for a parent that reads more slowly than messages arrive. A sender without a response fills
//! its window and waits too.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;

use crate::input::Token;
use crate::mail::inbound::inbox::Inbox;

/// Limit of deferred responses. Our choice: a quarter of the mail requests that may be open, so
/// that deferred responses cannot use them up.
pub const MAX_DEFERRED_RESPONSES: usize = 256;

/// Limit of deferred responses to one sender. Our choice: a quarter, so that three senders leave
/// room for others. The node answers a sender above the limit before the disk has all messages.
pub const SENDER_DEFERRED_RESPONSES: usize = MAX_DEFERRED_RESPONSES / 4;

/// A deferred response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeferredResponse {
    /// The token of the request.
    pub token: Token,
    /// The sender of the frame.
    pub sender: Address,
    /// The streams in the frame.
    pub streams: BTreeSet<StreamId>,
    /// The last number of each stream that the response waits for: an earlier message is missing,
    /// or the disk does not have the message yet.
    pub gaps: Vec<(StreamId, u64)>,
    /// Until when the response waits for earlier messages. `None` if none is
    /// missing.
    pub gap_deadline: Option<Instant>,
    /// When the node responds even if something is still missing.
    pub deadline: Instant,
}

impl DeferredResponse {
    /// Returns `true` if earlier messages are missing.
    fn has_gap(&self, inbox: &Inbox) -> bool {
        self.gaps.iter().any(|(stream, last)| *last >= inbox.next_seq(&self.sender, stream))
    }
}

/// All deferred responses.
#[derive(Debug, Default)]
pub struct DeferredResponses {
    answers: Vec<DeferredResponse>,
}

impl DeferredResponses {
    /// Defers a response. Returns it if there is no room.
    pub fn insert(&mut self, answer: DeferredResponse) -> Option<DeferredResponse> {
        let of_sender = self.answers.iter().filter(|buffered| buffered.sender == answer.sender).count();
        if self.answers.len() >= MAX_DEFERRED_RESPONSES || of_sender >= SENDER_DEFERRED_RESPONSES {
            return Some(answer);
        }
        self.answers.push(answer);
        None
    }

    /// Removes and returns the responses whose time is over and, if the parent reads fast enough
    /// (`keeps_up`), those without gaps.
    pub fn due(&mut self, inbox: &Inbox, is_draining: bool, now: Instant) -> Vec<DeferredResponse> {
        let received_through = |answer: &DeferredResponse| {
            answer.gaps.iter().all(|(stream, last)| *last < inbox.received_up_to(&answer.sender, stream))
        };
        for answer in &mut self.answers {
            // The earlier messages have arrived. What is left may take longer.
            if answer.gap_deadline.is_some() && !answer.has_gap(inbox) {
                answer.gap_deadline = None;
            }
        }
        let is_due = |answer: &DeferredResponse| {
            answer.gap_deadline.unwrap_or(answer.deadline) <= now || is_draining && received_through(answer)
        };
        if !self.answers.iter().any(is_due) {
            return Vec::new();
        }
        let (due, waiting) = std::mem::take(&mut self.answers).into_iter().partition(is_due);
        self.answers = waiting;
        due
    }

    /// Returns the number of deferred responses.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Returns `true` if there is no deferred response.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Returns `true` if a response to this sender is deferred.
    pub fn has_sender(&self, sender: &Address) -> bool {
        self.answers.iter().any(|answer| answer.sender == *sender)
    }

    /// Returns when the first deferred response is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.answers.iter().map(|answer| answer.gap_deadline.unwrap_or(answer.deadline)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::inbound::inbox::AckPolicy;
    use bytes::Bytes;
    use p2p_node_wire::envelope::Message;

    fn answer(token: Token, gaps: Vec<(StreamId, u64)>, seconds: u64) -> DeferredResponse {
        let streams = BTreeSet::from([StreamId([7; 16])]);
        DeferredResponse {
            token,
            sender: Address::repeat_byte(1),
            streams,
            gaps,
            gap_deadline: None,
            deadline: Instant::from_secs(seconds),
        }
    }

    #[test]
    fn deferred_response_leaves_when_messages_arrive_or_at_its_deadline() {
        let mut inbox = Inbox::default();
        let mut answers = DeferredResponses::default();
        assert_eq!(answers.insert(answer(1, vec![(StreamId([7; 16]), 2)], 5)), None);
        assert_eq!(answers.insert(answer(2, vec![(StreamId([7; 16]), 9)], 7)), None);
        assert_eq!(answers.due(&inbox, true, Instant::ZERO), []);
        assert_eq!(answers.next_deadline(), Some(Instant::from_secs(5)));
        let message = Message { stream: Bytes::from(vec![7; 16]), seq: 2, ..Message::default() };
        inbox.insert(Address::repeat_byte(1), message, Instant::ZERO, &mut Vec::new());
        let tokens = |due: Vec<DeferredResponse>| due.iter().map(|answer| answer.token).collect::<Vec<_>>();
        assert!(answers.due(&inbox, false, Instant::ZERO).is_empty(), "the parent reads too slowly");
        assert_eq!(tokens(answers.due(&inbox, true, Instant::ZERO)), [1]);
        assert_eq!(tokens(answers.due(&inbox, false, Instant::from_secs(7))), [2]);
        assert_eq!(answers.next_deadline(), None);
    }

    #[test]
    fn early_frame_defers_its_response_until_the_gap_closes() {
        let mut inbox = Inbox::new(AckPolicy::OnPersisted);
        let mut answers = DeferredResponses::default();
        let gap_deadline = Some(Instant::from_millis(100));
        for token in [1, 2] {
            answers.insert(DeferredResponse {
                gap_deadline,
                ..answer(token, vec![(StreamId([token as u8; 16]), 2)], 5)
            });
        }
        let insert = |inbox: &mut Inbox, stream: u8, seq, base_seq| {
            let message =
                Message { stream: Bytes::from(vec![stream; 16]), seq, base_seq, ..Message::default() };
            inbox.insert(Address::repeat_byte(1), message, Instant::ZERO, &mut Vec::new());
        };
        insert(&mut inbox, 1, 2, 2);
        insert(&mut inbox, 2, 2, 2);
        insert(&mut inbox, 1, 1, 0);
        assert!(answers.due(&inbox, true, Instant::from_millis(99)).is_empty());
        assert_eq!(answers.next_deadline(), gap_deadline);
        let due = answers.due(&inbox, true, Instant::from_millis(100));
        assert_eq!(due.iter().map(|answer| answer.token).collect::<Vec<_>>(), [2], "nothing arrived for 2");
        assert_eq!(answers.next_deadline(), Some(Instant::from_secs(5)), "the disk may take longer");
    }

    #[test]
    fn deferred_responses_are_bounded() {
        let mut answers = DeferredResponses::default();
        let of =
            |sender| DeferredResponse { sender: Address::repeat_byte(sender), ..answer(1, Vec::new(), 9) };
        for sender in 0..4 {
            for _ in 0..SENDER_DEFERRED_RESPONSES {
                assert_eq!(answers.insert(of(sender)), None);
            }
            assert!(answers.insert(of(sender)).is_some(), "the sender has used its share");
        }
        assert_eq!(MAX_DEFERRED_RESPONSES, 4 * SENDER_DEFERRED_RESPONSES);
        assert!(answers.insert(of(4)).is_some(), "all room is used");
    }
}
