//! The flow guards: they stop senders that write too much to the parent, and programs that answer each
//! other for ever. They belong to the parent, so they hold for allowed agents too.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent};
use p2p_node_wire::envelope;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::gate::Gate;
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::gate::sender::Sender;
use crate::usage::Usage;

/// Default of the largest number of hops: our choice. A dialogue of 128 questions and answers has as
/// many, and programs that answer each other at once have them within a second.
pub const DEFAULT_MAX_HOPS: u32 = 256;
/// Largest number of messages a minute that a flow guard may have: our choice, 1,000 a second.
pub const MAX_PER_MINUTE: u32 = 60_000;
/// Largest number of senders, and of conversations, that the guards track: our choice. The longest
/// conversation takes some 250 bytes.
const MAX_TRACKED: usize = 4096;
/// Largest number of replies whose hops the node remembers: our choice, 1 MiB. A forgotten reply counts
/// as the first of its exchange.
pub const MAX_REPLIES: usize = 4096;
/// How often the node tells the parent of one sender that it stopped: once a minute, our choice.
const TOLD: Quota =
    Quota { burst: 1, interval: Duration::from_secs(60), max_keys: MAX_TRACKED, at_limit: AtLimit::Forget };
/// How often the node tells the parent of all senders together: our choice. Keys cost nothing, and an
/// error is a line that the node may not drop.
const ALL_TOLD: Quota =
    Quota { burst: 16, interval: Duration::from_secs(10), max_keys: 1, at_limit: AtLimit::Forget };

/// The limits of the flow guards. 0 means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Messages of one sender in a minute.
    pub per_sender: u32,
    /// Messages of one sender in one conversation in a minute.
    pub per_conversation: u32,
    /// Hops of a message.
    pub hops: u32,
}

impl Default for FlowLimits {
    fn default() -> Self {
        FlowLimits { per_sender: 0, per_conversation: 0, hops: DEFAULT_MAX_HOPS }
    }
}

/// The state of the flow guards.
#[derive(Debug)]
pub(crate) struct FlowGuards {
    max_hops: u32,
    senders: Option<RateLimiter<Address>>,
    conversations: Option<RateLimiter<(Address, String)>>,
    /// The hops of the latest replies that the parent got, by their ids.
    hops: LruMap<String, u32>,
    told: RateLimiter<Address>,
    all_told: RateLimiter<()>,
}

impl FlowGuards {
    pub(crate) fn new(limits: FlowLimits) -> Self {
        FlowGuards {
            max_hops: limits.hops,
            senders: per_minute(limits.per_sender).map(RateLimiter::new),
            conversations: per_minute(limits.per_conversation).map(RateLimiter::new),
            hops: LruMap::default(),
            told: RateLimiter::new(TOLD),
            all_told: RateLimiter::new(ALL_TOLD),
        }
    }

    /// Returns the hops of a message that answers `reply_to`: one more than the message that it
    /// answers, or 0 if it answers none.
    pub(crate) fn hops_of_reply(&self, reply_to: &str) -> u32 {
        match reply_to {
            "" => 0,
            id => self.hops.get(&id.to_owned()).map_or(1, |hops| hops.saturating_add(1)),
        }
    }

    /// Remembers the hops of a message that the parent gets.
    pub(crate) fn remember(&mut self, message_id: &str, hops: u32) {
        if hops > 0 {
            self.hops.insert(message_id.to_owned(), hops);
            self.hops.shrink_to(MAX_REPLIES);
        }
    }

    /// Returns `true` if a message with these hops is one too many.
    pub(crate) fn is_above(&self, hops: u32) -> bool {
        self.max_hops > 0 && hops > self.max_hops
    }

