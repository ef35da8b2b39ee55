//! The checks of every frame, by direct mail or gossip, from cheap to expensive.

use alloy_primitives::Address;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::Frame;

use crate::cx::Cx;
use crate::gate::Gate;

/// Code of the rejection of a frame that is too old or from the future.
pub(crate) const CLOCK_OUT_OF_RANGE: &str = "CLOCK_OUT_OF_RANGE";
/// Code of the rejection of a frame of a later version.
pub(crate) const UNSUPPORTED_VERSION: &str = "UNSUPPORTED_VERSION";
/// Counter of frames of later versions.
pub(crate) const LATER_FRAMES: Counter = Counter::FramesOfLaterVersions;

/// The reason why the node rejects a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameRejection {
    /// Counter of these rejections.
    pub(crate) counter: Counter,
    /// Code that the sender receives.
    pub(crate) code: &'static str,
    /// `true` if any relayer could have detected the fault.
    pub(crate) provable: bool,
}

impl Gate {
    /// Checks times, replay, signature, and every property of the binding except its signature. A
    /// frame made before `not_before_ms` is rejected, because an earlier process may have received
    /// it. `minimum_generation` returns the lowest generation that an account may still use.
    pub(crate) fn check_frame(
        &self,
        frame: &Frame,
        not_before_ms: u64,
        minimum_generation: impl FnOnce(&Address) -> u64,
        cx: &Cx,
    ) -> Result<(), FrameRejection> {
        let now = cx.now;
        frame.check_times(now.unix_ms, not_before_ms).map_err(|_| FrameRejection {
            counter: Counter::FramesClockOutOfRange,
            code: CLOCK_OUT_OF_RANGE,
            provable: false,
        })?;
        let binding = &frame.binding.binding;
        if let Some(code) = self.replay.check(&frame.stamp(), now).code() {
            return Err(FrameRejection { counter: Counter::FramesReplayed, code, provable: false });
        }
        if !frame.is_authentic() {
            return Err(FrameRejection { counter: Counter::FramesForged, code: "FORGED", provable: true });
        }
        frame.binding.check(&cx.identity.network, now.unix_ms).map_err(|error| FrameRejection {
            counter: Counter::BindingsRefused,
            code: "INVALID_BINDING",
            provable: error.is_provable(),
        })?;
        if binding.generation < minimum_generation(&binding.account) {
            return Err(FrameRejection {
                counter: Counter::FramesSuperseded,
                code: "SUPERSEDED",
                provable: false,
            });
        }
        Ok(())
    }

    /// Records the frame in the replay window. If that fails, the caller must not use the frame,
    /// and the sender receives the returned code.
    pub(crate) fn commit_replay(&mut self, frame: &Frame, cx: &Cx) -> Option<&'static str> {
        let now = cx.now;
        self.replay.commit(&frame.stamp(), now).code()
    }
}
