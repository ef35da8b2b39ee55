//! Admission of messages to agents.

use alloy_primitives::Address;
use p2p_node_protocol::Counter;
use p2p_node_wire::time::Instant;

use crate::MAX_INFLIGHT;
use crate::capacity::{NoRoom, Wait};
use crate::cx::Cx;
use crate::mail::Mail;
use crate::mail::outbound::stream::QueuedMessage;
use crate::outgoing::OutgoingMessage;
use crate::replies::reply_to::StepOf;
use crate::signal::Signal;

impl Mail {
    pub(crate) fn admit_mail(
        &mut self,
        recipient: Address,
        draft: OutgoingMessage,
        cx: &mut Cx,
    ) -> Result<(), Box<NoRoom>> {
        let is_first = !self.outbox.has_mail_for(&recipient);
        self.admit_answer(recipient, draft, cx)?;
        if is_first {
            cx.signal(Signal::Mailed(recipient));
        }
        Ok(())
    }

    /// Accepts a message as `admit_mail` does. The caller knows if it shows that the programs of the agent
    /// want to hear from the recipient.
    pub(crate) fn admit_answer(
        &mut self,
        recipient: Address,
        draft: OutgoingMessage,
        cx: &mut Cx,
    ) -> Result<(), Box<NoRoom>> {
        // A step of a request ends with the process, so the store does not keep it.
        let durable = self.pending_writes.is_durable() && draft.call.is_none();
        if durable && let Some(wait) = self.await_write() {
            return Err(Box::new(NoRoom { draft, wait }));
        }
        let (command, route) = (draft.command.clone(), draft.route);
        let to_keep = durable.then(|| draft.clone());
        let accepted = self.outbox.accept(recipient, draft, !durable, cx.now.mono)?;
        self.persist_message(recipient, accepted, to_keep, command, route, cx);
        Ok(())
    }

    /// Accepts a step of a request that the node takes by itself, or drops it if the outbox has no room.
    /// Such a step says nothing of what the programs of the agent think of the recipient.
    pub(crate) fn admit_own_step(&mut self, recipient: Address, draft: OutgoingMessage, cx: &mut Cx) -> bool {
        match self.outbox.accept(recipient, draft, true, cx.now.mono) {
            Ok(_) => {
                self.recipients_to_flush.insert(recipient);
                true
            }
            Err(_) => {
                cx.stats.count(Counter::RequestStepsDropped);
                false
            }
        }
    }

    /// Removes the message of a request to an agent. Returns `true` if the recipient may have it.
    pub(crate) fn remove_request(&mut self, recipient: &Address, number: u64) -> bool {
        let step = StepOf::Request { number, target: Some(*recipient) };
        let is_of = |_: usize, mail: &QueuedMessage, _: bool| mail.draft.command.step == Some(step);
        self.outbox.remove_if(recipient, is_of).iter().any(|ended| ended.mail.attempts > 0)
    }

    /// Returns a wait if the number of `send` commands that wait for the disk has reached
    /// `MAX_INFLIGHT`, which is what a parent may have unanswered.
    pub(crate) fn await_write(&self) -> Option<Wait> {
        (self.pending_writes.messages() >= MAX_INFLIGHT).then_some(Wait::Shared(Instant::MAX))
    }
}
