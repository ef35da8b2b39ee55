//! How much of the mail that arrives may wait here, and for what.

use std::time::Duration;

use p2p_node_wire::envelope::limits::{MAX_ACK_OUTCOMES, MAX_ACK_STREAMS, MAX_BATCH_MESSAGES};

use crate::mail::inbound::inbox::reorder_buffer::HELD_OVERHEAD;
use crate::mail::inbound::receive_window::UNTAKEN_WINDOW;
use crate::mail::inbound::unacked::MAX_UNTAKEN;

/// Messages of one sender that wait for an earlier one: as many as a frame may have, for frames overtake each other. With the 256 of
/// a design that held fewer, one that did cost a pause of half a second.
pub const REORDER_MESSAGES: usize = MAX_BATCH_MESSAGES;
/// Memory of all streams' messages that wait, in bytes. Ours: 8 stalled senders.
pub const HELD_BYTES: usize = 40 << 20;
/// … and how many messages that can be.
pub const MAX_HELD: usize = HELD_BYTES / HELD_OVERHEAD;
/// … of one sender: what it may have on its way (1 MiB) in messages of 64 bytes, with what they take besides.
pub const SENDER_HELD_BYTES: usize = 5 << 20;
/// Streams remembered. Ours: three for each of 5,000 senders, 100 bytes each.
pub const MAX_STREAMS: usize = 16_384;
/// … of one sender: as many as one acknowledgement can name. Whoever makes up more pushes out their own.
pub const SENDER_STREAMS: usize = MAX_ACK_STREAMS;
/// What waited so long for an earlier message gives way to others: twice the time in which its sender would have tried again.
pub const HELD_IDLE: Duration = Duration::from_secs(20);

/// Refusals remembered of each stream, until its sender has learned of them. As many as an acknowledgement has room for, and more
/// than a sender has on its way (1 MiB and a frame) of messages that a parent with the shortest lines (4 KiB) cannot take.
pub const MAX_REFUSALS: usize = MAX_ACK_OUTCOMES;
/// Refusals remembered of all streams. Ours: 512 senders whose mail is refused as fast as it comes, in less than 8 MiB.
pub const MAX_ALL_REFUSALS: usize = 65_536;

/// Idle streams are looked through for messages that wait so often at most: there may be very many. Ours.
pub const SWEEP: Duration = Duration::from_secs(1);

/// Mails of one sender that may wait for the parent to acknowledge them, and at which no more are taken of those that arrived before
/// others, though what was held may add to these at once. Ours: its three priorities.
pub const SENDER_UNTAKEN: usize = 3 * UNTAKEN_WINDOW;

/// Mails of all streams that the parent has or was spared although something before them waits, at which more are taken only of senders
/// with few. Ours: 64 streams' windows, in less than 1 MiB; what was held may add to it at once.
pub const MAX_BEYOND: usize = 64 * UNTAKEN_WINDOW;
/// … of each sender then. Ours: in 12 MiB for as many senders as there are streams.
pub const FEW_BEYOND: usize = 64;
/// … and all that they can come to, with what was handed on when that was reached.
pub const ALL_BEYOND: usize = MAX_BEYOND + MAX_HELD + MAX_UNTAKEN + FEW_BEYOND * MAX_STREAMS;
