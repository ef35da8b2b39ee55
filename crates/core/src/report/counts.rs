//! The counts of a report: messages by outcome, and the limits that took effect.

use std::collections::BTreeMap;

use p2p_node_protocol::{Counter, MessageCounts};

use crate::cx::Cx;

/// Counters of messages that were lost. Mail that a full node did not take stays with its sender, so it
/// is not lost.
const DROPS: &[Counter] = &[
    Counter::BroadcastsOverLimit,
    Counter::BroadcastsRefused,
    Counter::FlowGuarded,
    Counter::GossipDropped,
    Counter::GossipOverLimit,
    Counter::MailFailed,
    Counter::MailRejected,
    Counter::RegistryBroadcastsDropped,
];

/// Counters that grow when a limit takes effect.
const LIMITS: &[Counter] = &[
    Counter::AcksDropped,
    Counter::BroadcastsOverLimit,
    Counter::ConnectionsRefused,
    Counter::ConnectionsTrimmed,
    Counter::CryptoPoolFull,
    Counter::DhtRecordsDropped,
    Counter::DialsDropped,
    Counter::FlowGuarded,
    Counter::FramesOverLimit,
    Counter::GossipDropped,
    Counter::GossipOverLimit,
    Counter::GossipQueuesFull,
    Counter::HandshakesEvicted,
    Counter::KeyExchangesOverLimit,
    Counter::MailBusy,
    Counter::MailDeferred,
    Counter::MailEvicted,
    Counter::MailFramesDropped,
    Counter::MailFramesOverLimit,
    Counter::MailNotBuffered,
    Counter::MailOverLimit,
    Counter::MessagesDemoted,
    Counter::NamesRefused,
    Counter::RecordsOverLimit,
    Counter::SendsDeferred,
    Counter::SendsPaced,
    Counter::SendsRefused,
    Counter::SendsRefusedAfterPause,
    Counter::ServersNotRouted,
    Counter::TopicsOverLimit,
];

/// Returns the messages by outcome.
pub(crate) fn messages(cx: &Cx) -> MessageCounts {
    let sum = |counters: &[Counter]| counters.iter().map(|counter| cx.stats.get(*counter)).sum::<u64>();
    let unread = cx.replies.clients.total_dropped();
    MessageCounts {
        sent: sum(&[Counter::MailAccepted, Counter::BroadcastsAccepted]),
        received: sum(&[Counter::MailReceived, Counter::BroadcastsReceived]),
        delivered: cx.stats.get(Counter::MailDelivered),
        expired: cx.stats.get(Counter::MailExpired),
        dropped: sum(DROPS) + unread.broadcasts + unread.mail + unread.oversized,
        duplicate: cx.stats.get(Counter::MailDuplicates),
        by_priority: cx.stats.traffic.by_priority(),
    }
}

/// Returns the share of the messages that were dropped, from 0 to 1: 0 without messages.
pub(crate) fn drop_rate(messages: &MessageCounts) -> f64 {
    let all = messages.sent + messages.received;
    if all == 0 { 0.0 } else { (messages.dropped as f64 / all as f64).min(1.0) }
}

/// Returns the counters of limits that are not zero.
pub(crate) fn limits_hit(cx: &Cx) -> BTreeMap<String, u64> {
    let counts = LIMITS.iter().map(|counter| (counter.as_str().to_owned(), cx.stats.get(*counter)));
    counts.filter(|(_, count)| *count > 0).collect()
}
