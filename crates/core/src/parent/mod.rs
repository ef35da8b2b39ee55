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

use std::time::Duration;

use on_command::Recipient;
use on_discover::Discovery;
use send_lane::SendLane;
use starting::DeferredCommands;

/// State of the parent process and of the node's lifecycle.
#[derive(Debug)]
pub(crate) struct Parent {
    /// The reader of stdout has gone.
    pub(crate) output_closed: bool,
    /// Reading stdin or writing stdout failed.
    pub(crate) pipe_broken: bool,
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
    pub(crate) fn new() -> Self {
        Parent {
            output_closed: false,
            pipe_broken: false,
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
