//! The counters of `status`.

mod declare;

use declare::counters;

counters! {
    /// Connections to the A2A gateway that the node refused, or ended without a request, because there were too many.
    "a2a_connections_refused" => A2aConnectionsRefused,
    /// Requests that the A2A gateway refused: of programs without the token or from a page in a browser, and of agents when too many ran.
    "a2a_requests_refused" => A2aRequestsRefused,
    /// Writes of `block`, `allow` and `unblock` that failed. The rule holds until the process ends.
    "access_rule_writes_dropped" => AccessRuleWritesDropped,
    /// Acks that the node did not send, because there was no room or the sender's node is unknown or gone.
    "acks_dropped" => AcksDropped,
    /// Acks of a stream that this node does not use for the agent that sent the ack.
    "acks_misplaced" => AcksMisplaced,
    /// Acks of a later version of the wire protocol.
    "acks_of_later_versions" => AcksOfLaterVersions,
    /// Acks that were malformed, for another agent, or not of the recipient's current node.
    "acks_refused" => AcksRefused,
    /// Steps of admission that were too long, truncated or too slow to arrive.
    "admission_reads_failed" => AdmissionReadsFailed,
    /// Handshakes that a node deferred: too many at once, an agent of which the registry was not read yet, or wrong clocks.
    "admissions_deferred" => AdmissionsDeferred,
    /// Steps of admission of a later version of the wire protocol.
    "admissions_of_later_versions" => AdmissionsOfLaterVersions,
    /// Peers that the node did not admit.
    "admissions_refused" => AdmissionsRefused,
    /// Peers that did not admit this node.
    "admissions_rejected_by_peers" => AdmissionsRejectedByPeers,
    /// Peers that did not finish the handshake in time.
    "admissions_timed_out" => AdmissionsTimedOut,
    /// Writes of bans that the store dropped, because its queue was full.
    "ban_writes_dropped" => BanWritesDropped,
    /// Bans that ended, because the reputation recovered, by `allow` or `unblock`, or by the number of bans.
    "bans_lifted" => BansLifted,
    /// Frames whose binding is expired, not yet valid, or of another network.
    "bindings_refused" => BindingsRefused,
    /// Frames and records whose binding no contract wallet confirms; without RPC servers, all that may be of one.
    "bindings_unconfirmed" => BindingsUnconfirmed,
    /// Frames of broadcasts that the node published.
    "broadcast_frames_sent" => BroadcastFramesSent,
    /// Broadcasts that the node accepted from the parent.
    "broadcasts_accepted" => BroadcastsAccepted,
    /// Broadcasts of blocked agents or nodes that the node dropped.
    "broadcasts_blocked" => BroadcastsBlocked,
    /// Delays of the broadcasts of a topic, to wait for the connection of a known subscriber.
    "broadcasts_delayed_for_subscribers" => BroadcastsDelayedForSubscribers,
    /// Received broadcasts that the node dropped, because a stranger sent more than it may.
    "broadcasts_over_limit" => BroadcastsOverLimit,
    /// Broadcasts that the node queued for the parent.
    "broadcasts_received" => BroadcastsReceived,
    /// Received broadcasts that the node dropped, because they are too long for the parent or not valid JSON.
    "broadcasts_refused" => BroadcastsRefused,
    /// Checkpoints of streams that the store failed to persist.
    "checkpoints_not_persisted" => CheckpointsNotPersisted,
    /// Pauses in which the node did not read a client, because it wrote too many commands while others needed the node.
    "client_pauses" => ClientPauses,
    /// Clients that attached to the node.
    "clients_attached" => ClientsAttached,
    /// Attached clients whose connection the node closed, because they did not read the lines that the node must write.
    "clients_closed" => ClientsClosed,
    /// Clients that the node refused, because as many as it permits were attached.
    "clients_refused" => ClientsRefused,
    /// Jumps of the wall clock by 30 s or more.
    "clock_jumps" => ClockJumps,
    /// Commands that waited for `ready`.
    "commands_deferred" => CommandsDeferred,
    /// Incoming connections that the node refused, because their IP address had too many.
    "connections_refused" => ConnectionsRefused,
    /// Connections that the node refused or closed, because the peer, its agent or its IP address is banned.
    "connections_refused_banned" => ConnectionsRefusedBanned,
    /// Incoming connections that the node refused, because the operator blocked their IP address (`--block-ip`).
    "connections_refused_blocked" => ConnectionsRefusedBlocked,
    /// Connections that the node closed, because it had too many.
    "connections_trimmed" => ConnectionsTrimmed,
    /// Checks, encryptions and decryptions that the node did not run, because the crypto pool was full.
    "crypto_pool_full" => CryptoPoolFull,
    /// Frames, records and questions of peers that waited for the admission of their peer.
    "data_held_for_admission" => DataHeldForAdmission,
    /// Frames, records and questions of peers that the node refused, because it had not admitted their peer.
    "data_not_admitted" => DataNotAdmitted,
    /// Lookups in the DHT that the node started.
    "dht_lookups" => DhtLookups,
    /// Verified records that this DHT server did not store, because its memory was full.
    "dht_records_dropped" => DhtRecordsDropped,
    /// Dials that the node started.
    "dials" => Dials,
    /// Dials that were given up, because too many waited.
    "dials_dropped" => DialsDropped,
    /// Dials that failed.
    "dials_failed" => DialsFailed,
    /// Dials that waited, because of the limits of dials.
    "dials_queued" => DialsQueued,
    /// Bytes of files that this node received and verified.
    "file_bytes_received" => FileBytesReceived,
    /// Bytes of files that this node sent.
    "file_bytes_sent" => FileBytesSent,
    /// Requests for files that this node did not offer to the peer, or too many at once.
    "file_requests_refused" => FileRequestsRefused,
    /// Transfers of files that ended early: the connection, a disk, or wrong bytes.
    "file_transfers_failed" => FileTransfersFailed,
    /// Files of other agents that wait, because too many come at once or the room for files is used up.
    "files_deferred" => FilesDeferred,
    /// Received files, and parts of files, that the node deleted for new ones.
    "files_evicted" => FilesEvicted,
    /// Files of other agents that arrived whole and verified.
    "files_received" => FilesReceived,
    /// Questions of peers for agents that the node answered.
    "finds_answered" => FindsAnswered,
    /// Questions of peers for an address that the node forwarded to its own peers.
    "finds_forwarded" => FindsForwarded,
    /// Questions of peers for agents that the node refused: malformed, or too many.
    "finds_refused" => FindsRefused,
    /// Received messages that the node rejected, because a flow guard of the parent stopped them.
    "flow_guarded" => FlowGuarded,
    /// Times that the node detected a copy of its process and took another boot id.
    "frame_counters_reused" => FrameCountersReused,
    /// Frames whose binding has a wrong signature of the agent.
    "frames_binding_forged" => FramesBindingForged,
    /// Frames with a time more than 30 s ahead of this node's clock, or more than 2 minutes behind.
    "frames_clock_out_of_range" => FramesClockOutOfRange,
    /// Frames whose signature is wrong.
    "frames_forged" => FramesForged,
    /// Frames encrypted to a key or a session that this node no longer has.
    "frames_kem_unknown" => FramesKemUnknown,
    /// Frames that are not in canonical form or exceed a limit.
    "frames_malformed" => FramesMalformed,
    /// Frames of a session that arrived by gossip.
    "frames_misplaced" => FramesMisplaced,
    /// Frames that did not decrypt, or that contained no batch.
    "frames_not_decrypted" => FramesNotDecrypted,
    /// Frames of mail that were not encrypted.
    "frames_not_encrypted" => FramesNotEncrypted,
    /// Gossip frames that the node did not forward, because it bans their author.
    "frames_of_banned" => FramesOfBanned,
    /// Frames of a later version of the wire protocol.
    "frames_of_later_versions" => FramesOfLaterVersions,
    /// Frames of mail that a peer sent in the name of another node.
    "frames_of_others" => FramesOfOthers,
    /// Frames of this node that returned by gossip.
    "frames_of_ours" => FramesOfOurs,
    /// Frames for another network, node or topic.
    "frames_out_of_scope" => FramesOutOfScope,
    /// Gossip frames that the node did not forward, because their author sent more than nodes forward.
    "frames_over_limit" => FramesOverLimit,
    /// Frames that arrived before, or that have no place in the replay windows.
    "frames_replayed" => FramesReplayed,
    /// Frames of a revoked generation of node keys.
    "frames_superseded" => FramesSuperseded,
    /// Gossip messages that the node dropped unread, because of the gossip budget or a full queue.
    "gossip_dropped" => GossipDropped,
    /// Publications that no connected peer subscribes to.
    "gossip_no_peers" => GossipNoPeers,
    /// Gossip messages that the node dropped unread, because a neighbour sent too many.
    "gossip_over_limit" => GossipOverLimit,
    /// Publications for which the queues to all peers were full.
    "gossip_queues_full" => GossipQueuesFull,
    /// Connections that the node closed, because libp2p had given up gossip on them.
    "gossip_renewed" => GossipRenewed,
    /// Publications that are too large for gossip.
    "gossip_too_large" => GossipTooLarge,
    /// Calls of the gRPC server that the node refused, because they had not the token.
    "grpc_calls_refused" => GrpcCallsRefused,
    /// Connections to the gRPC server that the node refused, or ended without a call, because there were too many.
    "grpc_connections_refused" => GrpcConnectionsRefused,
    /// Handshakes of incoming connections that the node ended, because too many took place at the same time.
    "handshakes_evicted" => HandshakesEvicted,
    /// Writes of the highest record seen of an agent that the store dropped, because its queue was full.
    "highest_seen_writes_dropped" => HighestSeenWritesDropped,
    /// Connections to the HTTP server that the node refused, or ended without a request, because there were too many.
    "http_connections_refused" => HttpConnectionsRefused,
    /// Events that followers of the HTTP server did not get, and followers that the node cut, because they were too slow.
    "http_events_dropped" => HttpEventsDropped,
    /// Requests to the HTTP server that the node refused: without the token, by another name, or too many.
    "http_requests_refused" => HttpRequestsRefused,
    /// Frames of mail that the node answered as busy, because a peer used too many KEM keys.
    "key_exchanges_over_limit" => KeyExchangesOverLimit,
    /// Lines on stdin that are not valid commands.
    "lines_invalid" => LinesInvalid,
    /// Nodes of the rendezvous directory that the node dialled.
    "local_nodes_dialled" => LocalNodesDialled,
    /// Lines of the log on stderr that the node dropped, because nobody read stderr fast enough.
    "log_lines_dropped" => LogLinesDropped,
    /// Messages to agents that the node accepted from the parent.
    "mail_accepted" => MailAccepted,
    /// Messages that the parent acknowledged with `ack`.
    "mail_acked" => MailAcked,
    /// Frames of mail without a response, or with a response after which the node tries again.
    "mail_attempts_failed" => MailAttemptsFailed,
    /// Received frames of mail that the node did not accept, because it had no room.
    "mail_busy" => MailBusy,
    /// Sent frames of mail that a recipient rejected, because its clock and this node's clock differ.
    "mail_clock_out_of_range" => MailClockOutOfRange,
    /// Received messages whose number stands for another message.
    "mail_collisions" => MailCollisions,
    /// Sent frames of mail that the recipient's node did not accept, because it had no room.
    "mail_deferred" => MailDeferred,
    /// Accepted messages that ended as `delivered`.
    "mail_delivered" => MailDelivered,
    /// Received messages that had arrived before.
    "mail_duplicates" => MailDuplicates,
    /// Frames of mail that the node encrypted to a key of the recipient.
    "mail_encrypted" => MailEncrypted,
    /// Received messages that waited for an earlier message and that the node evicted; their senders retransmit them.
    "mail_evicted" => MailEvicted,
    /// Accepted messages and broadcasts that ended as `expired`.
    "mail_expired" => MailExpired,
    /// Accepted messages and broadcasts that ended as `failed`.
    "mail_failed" => MailFailed,
    /// Frames of mail that the node dropped unread, because too many frames waited for a response.
    "mail_frames_dropped" => MailFramesDropped,
    /// Frames of mail that the node answered as busy unread, because a peer sent too many.
    "mail_frames_over_limit" => MailFramesOverLimit,
    /// Frames of mail that the node sent, retransmissions included.
    "mail_frames_sent" => MailFramesSent,
    /// Messages that went to another client, because the one that had them left without reading or acknowledging them.
    "mail_handed_over" => MailHandedOver,
    /// Sent frames of mail that the recipient's node could not decrypt, because it has new keys.
    "mail_kem_unknown" => MailKemUnknown,
    /// Received messages for which the reorder buffer had no room.
    "mail_not_buffered" => MailNotBuffered,
    /// Messages that the node did not accept from the parent, because the store failed to persist them.
    "mail_not_persisted" => MailNotPersisted,
    /// Received messages that the node did not accept yet, because a stranger sent more than it may.
    "mail_over_limit" => MailOverLimit,
    /// Frames of mail that were too long, truncated or too slow to arrive.
    "mail_reads_failed" => MailReadsFailed,
    /// Messages that the node queued for the parent.
    "mail_received" => MailReceived,
    /// Received messages that the node rejected: blocked, too long, or not valid JSON.
    "mail_refused" => MailRefused,
    /// Accepted messages that ended as `rejected`.
    "mail_rejected" => MailRejected,
    /// Accepted messages that the node renumbered, because the recipient has another message under their number.
    "mail_renumbered" => MailRenumbered,
    /// Renumbered messages whose new number the store failed to persist.
    "mail_renumbered_not_persisted" => MailRenumberedNotPersisted,
    /// Received messages that the node dropped, because no client took them before too many waited.
    "mail_unclaimed" => MailUnclaimed,
    /// Attempts to send mail to an agent whose record contains no usable key.
    "mail_without_key" => MailWithoutKey,
    /// High-priority messages that the node treats as medium, because their author exceeds the limit.
    "messages_demoted" => MessagesDemoted,
    /// Requests for the address of a name.
    "name_reads" => NameReads,
    /// Requests for the address of a name that no RPC server answered in time.
    "name_reads_failed" => NameReadsFailed,
    /// Commands that the node refused because too many waited for the addresses of names.
    "names_refused" => NamesRefused,
    /// Commands for which the node used the last address of a name, because no RPC server answered.
    "names_stale" => NamesStale,
    /// Times that the node raised the seq of its record above that of an earlier process of this node.
    "own_seq_raised" => OwnSeqRaised,
    /// Lookups of an agent at connected peers, beside the DHT.
    "peer_lookups" => PeerLookups,
    /// Peers that the node admitted.
    "peers_admitted" => PeersAdmitted,
    /// Bans of nodes, agents and hosts.
    "peers_banned" => PeersBanned,
    /// Connections to nodes of another network.
    "peers_of_other_networks" => PeersOfOtherNetworks,
    /// Peers that the node disconnected, because they subscribed to no topic.
    "peers_without_topics" => PeersWithoutTopics,
    /// Records that the node stored as the newest of their agent.
    "records_accepted" => RecordsAccepted,
    /// Records whose binding has a wrong signature of the agent.
    "records_binding_forged" => RecordsBindingForged,
    /// Records of the same generation and seq as another record of the agent.
    "records_conflicting" => RecordsConflicting,
    /// Records whose signature is wrong.
    "records_forged" => RecordsForged,
    /// Records that are not in canonical form or exceed a limit.
    "records_malformed" => RecordsMalformed,
    /// Records under the DHT key of another agent.
    "records_misplaced" => RecordsMisplaced,
    /// Own records that the node did not find in the DHT after publication.
    "records_not_stored" => RecordsNotStored,
    /// Records of a later version of the wire protocol.
    "records_of_later_versions" => RecordsOfLaterVersions,
    /// Records in an admission that belong to another node than the peer.
    "records_of_others" => RecordsOfOthers,
    /// Records that are expired or from the future, or whose binding is.
    "records_out_of_date" => RecordsOutOfDate,
    /// Records of another network.
    "records_out_of_scope" => RecordsOutOfScope,
    /// Records that peers put into this DHT server too often.
    "records_over_limit" => RecordsOverLimit,
    /// Records that the node put into the DHT.
    "records_published" => RecordsPublished,
    /// Records with an invalid binding or lifetime.
    "records_refused" => RecordsRefused,
    /// Records that are older than the newest one seen.
    "records_stale" => RecordsStale,
    /// Broadcasts of agents that the registry does not name, or whose entry was not read yet, with `--registry-policy enforce`.
    "registry_broadcasts_dropped" => RegistryBroadcastsDropped,
    /// Connections that the node ended because the registry does not name the agent, or blocks it.
    "registry_disconnects" => RegistryDisconnects,
    /// Frames of mail that wait at their sender because the agent's entry in the registry was not read yet.
    "registry_mail_deferred" => RegistryMailDeferred,
    /// Requests to the registry, each for up to 64 agents.
    "registry_reads" => RegistryReads,
    /// Requests to the registry that no RPC server answered.
    "registry_reads_failed" => RegistryReadsFailed,
    /// Interactions that the node reported to the registry, with `--report-interactions`.
    "registry_reports" => RegistryReports,
    /// Interactions that the node did not report, because too many waited.
    "registry_reports_dropped" => RegistryReportsDropped,
    /// Interactions that the node could not report.
    "registry_reports_failed" => RegistryReportsFailed,
    /// Reservations that relays accepted.
    "relay_reservations" => RelayReservations,
    /// Reservations that relays refused or ended.
    "relay_reservations_ended" => RelayReservationsEnded,
    /// Cancels, credits and refusals of requests that the node did not send, because the outbox had no room.
    "request_steps_dropped" => RequestStepsDropped,
    /// Requests of clients that the node accepted.
    "requests_accepted" => RequestsAccepted,
    /// Requests of clients that ended with their answers.
    "requests_answered" => RequestsAnswered,
    /// Requests of clients that `cancel` or the end of the client ended.
    "requests_cancelled" => RequestsCancelled,
    /// Requests of clients that ended at their deadline without all answers.
    "requests_expired" => RequestsExpired,
    /// Requests of clients that ended with another error.
    "requests_failed" => RequestsFailed,
    /// Requests of other agents that the node passed to a handler.
    "requests_received" => RequestsReceived,
    /// Requests of other agents that the node refused: no handler, or too many at once.
    "requests_refused" => RequestsRefused,
    /// Answers that the node dropped: late, repeated, or not of an agent that was asked.
    "responses_dropped" => ResponsesDropped,
    /// Answers, and parts of them, that the node passed to a client.
    "responses_received" => ResponsesReceived,
    /// Answers, and parts of them, that handlers sent.
    "responses_sent" => ResponsesSent,
    /// `send` commands that `cancel` ended before they had room.
    "sends_cancelled" => SendsCancelled,
    /// `send` commands that waited for room.
    "sends_deferred" => SendsDeferred,
    /// `send` commands to topics that waited, so that other nodes do not drop the broadcasts.
    "sends_paced" => SendsPaced,
    /// `send` commands that the node refused at once, because there was no room.
    "sends_refused" => SendsRefused,
    /// `send` commands that the node refused after their longest wait for room.
    "sends_refused_after_pause" => SendsRefusedAfterPause,
    /// DHT servers that did not enter the routing table, because their bucket has enough servers, or enough of their subnet.
    "servers_not_routed" => ServersNotRouted,
    /// Reports of gossipsub that a peer reads too slowly.
    "slow_peers" => SlowPeers,
    /// Spans that the node did not export: there were more than it records, or the collector was down or slow.
    "spans_dropped" => SpansDropped,
    /// Statuses of nodes that the node forgot, because it knows too many nodes.
    "statuses_evicted" => StatusesEvicted,
    /// Statuses of nodes of a later version.
    "statuses_of_later_versions" => StatusesOfLaterVersions,
    /// Statuses of nodes that the node took over into its view of the network.
    "statuses_received" => StatusesReceived,
    /// Statuses of nodes that are malformed or exceed a limit.
    "statuses_refused" => StatusesRefused,
    /// Failures of the store to write, and losses of its content.
    "store_failures" => StoreFailures,
    /// Subscriptions of peers to names that are no valid topics.
    "topics_malformed" => TopicsMalformed,
    /// Subscribed topics that this node's record has only as hashes.
    "topics_not_in_record" => TopicsNotInRecord,
    /// Subscriptions of peers above the limit of 512 topics for each peer.
    "topics_over_limit" => TopicsOverLimit,
    /// Questions to contract wallets.
    "wallets_asked" => WalletsAsked,
    /// Frames and records of contract wallets that the node dropped, because no server answered or there were too many questions.
    "wallets_unanswered" => WalletsUnanswered,
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
