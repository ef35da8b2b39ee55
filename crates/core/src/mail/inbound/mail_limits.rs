//! The rate limits of direct mail, before the node decrypts a frame.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{Batch, Busy, Frame, Payload, Response};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gate::limits::Author;
use crate::gate::sender::Sender;
use crate::mail::Mail;

/// Pause that a `Busy` response asks for when the parent does not read, in ms. Our choice.
const BUSY_MS: u64 = 250;
/// Time after which a sender should send a frame again that waits for the registry, in ms: our choice, as
/// long as a read from a public RPC server takes.
const REGISTRY_BUSY_MS: u64 = 300;

impl Mail {
    /// Returns the response to a frame whose messages the node cannot accept now, and whose sender keeps
    /// them.
    pub(crate) fn defer_batch(
        &self,
        sender: &Sender,
        batch: &Batch,
        gate: &Gate,
        cx: &mut Cx,
    ) -> Option<Response> {
        let (counter, retry_after_ms) = if !self.has_room_for(sender, batch, gate, cx) || cx.is_flushing() {
            (Counter::MailBusy, BUSY_MS)
        } else if sender.awaits_registry() && !batch.messages.is_empty() {
            (Counter::RegistryMailDeferred, REGISTRY_BUSY_MS)
        } else {
            return None;
        };
        cx.stats.count(counter);
        Some(Response::Busy(Busy { retry_after_ms }))
    }
}

/// Returns the response to a frame of a peer that sends too many, before the node reads it.
pub(crate) fn limit_mail_frames(
    peer: PeerId,
    gate: &mut Gate,
    directory: &Directory,
    cx: &mut Cx,
) -> Option<Response> {
    let tier = gate.tier_of_peer(&peer, || directory.agent_of(&peer, cx));
    let wait = gate.limits.admit_mail_frame(peer, tier, cx.now.mono).err()?;
    Some(reply_over_limit(Counter::MailFramesOverLimit, wait, cx))
}

/// Returns the response to a frame whose author may not send mail now, before the node decrypts it.
/// Frames of acks alone are not encrypted, and have no limit.
pub(crate) fn limit_mail(
    frame: &Frame,
    gate: &mut Gate,
    directory: &Directory,
    cx: &mut Cx,
) -> Option<Response> {
    let now = cx.now.mono;
    let binding = &frame.binding.binding;
    let tier = gate.tier(Some(&binding.account), &binding.peer_id);
    let is_met = directory.records.is_met(&binding.account);
    let author = Author { agent: &binding.account, node: &binding.peer_id, tier, is_met };
    let is_sealed = match &frame.body.payload {
        Some(Payload::Sealed(_)) => true,
        Some(Payload::Session(_)) => false,
        Some(Payload::Plain(_)) | None => return None,
    };
    if !gate.limits.mail.has_room(author, 0, now) {
        let wait = gate.limits.mail.retry_after(author, usize::MAX, 0, now);
        return Some(reply_over_limit(Counter::MailOverLimit, wait, cx));
    }
    if is_sealed && let Err(wait) = gate.limits.admit_key_exchange(binding.peer_id, tier, now) {
        return Some(reply_over_limit(Counter::KeyExchangesOverLimit, wait, cx));
    }
    None
}

/// Asks the sender of a frame to send it again when its limits have room.
fn reply_over_limit(counter: Counter, wait: Duration, cx: &mut Cx) -> Response {
    cx.stats.count(counter);
    Response::Busy(Busy { retry_after_ms: wait.as_millis() as u64 + 1 })
}
