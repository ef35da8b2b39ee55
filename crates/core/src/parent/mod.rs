//! The parent process: its commands, the node's answers and events, and the shutdown.

pub(crate) mod admission;
pub(crate) mod command_limits;
pub(crate) mod on_access;
pub(crate) mod on_cancel;
pub(crate) mod on_command;
pub(crate) mod on_discover;
pub(crate) mod on_send;
pub mod output_queue;
pub(crate) mod replies;
pub(crate) mod require_delivery;
pub mod send_lane;
pub(crate) mod shutdown;
pub(crate) mod starting;

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_node_protocol::{Id, MAX_LINE_BYTES};

use crate::lifecycle::Phase;
use on_command::Recipient;
use on_discover::Discovery;
use output_queue::OutputQueue;
use require_delivery::Required;
use send_lane::SendLane;
use starting::DeferredCommands;

/// State of the parent process and of the node's lifecycle.
#[derive(Debug)]
pub(crate) struct Parent {
    /// Phase of the node's lifecycle.
    pub(crate) phase: Phase,
    /// The parent's `connect` named protocol version 1. Without a version the node writes the
    /// events of the first sidecar only.
    pub(crate) protocol_v1: bool,
    /// Longest line that the parent reads, in bytes.
    pub(crate) max_line: usize,
    /// Ids of unanswered `send` commands.
    pub(crate) open_sends: BTreeSet<Id>,
    /// Ids of other unanswered commands.
    pub(crate) open_requests: BTreeSet<Id>,
    /// Lines that wait for the writer.
    pub(crate) output: OutputQueue,
    /// The reader of stdout has gone.
    pub(crate) output_closed: bool,
    /// Reading stdin or writing stdout failed.
    pub(crate) pipe_broken: bool,
    /// Outcomes for `--require-delivery`.
    pub(crate) required: Required,
    /// The node answered mail or published something since the last turn.
    pub(crate) has_spoken: bool,
    /// Earliest time of the exit, so that peers can read the last answers and broadcasts.
    pub(crate) stay_until: Duration,
    /// When a node whose stdin has ended stops receiving.
    pub(crate) receive_until: Option<Duration>,
    /// `discover` commands that are running.
    pub(crate) discoveries: Vec<Discovery>,
    /// The recipient of the last `send`, parsed.
    pub(crate) recipient_parse_cache: Option<(String, Recipient)>,
    /// Commands that wait for `ready`.
    pub(crate) deferred: DeferredCommands,
    /// `send` commands that wait for room.
    pub(crate) send_lane: SendLane,
    /// The node refused waiting `send` commands because it closes.
    pub(crate) sends_abandoned: bool,
}

impl Parent {
    pub(crate) fn new(required: Required) -> Self {
        Parent {
            phase: Phase::Idle,
            protocol_v1: false,
            max_line: MAX_LINE_BYTES,
            open_sends: BTreeSet::new(),
            open_requests: BTreeSet::new(),
            output: OutputQueue::default(),
            output_closed: false,
            pipe_broken: false,
            required,
            has_spoken: false,
            stay_until: Duration::ZERO,
            receive_until: None,
            discoveries: Vec::new(),
            recipient_parse_cache: None,
            deferred: DeferredCommands::default(),
            send_lane: SendLane::default(),
            sends_abandoned: false,
        }
    }
}
