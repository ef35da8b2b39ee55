//! When the core has to be called next, and whether another command may be handed over.

use std::time::Duration;

use crate::{Core, MAX_INFLIGHT, Phase};

impl Core {
    /// When `turn` has something to do by itself, by `Now::mono`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let closing = match self.phase {
            Phase::Flushing { deadline, stay_until, .. } => {
                let is_said = self.outlet.is_empty() || self.output_closed;
                return Some(if is_said { stay_until } else { deadline });
            }
            // One that waits for deliveries has none of its own.
            Phase::Closing { deadline, .. } => Some(deadline).filter(|deadline| *deadline < Duration::MAX),
            Phase::Ready => None,
            Phase::Starting { report_by, .. } => {
                return report_by.into_iter().chain(self.held.next_deadline()).min();
            }
            Phase::Idle | Phase::Done => return None,
        };
        let sendable = self.sendable_topics().into_iter().map(|(_, not_before)| not_before).min();
        let pacing = sendable.map(|not_before| not_before.max(self.pacer.ready_at()));
        let deadlines = [
            closing,
            self.linger_until,
            self.lane_deadline(),
            pacing,
            self.bootstraps.next_deadline(),
            self.servers.next_deadline(),
            self.connecting_deadline(),
            self.silence_deadline(),
            self.keyring.next_deadline(),
            self.presence.next_deadline(),
            self.binding_deadline(),
            self.discovery_deadline(),
            self.held_answers.next_deadline(),
            self.taking.next_deadline(),
            self.outbox.next_deadline(),
            self.topics.next_deadline(),
            Some(self.status_due).filter(|due| *due < Duration::MAX),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether the next command may be handed over: its answer has room, and so has a `send` that waits. Until then stdin should not be
    /// read, for the pipe pushes back where a queue could only refuse. A parent that reads and keeps its unanswered sends within what
    /// `ready` names never finds it so, since only one send more than that fills the lane.
    pub fn takes_commands(&self) -> bool {
        let sends = self.lane.len() + self.held.sends() + self.outlet.unread_sends();
        !matches!(self.phase, Phase::Flushing { .. } | Phase::Done)
            && self.outlet.takes_commands()
            && self.pending_ids.len() + self.outlet.unread_others() < MAX_INFLIGHT
            && sends <= MAX_INFLIGHT
            && !self.lane.is_over()
            && !self.held.is_over()
    }
}
