//! The counters of `status`.

/// Declares the counters of `status`: their names, their variants and what they count.
macro_rules! counters {
    ($(#[doc = $doc:literal] $name:literal => $variant:ident,)*) => {
        /// What a node counts. Each drop and each refusal has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Counter {
            $(#[doc = $doc] $variant,)*
        }

        impl Counter {
            /// Every counter, in the order of their names.
            pub const ALL: &[Counter] = &[$(Counter::$variant),*];

            /// Its name in `status`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)*
                }
            }

            /// What it counts, in one line.
            pub fn doc(self) -> &'static str {
                match self {
                    $(Counter::$variant => $doc.trim_ascii(),)*
                }
            }
        }
    };
}

counters! {
    /// Acknowledgements that did not leave: there was no room, or the sender's node is unknown or gone.
    "acks_dropped" => AcksDropped,
    /// Acknowledgements of a stream that this node does not use for their signer.
    "acks_misplaced" => AcksMisplaced,
    /// Acknowledgements of a later version of the wire protocol.
    "acks_of_later_versions" => AcksOfLaterVersions,
    /// Acknowledgements that were malformed, or not signed by the recipient's current node.
    "acks_refused" => AcksRefused,
    /// Writes of a stream's checkpoint that the disk refused.
    "arrivals_not_kept" => ArrivalsNotKept,
    /// Frames whose binding is expired, not yet valid, or of another network.
    "bindings_refused" => BindingsRefused,
    /// Frames of broadcasts that the node published.
    "broadcast_frames_sent" => BroadcastFramesSent,
    /// Broadcasts that the node accepted from the parent.
    "broadcasts_accepted" => BroadcastsAccepted,
    /// Broadcasts of blocked agents or nodes that the node dropped.
    "broadcasts_blocked" => BroadcastsBlocked,
    /// Broadcasts that waited for a known subscriber to connect.
    "broadcasts_held_for_subscribers" => BroadcastsHeldForSubscribers,
    /// Broadcasts that the node queued for the parent.
    "broadcasts_received" => BroadcastsReceived,
    /// Broadcasts that the parent cannot take: too long, or not valid JSON.
    "broadcasts_refused" => BroadcastsRefused,
    /// Jumps of the wall clock by 30 s or more.
    "clock_jumps" => ClockJumps,
    /// Commands that waited for `ready`.
    "commands_held" => CommandsHeld,
    /// Checks, encryptions and decryptions that found the crypto pool full.
    "crypto_pool_full" => CryptoPoolFull,
    /// Lookups in the DHT that the node began.
    "dht_lookups" => DhtLookups,
    /// Dials that the node began.
    "dials" => Dials,
    /// Dials that failed.
    "dials_failed" => DialsFailed,
    /// Writes of the highest record seen of an agent that the store dropped because its queue was full.
    "floors_shed" => FloorsShed,
    /// Times that a copy of this process was noticed, so that the node took another boot id.
    "frame_counters_reused" => FrameCountersReused,
    /// Frames whose signature is wrong.
    "frames_forged" => FramesForged,
    /// Frames that were encrypted to a key or a session that the node no longer has.
    "frames_kem_unknown" => FramesKemUnknown,
    /// Frames that are not in canonical form or exceed a limit.
    "frames_malformed" => FramesMalformed,
    /// Frames of a session that came by gossip.
    "frames_misplaced" => FramesMisplaced,
    /// Frames of a later version of the wire protocol.
    "frames_of_later_versions" => FramesOfLaterVersions,
    /// Frames of mail that a peer sent in another node's name.
    "frames_of_others" => FramesOfOthers,
    /// Frames of this node that came back by gossip.
    "frames_of_ours" => FramesOfOurs,
    /// Frames for another network, node or topic.
    "frames_out_of_scope" => FramesOutOfScope,
    /// Frames that were seen before, or that cannot be remembered.
    "frames_replayed" => FramesReplayed,
    /// Frames of a revoked generation of node keys.
    "frames_superseded" => FramesSuperseded,
    /// Frames whose binding the agent's key did not sign.
    "frames_unbound" => FramesUnbound,
    /// Frames that did not decrypt, or that held no batch.
    "frames_unreadable" => FramesUnreadable,
    /// Frames of mail that were not encrypted.
    "frames_unsealed" => FramesUnsealed,
    /// Frames that were made more than 30 s ahead of, or 2 minutes behind, this node's clock.
    "frames_untimely" => FramesUntimely,
    /// Publications that no connected peer subscribes to.
    "gossip_no_peers" => GossipNoPeers,
    /// Publications for which the queues to peers were full.
    "gossip_queues_full" => GossipQueuesFull,
    /// Gossip that the node dropped unread because of its budget or a full queue.
    "gossip_shed" => GossipShed,
    /// Publications that are too large for gossip.
    "gossip_too_large" => GossipTooLarge,
    /// Hellos of a later version of the wire protocol.
    "hellos_of_later_versions" => HellosOfLaterVersions,
    /// Hellos that were malformed or held no record of their sender.
    "hellos_refused" => HellosRefused,
    /// Hellos that were too long, cut short or too slow to arrive.
    "hellos_unread" => HellosUnread,
    /// Lines on stdin that were no command.
    "lines_bad" => LinesBad,
    /// Messages to agents that the node accepted from the parent.
    "mail_accepted" => MailAccepted,
    /// Frames of mail that got no answer, or one that another attempt may escape.
    "mail_attempts_failed" => MailAttemptsFailed,
    /// Frames of mail that the node could not take for want of room.
    "mail_busy" => MailBusy,
    /// Frames of mail for which the recipient's node had no room.
    "mail_deferred" => MailDeferred,
    /// Accepted messages that ended as `delivered`.
    "mail_delivered" => MailDelivered,
    /// Accepted messages and broadcasts that ended as `expired`.
    "mail_expired" => MailExpired,
    /// Accepted messages and broadcasts that ended as `failed`.
    "mail_failed" => MailFailed,
    /// Frames of mail that the node sent, repetitions included.
    "mail_frames_sent" => MailFramesSent,
    /// Received messages that waited for an earlier one and were dropped for room; their senders send them again.
    "mail_held_dropped" => MailHeldDropped,
    /// Frames of mail that the recipient's node could not decrypt because it has new keys.
    "mail_kem_unknown" => MailKemUnknown,
    /// Received messages that found no room to wait for an earlier one.
    "mail_not_held" => MailNotHeld,
    /// Messages that the disk refused, so that they were not accepted.
    "mail_not_kept" => MailNotKept,
    /// Received messages whose number stands for another message.
    "mail_numbers_reused" => MailNumbersReused,
    /// Messages that the node queued for the parent.
    "mail_received" => MailReceived,
    /// Received messages that the node rejected: blocked, too long, or not valid JSON.
    "mail_refused" => MailRefused,
    /// Accepted messages that ended as `rejected`.
    "mail_rejected" => MailRejected,
    /// Accepted messages that moved to another number because the recipient knew theirs for another message.
    "mail_renamed" => MailRenamed,
    /// Moved messages whose new number the disk refused.
    "mail_renamed_not_kept" => MailRenamedNotKept,
    /// Received messages that had come before.
    "mail_repeated" => MailRepeated,
    /// Frames of mail that were encrypted to a recipient's key.
    "mail_sealed" => MailSealed,
    /// Frames of mail that the node dropped unread because too many waited for an answer.
    "mail_shed" => MailShed,
    /// Messages that the parent acknowledged by `ack`.
    "mail_taken" => MailTaken,
    /// Frames of mail that were too long, cut short or too slow to arrive.
    "mail_unread" => MailUnread,
    /// Frames of mail that a recipient refused because its clock and this one differ.
    "mail_untimely" => MailUntimely,
    /// Attempts to send mail to an agent whose record names no usable key.
    "mail_without_key" => MailWithoutKey,
    /// Messages of high priority that the node treats as medium, because their author sent too many.
    "messages_too_urgent" => MessagesTooUrgent,
    /// Connections to nodes of another network.
    "peers_of_other_networks" => PeersOfOtherNetworks,
    /// Peers that the node disconnected because they subscribed to nothing.
    "peers_without_topics" => PeersWithoutTopics,
    /// Records that became the newest of their agent.
    "records_accepted" => RecordsAccepted,
    /// Records with the order of another record of the same agent.
    "records_conflicting" => RecordsConflicting,
    /// Records whose signature is wrong.
    "records_forged" => RecordsForged,
    /// Records that are not in canonical form or exceed a limit.
    "records_malformed" => RecordsMalformed,
    /// Records under a key that is not their agent's.
    "records_misplaced" => RecordsMisplaced,
    /// Records of this node that no DHT server gave back.
    "records_not_kept" => RecordsNotKept,
    /// Records of a later version of the wire protocol.
    "records_of_later_versions" => RecordsOfLaterVersions,
    /// Records in a hello that are not those of its sender.
    "records_of_others" => RecordsOfOthers,
    /// Records of another network.
    "records_out_of_scope" => RecordsOutOfScope,
    /// Records of this agent by another process that this node went above.
    "records_outdone" => RecordsOutdone,
    /// Records that the node put into the DHT.
    "records_published" => RecordsPublished,
    /// Records whose binding or lifetime is wrong.
    "records_refused" => RecordsRefused,
    /// Verified records for which the memory of this DHT server had no room.
    "records_shed" => RecordsShed,
    /// Records that are older than the newest one seen.
    "records_stale" => RecordsStale,
    /// Records whose binding the agent's key did not sign.
    "records_unbound" => RecordsUnbound,
    /// Records that are expired, from the future, or whose binding is.
    "records_untimely" => RecordsUntimely,
    /// `send` commands that `cancel` ended before they had room.
    "sends_cancelled" => SendsCancelled,
    /// `send` commands that waited for room.
    "sends_deferred" => SendsDeferred,
    /// `send` commands that were refused for want of room.
    "sends_refused" => SendsRefused,
    /// `send` commands that were refused after they had waited as long as they may.
    "sends_refused_after_pause" => SendsRefusedAfterPause,
    /// Reports of gossipsub that a peer does not read fast enough.
    "slow_peers" => SlowPeers,
    /// Writes of `block` and `allow` that the store dropped because its queue was full.
    "standings_shed" => StandingsShed,
    /// Failures of the store to write what it remembers of agents.
    "store_failures" => StoreFailures,
    /// Subscriptions of peers to names that no topic can have.
    "topics_malformed" => TopicsMalformed,
    /// Subscribed topics for which this node's record has no room.
    "topics_not_in_record" => TopicsNotInRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_sorted_by_name_and_documented() {
        assert!(Counter::ALL.is_sorted_by(|one, other| one.as_str() < other.as_str()));
        assert!(Counter::ALL.iter().all(|counter| counter.doc().ends_with('.')));
    }
}
