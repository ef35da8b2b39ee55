//! Answers to frames of mail that must wait: for earlier messages that are missing, or for a parent that reads
//! more slowly than mail comes, whose senders then fill their window and wait too.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::Address;

use super::inbox::Inbox;
use crate::core::input::Token;

/// Answers that may wait. Ours: a quarter of the mail requests that may be open, so that waiting cannot use them up.
pub const MAX_HELD_ANSWERS: usize = 256;

/// An answer that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAnswer {
    /// The request.
    pub token: Token,
    /// Who mailed.
    pub sender: Address,
    /// The streams that it is about.
    pub streams: BTreeSet<[u8; 16]>,
    /// Streams that must be secured beyond these numbers: earlier messages are missing, or the disk has to know.
    pub gaps: Vec<([u8; 16], u64)>,
    /// When it is given whatever is missing, by `Now::mono`.
    pub deadline: Duration,
}

/// Every answer that waits.
#[derive(Debug, Default)]
pub struct HeldAnswers {
    answers: Vec<HeldAnswer>,
}

impl HeldAnswers {
    /// Lets an answer wait; gives it back when there is no room.
    pub fn hold(&mut self, answer: HeldAnswer) -> Option<HeldAnswer> {
        if self.answers.len() >= MAX_HELD_ANSWERS {
            return Some(answer);
        }
        self.answers.push(answer);
        None
    }

    /// Takes out those whose time is over and, if the parent keeps up, those without gaps.
    pub fn due(&mut self, inbox: &Inbox, keeps_up: bool, now: Duration) -> Vec<HeldAnswer> {
        let secured = |answer: &HeldAnswer| {
            answer.gaps.iter().all(|(stream, last)| *last < inbox.secured(&answer.sender, stream))
        };
        let is_due = |answer: &HeldAnswer| answer.deadline <= now || keeps_up && secured(answer);
        if !self.answers.iter().any(is_due) {
            return Vec::new();
        }
        let (due, waiting) = std::mem::take(&mut self.answers).into_iter().partition(is_due);
        self.answers = waiting;
        due
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// When the first of them has waited long enough.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.answers.iter().map(|answer| answer.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::envelope::Message;
    use bytes::Bytes;

    fn answer(token: Token, gaps: Vec<([u8; 16], u64)>, seconds: u64) -> HeldAnswer {
        let streams = BTreeSet::from([[7; 16]]);
        HeldAnswer {
            token,
            sender: Address::repeat_byte(1),
            streams,
            gaps,
            deadline: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn an_answer_waits_for_its_messages_or_its_time() {
        let mut inbox = Inbox::default();
        let mut answers = HeldAnswers::default();
        assert_eq!(answers.hold(answer(1, vec![([7; 16], 2)], 5)), None);
        assert_eq!(answers.hold(answer(2, vec![([7; 16], 9)], 7)), None);
        assert_eq!(answers.due(&inbox, true, Duration::ZERO), []);
        assert_eq!(answers.next_deadline(), Some(Duration::from_secs(5)));
        let message = Message { stream: Bytes::from(vec![7; 16]), seq: 2, ..Message::default() };
        inbox.offer(Address::repeat_byte(1), message, Duration::ZERO, &mut Vec::new());
        let tokens = |due: Vec<HeldAnswer>| due.iter().map(|answer| answer.token).collect::<Vec<_>>();
        assert!(answers.due(&inbox, false, Duration::ZERO).is_empty(), "the parent does not keep up");
        assert_eq!(tokens(answers.due(&inbox, true, Duration::ZERO)), [1]);
        assert_eq!(tokens(answers.due(&inbox, false, Duration::from_secs(7))), [2]);
        assert_eq!(answers.next_deadline(), None);
    }

    #[test]
    fn answers_that_wait_are_bounded() {
        let mut answers = HeldAnswers::default();
        for token in 0..MAX_HELD_ANSWERS as u64 {
            assert_eq!(answers.hold(answer(token, Vec::new(), 9)), None);
        }
        assert!(answers.hold(answer(0, Vec::new(), 9)).is_some());
    }
}