    /// Counts a message of a sender to the parent, or returns the code of its rejection.
    fn admit(&mut self, sender: Address, message: &envelope::Message, now: Instant) -> Result<(), ErrorCode> {
        if self.is_above(message.hops) {
            return Err(ErrorCode::TooManyHops);
        }
        let conversation = (sender, message.conversation.clone());
        let in_conversation = self.conversations.as_mut().filter(|_| !message.conversation.is_empty());
        let is_full =
            in_conversation.as_ref().is_some_and(|limiter| !limiter.would_admit(&conversation, now));
        if is_full || self.senders.as_mut().is_some_and(|limiter| !limiter.admit(sender, now)) {
            return Err(ErrorCode::FlowLimit);
        }
        if let Some(limiter) = in_conversation {
            limiter.charge(conversation, 1, now);
        }
        Ok(())
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> [Usage; 4] {
        [
            ("replies with hops", self.hops.len(), MAX_REPLIES),
            ("guarded senders", self.senders.as_ref().map_or(0, RateLimiter::len), MAX_TRACKED),
            ("guarded conversations", self.conversations.as_ref().map_or(0, RateLimiter::len), MAX_TRACKED),
            ("senders told of", self.told.len(), MAX_TRACKED),
        ]
        .map(|(name, size, limit)| Usage { name, size, limit })
    }
}

fn per_minute(number: u32) -> Option<Quota> {
    let interval = Duration::from_secs(60).checked_div(number)?;
    Some(Quota { burst: number, interval, max_keys: MAX_TRACKED, at_limit: AtLimit::Forget })
}

impl Gate {
    /// Passes a message to the flow guards. If they stop it, tells the parent once and returns the code
    /// of the rejection.
    pub(crate) fn guard_flow(
        &mut self,
        sender: &Sender,
        message: &envelope::Message,
        cx: &mut Cx,
    ) -> Result<(), ErrorCode> {
        let now = cx.now.mono;
        let outcome = self.flow.admit(sender.address, message, now);
        if let Err(code) = outcome {
            cx.stats.count(Counter::FlowGuarded);
            if self.flow.told.would_admit(&sender.address, now) && self.flow.all_told.admit((), now) {
                self.flow.told.charge(sender.address, 1, now);
                cx.emit_error(report(code, &sender.address_text, message));
            }
        }
        outcome
    }
}

fn report(code: ErrorCode, sender: &str, message: &envelope::Message) -> ErrorEvent {
    let text = match code {
        ErrorCode::TooManyHops => format!(
            "the node rejects replies of {sender}: they are part of an exchange of {} replies, and --max-hops \
             permits fewer; the two programs may answer each other for ever",
            message.hops
        ),
        _ => format!(
            "the node rejects messages of {sender}: the sender writes more than --max-per-minute or \
             --max-per-minute-of-conversation permits"
        ),
    };
    let mut error = ErrorEvent::new(code, text);
    error.details = Some(match message.conversation.as_str() {
        "" => serde_json::json!({ "from": sender }),
        conversation => serde_json::json!({ "from": sender, "conversationId": conversation }),
    });
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Address = Address::repeat_byte(1);
    const BOB: Address = Address::repeat_byte(2);
    const NOW: Instant = Instant::from_secs(100);

    fn message(conversation: &str, hops: u32) -> envelope::Message {
        envelope::Message { conversation: conversation.to_owned(), hops, ..envelope::Message::default() }
    }

    fn admitted(guards: &mut FlowGuards, sender: Address, conversation: &str, now: Instant) -> usize {
        (0..100).filter(|_| guards.admit(sender, &message(conversation, 0), now).is_ok()).count()
    }

    #[test]
    fn guards_limit_senders_and_their_conversations_by_the_minute() {
        let limits = FlowLimits { per_sender: 30, per_conversation: 10, hops: 0 };
        let mut guards = FlowGuards::new(limits);
        assert_eq!(admitted(&mut guards, ANN, "a", NOW), 10);
        assert_eq!(admitted(&mut guards, BOB, "a", NOW), 10, "a conversation is limited for each sender");
        assert_eq!((admitted(&mut guards, ANN, "b", NOW), admitted(&mut guards, ANN, "", NOW)), (10, 10));
        assert_eq!(admitted(&mut guards, ANN, "c", NOW), 0);
        assert_eq!(admitted(&mut guards, ANN, "", NOW + Duration::from_secs(2)), 1);
        assert_eq!(admitted(&mut guards, ANN, "a", NOW + Duration::from_secs(62)), 10);
        assert!(guards.usage().iter().all(|usage| usage.size <= usage.limit));
        let mut none = FlowGuards::new(FlowLimits { per_sender: 0, per_conversation: 0, hops: 0 });
        assert_eq!(admitted(&mut none, ANN, "a", NOW), 100);
        assert!(none.admit(ANN, &message("", u32::MAX), NOW).is_ok());
    }

    #[test]
    fn tracked_senders_and_conversations_are_bounded_and_newcomers_find_room() {
        let mut guards = FlowGuards::new(FlowLimits { per_sender: 30, per_conversation: 10, hops: 0 });
        for number in 0..MAX_TRACKED as u64 + 100 {
            let sender = Address::left_padding_from(&number.to_be_bytes());
            assert!(guards.admit(sender, &message("a", 0), NOW).is_ok(), "newcomer {number}");
        }
        let sizes = guards.usage().map(|usage| (usage.size, usage.limit));
        assert!(sizes.iter().all(|(size, limit)| size <= limit), "{sizes:?}");
        assert!(sizes[1].0 > 0 && sizes[2].0 > 0, "{sizes:?}");
    }

    #[test]
    fn hops_grow_with_each_reply_up_to_the_limit() {
        let mut guards = FlowGuards::new(FlowLimits { hops: 3, ..FlowLimits::default() });
        assert_eq!((guards.hops_of_reply(""), guards.hops_of_reply("m-1")), (0, 1));
        guards.remember("m-2", 2);
        assert_eq!(guards.hops_of_reply("m-2"), 3);
        assert_eq!(guards.admit(ANN, &message("", 3), NOW), Ok(()));
        assert_eq!(guards.admit(ANN, &message("", 4), NOW), Err(ErrorCode::TooManyHops));
        guards.remember("m-3", u32::MAX);
        assert_eq!(guards.hops_of_reply("m-3"), u32::MAX);
    }

    #[test]
    fn oldest_replies_are_forgotten_at_the_limit() {
        let mut guards = FlowGuards::new(FlowLimits::default());
        for number in 0..=MAX_REPLIES {
            guards.remember(&format!("m-{number}"), 5);
            guards.remember("no reply", 0);
        }
        assert_eq!(guards.usage()[0].size, MAX_REPLIES);
        assert_eq!((guards.hops_of_reply("m-0"), guards.hops_of_reply("m-1")), (1, 6));
    }
}
