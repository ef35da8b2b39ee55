//! Admission of messages to agents.

use alloy_primitives::Address;
use p2p_node_wire::time::Instant;

use crate::MAX_INFLIGHT;
use crate::capacity::{NoRoom, Wait};
use crate::cx::Cx;
use crate::mail::Mail;
use crate::outgoing::OutgoingMessage;
use crate::signal::Signal;

impl Mail {
    pub(crate) fn admit_mail(
        &mut self,
        recipient: Address,
        draft: OutgoingMessage,
        cx: &mut Cx,
    ) -> Result<(), Box<NoRoom>> {
        let now = cx.now;
        if let Some(wait) = self.await_write() {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let (command, route) = (draft.command.clone(), draft.route);
        let durable = self.pending_writes.is_durable();
        let to_keep = durable.then(|| draft.clone());
        let is_first = !self.outbox.has_mail_for(&recipient);
        let accepted = self.outbox.accept(recipient, draft, !durable, now.mono)?;
        if is_first {
            cx.signal(Signal::Mailed(recipient));
        }
        self.persist_message(recipient, accepted, to_keep, command, route, cx);
        Ok(())
    }

    /// Returns a wait if the number of `send` commands that wait for the disk has reached
    /// `MAX_INFLIGHT`, which is what a parent may have unanswered.
    pub(crate) fn await_write(&self) -> Option<Wait> {
        (self.pending_writes.messages() >= MAX_INFLIGHT).then_some(Wait::Shared(Instant::MAX))
    }
}
