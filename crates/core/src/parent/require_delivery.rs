//! `--require-delivery`: whether all that stdin asked for was done, for the exit code of a pipeline.

use p2p_node_protocol::ErrorCode;

use crate::Core;
use crate::effect::ExitCode;

/// What is known of that.
#[derive(Debug)]
pub(crate) struct Required {
    /// Whether the parent wants to know.
    on: bool,
    /// Mail in the outbox that earlier processes accepted: its end is not waited for.
    restored: usize,
    /// Whether something could not be carried out as it was written.
    refused: bool,
    /// Whether mail or a broadcast did not arrive, or a command was refused that might be carried out at another time.
    undone: bool,
}

impl Required {
    /// `restored`: mail in the outbox that earlier processes accepted.
    pub(crate) fn new(on: bool, restored: usize) -> Self {
        Required { on, restored, refused: false, undone: false }
    }

    /// Something on stdin was refused.
    pub(crate) fn refused(&mut self, code: ErrorCode) {
        match code.retryable() {
            true => self.undone = true,
            false => self.refused = true,
        }
    }

    /// Mail has ended; `restored`: an earlier process accepted it.
    pub(crate) fn ended(&mut self, delivered: bool, restored: bool) {
        match restored {
            true => self.restored = self.restored.saturating_sub(1),
            false => self.undone |= !delivered,
        }
    }
}

impl Core {
    /// Whether the end of stdin waits for the end of all mail and broadcasts.
    pub(crate) fn awaits_deliveries(&self) -> bool {
        self.parent.required.on
    }

    /// Whether mail or broadcasts of this process have yet to end.
    pub(crate) fn has_unsent(&self) -> bool {
        let of_earlier = if self.parent.required.on { self.parent.required.restored } else { 0 };
        !self.parent.send_lane.is_empty()
            || self.mail.outbox.len() > of_earlier
            || !self.gossip.broadcasts.is_empty()
    }

    /// How the process ends once it has said everything; `lost`: whether accepted mail is.
    pub(crate) fn end_code(&self, lost: bool) -> ExitCode {
        let Required { on, refused, undone, .. } = self.parent.required;
        match () {
            () if self.parent.pipe_broken => ExitCode::Io,
            () if on && refused => ExitCode::BadInput,
            () if lost || on && (undone || self.has_unsent()) => ExitCode::Undelivered,
            () => ExitCode::Ok,
        }
    }
}
