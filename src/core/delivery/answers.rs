//! Answers to frames of mail that must wait: their messages follow others that have not come yet.

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
    /// The last message of each of its streams.
    pub streams: Vec<([u8; 16], u64)>,
    deadline: Duration,
}

/// Every answer that waits.
#[derive(Debug, Default)]
pub struct HeldAnswers {
    answers: Vec<HeldAnswer>,
}

impl HeldAnswers {
    /// Lets an answer wait until `deadline` at the latest; whether there was room.
    pub fn hold(
        &mut self,
        token: Token,
        sender: Address,
        streams: Vec<([u8; 16], u64)>,
        deadline: Duration,
    ) -> bool {
        if self.answers.len() >= MAX_HELD_ANSWERS {
            return false;
        }
        self.answers.push(HeldAnswer { token, sender, streams, deadline });
        true
    }

    /// Takes out those whose messages have all been settled, or whose time is over.
    pub fn due(&mut self, inbox: &Inbox, now: Duration) -> Vec<HeldAnswer> {
        let settled = |answer: &HeldAnswer| {
            answer.streams.iter().all(|(stream, last)| *last < inbox.next_seq(&answer.sender, stream))
        };
        let is_due = |answer: &HeldAnswer| answer.deadline <= now || settled(answer);
        if !self.answers.iter().any(is_due) {
            return Vec::new();
        }
        let (due, waiting) = std::mem::take(&mut self.answers).into_iter().partition(is_due);
        self.answers = waiting;
        due
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

    #[test]
    fn an_answer_waits_for_its_messages_or_its_time() {
        let (sender, stream) = (Address::repeat_byte(1), [7; 16]);
        let mut inbox = Inbox::default();
        let mut answers = HeldAnswers::default();
        assert!(answers.hold(1, sender, vec![(stream, 2)], Duration::from_secs(5)));
        assert!(answers.hold(2, sender, vec![(stream, 9)], Duration::from_secs(7)));
        assert_eq!(answers.due(&inbox, Duration::ZERO), []);
        assert_eq!(answers.next_deadline(), Some(Duration::from_secs(5)));
        let message = Message { stream: Bytes::from(vec![7; 16]), seq: 2, ..Message::default() };
        inbox.offer(sender, message, Duration::ZERO, &mut Vec::new());
        let tokens = |due: Vec<HeldAnswer>| due.iter().map(|answer| answer.token).collect::<Vec<_>>();
        assert_eq!(tokens(answers.due(&inbox, Duration::ZERO)), [1]);
        assert_eq!(tokens(answers.due(&inbox, Duration::from_secs(7))), [2]);
        assert_eq!(answers.next_deadline(), None);
    }

    #[test]
    fn answers_that_wait_are_bounded() {
        let mut answers = HeldAnswers::default();
        for token in 0..MAX_HELD_ANSWERS as u64 {
            assert!(answers.hold(token, Address::ZERO, Vec::new(), Duration::MAX));
        }
        assert!(!answers.hold(0, Address::ZERO, Vec::new(), Duration::MAX));
    }
}
