//! The kinds of messages that have their own default priority.

use crate::Priority;

/// A kind of message with its default priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageKind {
    /// The `kind` of the `send`.
    pub name: &'static str,
    /// The priority of a `send` without `priority`.
    pub priority: Priority,
}

/// Declares the kinds: their names and default priorities.
macro_rules! kinds {
    ($($name:literal => $priority:ident,)+) => {
        impl MessageKind {
            /// Every kind with its own default priority. Other kinds, and no kind, are medium.
            ///
            /// Source: the ChaosChain documents give votes, proposals and critical messages
            /// "Highest Priority", and statistics, history and non-critical messages "Low
            /// Priority". The TOS document gives the other kinds of high priority an urgency of 0.9
            /// or more, and those of low priority 0.2 or less. In these documents alliances, memes
            /// and status updates are medium.
            pub const ALL: &[MessageKind] =
                &[$(MessageKind { name: $name, priority: Priority::$priority }),+];
        }
    };
}

kinds! {
    "block_announce" => High,
    "block_proposal" => High,
    "consensus_vote" => High,
    "critical" => High,
    "vote" => High,
    "historical_data" => Low,
    "history" => Low,
    "network_statistics" => Low,
    "non_critical" => Low,
    "peer_exchange" => Low,
    "ping" => Low,
    "statistics" => Low,
}

impl MessageKind {
    /// Returns the default priority of a message: the priority of its kind.
    pub fn default_priority(kind: &str) -> Priority {
        MessageKind::ALL
            .iter()
            .find(|known| known.name == kind)
            .map_or(Priority::Medium, |known| known.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_priority_follows_kind_and_is_medium_otherwise() {
        assert_eq!(MessageKind::default_priority("vote"), Priority::High);
        assert_eq!(MessageKind::default_priority("statistics"), Priority::Low);
        for kind in ["", "Vote", "meme", "alliance_proposal", "status_update"] {
            assert_eq!(MessageKind::default_priority(kind), Priority::Medium, "{kind}");
        }
    }

    #[test]
    fn each_kind_is_listed_once() {
        let mut names: Vec<_> = MessageKind::ALL.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MessageKind::ALL.len());
    }
}
