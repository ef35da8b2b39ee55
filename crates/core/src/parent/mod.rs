//! The parent process: its commands, what the node answers, and how the node ends.

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

/// The parent, as the node knows it: what it asked for, and what it has to be told.
#[derive(Debug)]
pub(crate) struct Parent {
    /// How far the node has come.
    pub(crate) phase: Phase,
    /// The parent asked for version 1 of the contract, not for that of the first sidecar.
    pub(crate) protocol_v1: bool,
    /// Longest line that the parent reads, in bytes.
    pub(crate) max_line: usize,
    /// Ids of `send`s that have no answer yet.
    pub(crate) open_sends: BTreeSet<Id>,
    /// Ids of other commands that have no answer yet.
    pub(crate) open_requests: BTreeSet<Id>,
    /// Lines that wait for the writer.
    pub(crate) output: OutputQueue,
    /// Nobody reads stdout any more.
    pub(crate) output_closed: bool,
    /// stdin or stdout broke.
    pub(crate) pipe_broken: bool,
    /// What `--require-delivery` has seen go wrong.
    pub(crate) required: Required,
    /// Mail was answered or something published since the last turn.
    pub(crate) has_spoken: bool,
    /// Until when peers may not have read what the node said last.
    pub(crate) stay_until: Duration,
    /// When a node whose stdin has ended stops to receive.
    pub(crate) receive_until: Option<Duration>,
    /// `discover` commands that still look.
    pub(crate) discoveries: Vec<Discovery>,
    /// The recipient of the last `send`, so that a parent that writes to one agent has its address parsed once.
    pub(crate) recipient_parse_cache: Option<(String, Recipient)>,
    /// Commands that wait for `ready`.
    pub(crate) deferred: DeferredCommands,
    /// `send`s that wait for room.
    pub(crate) send_lane: SendLane,
    /// `send`s that waited were refused because the node ends.
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
