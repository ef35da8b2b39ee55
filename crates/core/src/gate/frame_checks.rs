//! The checks of every frame, by direct mail or gossip, from cheap to expensive.

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::local::Local;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::Frame;

use crate::mail::inbound::on_mail::CLOCK_OUT_OF_RANGE;

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
    /// it.
    pub(crate) fn check_frame(
        &self,
        frame: &Frame,
        not_before_ms: u64,
        local: &Local,
        directory: &Directory,
        cx: &Cx,
    ) -> Result<(), FrameRejection> {
        let now = cx.now;
        frame.check_times(now.unix_ms, not_before_ms).map_err(|_| FrameRejection {
            counter: Counter::FramesUntimely,
            code: CLOCK_OUT_OF_RANGE,
            provable: false,
        })?;
        let binding = &frame.binding.binding;
        if let Some(code) = self.replay.check(&frame.stamp(), now).code() {
            return Err(FrameRejection { counter: Counter::FramesReplayed, code, provable: false });
        }
        if !frame.verify_signature() {
            return Err(FrameRejection { counter: Counter::FramesForged, code: "FORGED", provable: true });
        }
        frame.binding.check(&cx.identity.network, now.unix_ms).map_err(|error| FrameRejection {
            counter: Counter::BindingsRefused,
            code: "INVALID_BINDING",
            provable: error.is_provable(),
        })?;
        // The directory contains every agent except our own.
        let ours = binding.account == cx.identity.address;
        let floor = if ours {
            local.record.order().0
        } else {
            directory.records.floor(&binding.account, now.unix_ms)
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

    /// Records the frame in the replay window. If that fails, the caller must not use the frame,
    /// and the sender receives the returned code.
    pub(crate) fn commit_replay(&mut self, frame: &Frame, cx: &Cx) -> Option<&'static str> {
        let now = cx.now;
        self.replay.commit(&frame.stamp(), now).code()
    }
}
