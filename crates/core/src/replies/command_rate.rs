//! How fast a client may write commands while other clients need the node too.

use std::time::Duration;

use p2p_node_protocol::Command;
use p2p_node_wire::time::Instant;

/// Commands a second that a client may write while others need the node. Our choice: far more than agents
/// that work together write, and about a tenth of what a node reads in a burst (docs/benchmarks.md).
pub(crate) const COMMANDS_PER_SECOND: u64 = 20_000;

/// Commands that a client may write at once beyond that. Our choice: twice the `send` commands that may wait
/// for an answer.
pub(crate) const COMMANDS_AT_ONCE: u64 = 2 * crate::MAX_INFLIGHT as u64;

/// What a command counts whose answer describes the whole node. Our choice: that answer is some hundred times
/// longer than others.
const DESCRIPTION: u64 = 100;

/// Length of a pause at least, so that the node does not turn to the client for each command. Our choice.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// The time since a client's last command after which it does not need the node. Our choice.
pub(crate) const IDLE_AFTER: Duration = Duration::from_secs(1);

/// The commands of one client: a bucket that empties at the permitted rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CommandRate {
    last: Option<Instant>,
    /// When the bucket will be empty.
    empty_at: Option<Instant>,
    paused_until: Option<Instant>,
}

impl CommandRate {
    /// Counts a command, or a line that is none. `is_shared` states that others need the node too.
    pub(crate) fn count(&mut self, command: Option<&Command>, is_shared: bool, now: Instant) {
        self.last = Some(now);
        let weight = match command {
            Some(Command::Status(_) | Command::Report(_) | Command::Peers(_)) => DESCRIPTION,
            _ => 1,
        };
        if !is_shared {
            self.empty_at = None;
            return;
        }
        let empty_at = self.empty_at.map_or(now, |at| at.max(now)) + time_of(weight);
        self.empty_at = Some(empty_at);
        if empty_at >= now + time_of(COMMANDS_AT_ONCE) {
            self.paused_until = Some(empty_at + MIN_PAUSE - time_of(COMMANDS_AT_ONCE));
        }
    }

    /// Returns `true` if the client has written a command a short time ago.
    pub(crate) fn is_active(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last + IDLE_AFTER)
    }

    /// Returns `true` if the node reads no commands of the client for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Ends the pause if its time has passed.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.paused_until = self.paused_until.filter(|until| now < *until);
    }

    /// Returns when the pause ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.paused_until
    }
}

/// Returns the time in which a client may write this number of commands.
fn time_of(commands: u64) -> Duration {
    Duration::from_nanos(commands * 1_000_000_000 / COMMANDS_PER_SECOND)
}
