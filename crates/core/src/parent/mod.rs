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
