//! The checks that every frame passes, from cheap to expensive, whichever way it came.

use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::Frame;

use crate::Core;
use crate::input::Now;
use crate::mail::inbound::on_mail::CLOCK_OUT_OF_RANGE;

/// Why a frame goes no further.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRejection {
    /// What counts it.
    pub(crate) counter: Counter,
    /// What its sender is told.
    pub(crate) code: &'static str,
    /// Whether any relayer could have seen it.
    pub(crate) provable: bool,
}

impl Core {
    /// Times, replay, signature and the binding's own claims; what is left is the binding's signature. What was made before
    /// `not_before_ms` may be a repetition of what an earlier process has heard.
    pub(crate) fn check_frame(
        &self,
        frame: &Frame,
        not_before_ms: u64,
        now: Now,
    ) -> Result<(), FrameRejection> {
        frame.check_times(now.unix_ms, not_before_ms).map_err(|_| FrameRejection {
            counter: Counter::FramesUntimely,
            code: CLOCK_OUT_OF_RANGE,
            provable: false,
        })?;
        let binding = &frame.binding.binding;
        if let Some(code) = self.gate.replay.check(&frame.stamp(), now).code() {
            return Err(FrameRejection { counter: Counter::FramesReplayed, code, provable: false });
        }
        if !frame.verify_signature() {
            return Err(FrameRejection { counter: Counter::FramesForged, code: "FORGED", provable: true });
        }
        frame.binding.check(&self.local.identity.network, now.unix_ms).map_err(|error| FrameRejection {
            counter: Counter::BindingsRefused,
            code: "INVALID_BINDING",
            provable: error.is_provable(),
        })?;
        // The book knows everybody but ourselves.
        let ours = binding.account == self.local.identity.address;
        let floor = if ours {
            self.local.record.order().0
        } else {
            self.directory.records.floor(&binding.account, now.unix_ms)
        };
        if binding.generation < floor {
            return Err(FrameRejection {
                counter: Counter::FramesSuperseded,
                code: "SUPERSEDED",
                provable: false,
            });
        }
        Ok(())
    }

    /// Remembers the frame. Without room to do so it must not be used, and its sender is told this code.
    pub(crate) fn commit_replay(&mut self, frame: &Frame, now: Now) -> Option<&'static str> {
        self.gate.replay.commit(&frame.stamp(), now).code()
    }
}
