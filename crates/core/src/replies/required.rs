//! The outcomes that `--require-delivery` turns into an exit code.

use p2p_node_protocol::ErrorCode;

/// Outcomes since the start.
#[derive(Debug)]
pub(crate) struct Required {
    /// `--require-delivery` is set.
    pub(crate) on: bool,
    /// Messages in the outbox that earlier processes accepted. The node does not wait for them.
    pub(crate) restored: usize,
    /// A command failed with a code that is not retryable.
    pub(crate) refused: bool,
    /// A message or broadcast did not arrive, or a command failed with a retryable code.
    pub(crate) undone: bool,
}

impl Required {
    /// `restored` is the number of messages in the outbox that earlier processes accepted.
    pub(crate) fn new(on: bool, restored: usize) -> Self {
        Required { on, restored, refused: false, undone: false }
    }

    /// Records that the node refused a line of stdin.
    pub(crate) fn refused(&mut self, code: ErrorCode) {
        match code.retryable() {
            true => self.undone = true,
            false => self.refused = true,
        }
    }

    /// Records the end of a message. `restored` means that an earlier process accepted it.
    pub(crate) fn ended(&mut self, delivered: bool, restored: bool) {
        match restored {
            true => self.restored = self.restored.saturating_sub(1),
            false => self.undone |= !delivered,
        }
    }
}
