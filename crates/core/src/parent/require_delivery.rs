//! `--require-delivery`: determines the exit code of a pipeline from the outcome of its commands.

use crate::cx::Cx;
use crate::gossip::Gossip;
use crate::mail::Mail;
use crate::parent::Parent;
use p2p_node_protocol::ErrorCode;

use crate::effect::ExitCode;

/// Outcomes since the start.
#[derive(Debug)]
pub(crate) struct Required {
    /// `--require-delivery` is set.
    on: bool,
    /// Messages in the outbox that earlier processes accepted. The node does not wait for them.
    restored: usize,
    /// A command failed with a code that is not retryable.
    refused: bool,
    /// A message or broadcast did not arrive, or a command failed with a retryable code.
    undone: bool,
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

/// Returns `true` if, after the end of stdin, the node waits without limit for all messages and
/// broadcasts.
pub(crate) fn awaits_deliveries(cx: &Cx) -> bool {
    cx.replies.required.on
}

impl Parent {
    /// Returns `true` if messages or broadcasts have not ended. With `--require-delivery`, messages
    /// of earlier processes do not count.
    pub(crate) fn has_unsent(&self, gossip: &Gossip, mail: &Mail, cx: &Cx) -> bool {
        let of_earlier = if cx.replies.required.on { cx.replies.required.restored } else { 0 };
        !self.send_lane.is_empty() || mail.outbox.len() > of_earlier || !gossip.broadcasts.is_empty()
    }

    /// Returns the exit code of a node that has written its last line. `lost` means that accepted
    /// messages or broadcasts are lost.
    pub(crate) fn exit_code(&self, lost: bool, gossip: &Gossip, mail: &Mail, cx: &Cx) -> ExitCode {
        let Required { on, refused, undone, .. } = cx.replies.required;
        match () {
            () if self.pipe_broken => ExitCode::Io,
            () if on && refused => ExitCode::BadInput,
            () if lost || on && (undone || self.has_unsent(gossip, mail, cx)) => ExitCode::Undelivered,
            () => ExitCode::Ok,
        }
    }
}
