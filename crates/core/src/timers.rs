//! The time of the next timer, and admission of the next command.

use std::time::Duration;

use crate::{Core, MAX_INFLIGHT, Phase};

impl Core {
    /// Returns the time at which `handle_timeout` has work to do, by `Now::mono`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let closing = match self.cx.phase {
            Phase::Flushing { deadline, stay_until, .. } => {
                let is_said = self.cx.replies.output.is_empty() || self.parent.output_closed;
                return Some(if is_said { stay_until } else { deadline });
            }
            // A node that waits for deliveries without a limit has no deadline of its own.
            Phase::Closing { deadline, .. } => Some(deadline).filter(|deadline| *deadline < Duration::MAX),
            Phase::Ready => None,
            Phase::Starting { report_by, .. } => {
                return report_by.into_iter().chain(self.parent.deferred.next_deadline()).min();
            }
            Phase::Idle | Phase::Exited => return None,
        };
        let sendable = self.sendable_topics().into_iter().map(|(_, not_before)| not_before).min();
        let pacing = sendable.map(|not_before| not_before.max(self.gossip.pacer.ready_at()));
        let deadlines = [
            closing,
            self.parent.receive_until,
            self.lane_deadline(),
            pacing,
            self.peers.bootstrap.next_deadline(),
            self.peers.dht_servers.next_deadline(),
            self.connecting_deadline(),
            self.silence_deadline(),
            self.local.keyring.next_deadline(),
            self.local.record.next_deadline(),
            self.binding_deadline(),
            self.discovery_deadline(),
            self.mail.deferred_responses.next_deadline(),
            self.mail.delivery.next_deadline(),
            self.mail.outbox.next_deadline(),
            self.gossip.broadcasts.next_deadline(),
            Some(self.gossip.status_due).filter(|due| *due < Duration::MAX),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Returns `true` if the driver may hand over the next command, because there is capacity for
    /// its reply, and for a waiting `send`. Until then the driver should not read stdin: the pipe
    /// exerts backpressure, where a queue could only reject. A parent that reads its replies and
    /// keeps its unanswered sends within the limits in `ready` is never paused, because only one
    /// send above the limit fills the lane.
    pub fn can_accept_command(&self) -> bool {
        let sends = self.parent.send_lane.len()
            + self.parent.deferred.sends()
            + self.cx.replies.output.unread_sends();
        !matches!(self.cx.phase, Phase::Flushing { .. } | Phase::Exited)
            && self.cx.replies.output.can_accept_command()
            && self.cx.replies.open_requests.len() + self.cx.replies.output.unread_others() < MAX_INFLIGHT
            && sends <= MAX_INFLIGHT
            && !self.parent.send_lane.is_over()
            && !self.parent.deferred.is_over()
    }
}
