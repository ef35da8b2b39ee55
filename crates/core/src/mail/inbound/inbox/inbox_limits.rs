//! Limits of the inbox.

use std::time::Duration;

use p2p_node_wire::envelope::limits::{MAX_ACK_OUTCOMES, MAX_ACK_STREAMS, MAX_BATCH_MESSAGES};

use crate::budget::Limit;
use crate::mail::inbound::inbox::reorder_buffer::HELD_OVERHEAD;
use crate::mail::inbound::receive_window::ACK_WINDOW;
use crate::mail::inbound::unacked::MAX_UNACKED;

/// Limit of the buffered messages of one sender: as many as a frame may contain, because frames
/// overtake each other. Measured: with a limit of 256, a frame that overtook another caused a pause
/// of half a second.
pub const REORDER_MESSAGES: usize = MAX_BATCH_MESSAGES;
/// Limit of the memory of all buffered messages, in bytes. Our choice: eight senders at their
/// limit.
pub const REORDER_BYTES: usize = 48 << 20;
/// Largest number of messages in [`REORDER_BYTES`].
pub const MAX_HELD: usize = REORDER_BYTES / HELD_OVERHEAD;
/// Limit of the memory of the buffered messages of one sender, in bytes: the 1 MiB that it may have
/// in flight, in messages of 64 bytes with their overhead.
pub const SENDER_REORDER_BYTES: usize = 6 << 20;
/// Both limits of all buffered messages.
pub(crate) const REORDER: Limit = Limit { count: MAX_HELD, bytes: REORDER_BYTES };
/// Both limits of the buffered messages of one sender.
pub(crate) const SENDER_REORDER: Limit = Limit { count: REORDER_MESSAGES, bytes: SENDER_REORDER_BYTES };
/// Limit of the streams. Our choice: three for each of 5,000 senders, at 100 bytes each.
pub const MAX_STREAMS: usize = 16_384;
/// Limit of the streams of one sender: as many as an ack can name. A sender that opens more evicts
/// its own.
pub const SENDER_STREAMS: usize = MAX_ACK_STREAMS;
/// Time without a new message after which the inbox may drop the buffered messages of a stream. Our
/// choice: twice the time after which a sender tries again.
pub const REORDER_TIMEOUT: Duration = Duration::from_secs(20);

/// Limit of the rejections of each stream that the node remembers until the sender has received
/// them: as many as fit into an ack. A sender has at most 1 MiB and a frame in flight, which is
/// fewer messages that do not fit into the shortest lines of a parent (4 KiB).
pub const MAX_REFUSALS: usize = MAX_ACK_OUTCOMES;
/// Limit of the rejections of all streams. Our choice: 512 senders whose messages the node rejects
/// at full rate. Takes less than 8 MiB.
pub const MAX_ALL_REFUSALS: usize = 65_536;

/// Shortest time between two scans of the idle streams, because there may be many. Our choice.
pub const SWEEP: Duration = Duration::from_secs(1);

/// Limit of the messages of one sender that wait for an ack of the parent, and of those acked out
/// of order. Buffered messages may exceed it. Our choice: the windows of its three priorities.
pub const MAX_UNACKED_PER_SENDER: usize = 3 * ACK_WINDOW;

/// Global limit of the messages acked out of order. Above it only senders below [`FEW_OUT_OF_ORDER`] may
/// add more. Buffered messages may exceed it. Our choice: the windows of 64 streams, less than 1
/// MiB.
pub const MAX_OUT_OF_ORDER: usize = 64 * ACK_WINDOW;
/// Messages acked out of order that each sender may have above [`MAX_OUT_OF_ORDER`]. Our choice: takes 12
/// MiB if there are as many such senders as streams.
pub const FEW_OUT_OF_ORDER: usize = 64;
/// Largest possible number of messages acked out of order: the limits, and what was buffered or
/// delivered when [`MAX_OUT_OF_ORDER`] was reached.
pub const ALL_OUT_OF_ORDER: usize =
    MAX_OUT_OF_ORDER + MAX_HELD + MAX_UNACKED + FEW_OUT_OF_ORDER * MAX_STREAMS;
