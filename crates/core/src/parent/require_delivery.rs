//! `--require-delivery`: determines the exit code of a pipeline from the outcome of its commands.

use crate::cx::Cx;
use crate::effect::ExitCode;
use crate::gossip::Gossip;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::replies::required::Required;

/// Returns `true` if, after the end of stdin, the node waits without limit for all messages and
/// broadcasts.
pub(crate) fn awaits_deliveries(cx: &Cx) -> bool {
    cx.replies.required.on
}

impl Parent {
    /// Returns `true` if messages or broadcasts have not ended, or commands wait for the addresses of names. With `--require-delivery`, messages
    /// of earlier processes do not count.
    pub(crate) fn has_unsent(&self, gossip: &Gossip, mail: &Mail, cx: &Cx) -> bool {
        let of_earlier = if cx.replies.required.on { cx.replies.required.restored } else { 0 };
        !self.send_lane.is_empty()
            || !self.names.is_idle()
            || mail.outbox.len() > of_earlier
            || !gossip.broadcasts.is_empty()
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
