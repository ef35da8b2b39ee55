//! When the core has to be called next, and whether another command may be handed over.

use std::time::Duration;

use crate::{Core, MAX_INFLIGHT, Phase};

impl Core {
    /// When `turn` has something to do by itself, by `Now::mono`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let closing = match self.parent.phase {
            Phase::Flushing { deadline, stay_until, .. } => {
                let is_said = self.parent.output.is_empty() || self.parent.output_closed;
                return Some(if is_said { stay_until } else { deadline });
            }
            // One that waits for deliveries has none of its own.
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

    /// Whether the next command may be handed over: its answer has room, and so has a `send` that waits. Until then stdin should not be
    /// read, for the pipe pushes back where a queue could only refuse. A parent that reads and keeps its unanswered sends within what
    /// `ready` names never finds it so, since only one send more than that fills the lane.
    pub fn can_accept_command(&self) -> bool {
        let sends =
            self.parent.send_lane.len() + self.parent.deferred.sends() + self.parent.output.unread_sends();
        !matches!(self.parent.phase, Phase::Flushing { .. } | Phase::Exited)
            && self.parent.output.can_accept_command()
            && self.parent.open_requests.len() + self.parent.output.unread_others() < MAX_INFLIGHT
            && sends <= MAX_INFLIGHT
            && !self.parent.send_lane.is_over()
            && !self.parent.deferred.is_over()
    }
}
