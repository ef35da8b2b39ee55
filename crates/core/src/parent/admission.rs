//! Admission of `send` commands: the node accepts a `send` at once, queues it in the send lane, or
//! refuses it.

use p2p_node_protocol::{Counter, ErrorCode, Id};
use p2p_node_wire::time::Instant;

use crate::Phase;
use crate::capacity::{NoRoom, Wait};
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::gossip::Gossip;
use crate::mail::Mail;
use crate::outgoing::OutgoingMessage;
use crate::parent::Parent;
use crate::parent::send_lane::{To, WaitingSend};
use crate::peers::Peers;

impl Parent {
    /// Accepts a `send`, queues it in the send lane, or refuses it if waiting cannot help.
    pub(crate) fn admit_or_queue(
        &mut self,
        to: To,
        send: WaitingSend,
        peers: &mut Peers,
        gossip: &mut Gossip,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let WaitingSend { draft, length } = send;
        let now = cx.now;
        let no_room = if self.send_lane.has_line(&to, draft.priority) {
            Box::new(NoRoom { draft, wait: Wait::Shared(Instant::MAX) })
        } else {
            match admit(&to, draft, peers, gossip, mail, cx) {
                Ok(()) => return,
                Err(no_room) => no_room,
            }
        };
        let NoRoom { draft, wait } = *no_room;
        let is_over = self.send_lane.is_over(draft.command.client);
        if is_over || !wait.may_help(now.mono) || !has_subscriber(&to, peers) {
            cx.stats.count(Counter::SendsRefused);
            let (code, message) = if is_over { busy(&to) } else { wait_over(&to) };
            return cx.refuse_send(draft.command, code, message);
        }
        cx.stats.count(Counter::SendsDeferred);
        cx.replies.clients.open_send(&draft.command);
        self.send_lane.push(to, WaitingSend { draft, length }, now.mono);
    }

    /// Accepts the waiting `send` commands that have room now, and refuses those whose wait is
    /// over.
    pub(crate) fn admit_waiting(
        &mut self,
        peers: &mut Peers,
        gossip: &mut Gossip,
        mail: &mut Mail,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        if self.send_lane.is_empty() {
            return;
        }
        self.address_waiting(directory, cx);
        for key in self.send_lane.lines_in_rotation() {
            while let Some(head) = self.send_lane.head(&key) {
                if let Some(wait) = wait_for(&key.0, &head.draft, gossip, mail, now.mono) {
                    let may_wait =
                        self.send_lane.may_wait(&key, wait, now.mono) && has_subscriber(&key.0, peers);
                    // While the node closes, waits for room end with the drain.
                    let ends_now = matches!(key.0, To::Node(_)) || !self.is_closing(cx);
                    if !may_wait && ends_now {
                        let sends = self.send_lane.remove_line(&key);
                        refuse_waiting(wait_over(&key.0), sends, cx);
                    }
                    break;
                }
                let Some(WaitingSend { draft, length }) = self.send_lane.serve(&key, now.mono) else {
                    break;
                };
                if let Err(no_room) = admit(&key.0, draft, peers, gossip, mail, cx) {
                    // Unreachable in practice: `wait_for` has just found room.
                    let sends = [WaitingSend { draft: no_room.draft, length }];
                    refuse_waiting(busy(&key.0), sends, cx);
                    break;
                }
            }
        }
        for (to, sends) in self.send_lane.end_pauses(now.mono) {
            refuse_waiting(busy(&to), sends, cx);
        }
    }

    /// Moves the `send` commands that waited for the record of their recipient to its lines.
    fn address_waiting(&mut self, directory: &Directory, cx: &Cx) {
        for key in self.send_lane.lines_in_rotation() {
            let To::Node(peer) = &key.0 else { continue };
            let Some(record) = directory.records.by_peer(peer, cx.now.unix_ms) else { continue };
            for send in self.send_lane.remove_line(&key) {
                self.send_lane.push(To::Agent(record.address()), send, cx.now.mono);
            }
        }
    }

    /// Cancels the waiting `send` of a client with this id. Returns `false` if there is none.
    pub(crate) fn cancel_waiting(&mut self, client: ClientId, target: &Id, cx: &mut Cx) -> bool {
        let Some(waiting) = self.send_lane.cancel(client, target) else { return false };
        cx.stats.count(Counter::SendsCancelled);
        cx.refuse_send(waiting.draft.command, ErrorCode::Cancelled, "a `cancel` command ended this `send`");
        true
    }

    /// Refuses every waiting `send` because the node closes.
    pub(crate) fn abandon_waiting(&mut self, cx: &mut Cx) {
        for WaitingSend { draft, .. } in self.send_lane.drain() {
            self.sends_abandoned = true;
            let message = "the node closed before the `send` found room";
            cx.refuse_send(draft.command, ErrorCode::ShuttingDown, message);
        }
    }

    /// Returns when a wait in the lane ends next. While the node closes, waits for room end with the
    /// drain.
    pub(crate) fn lane_deadline(&self, cx: &Cx) -> Option<Instant> {
        if self.is_closing(cx) {
            self.send_lane.next_record_deadline()
        } else {
            self.send_lane.next_deadline()
        }
    }

    fn is_closing(&self, cx: &Cx) -> bool {
        matches!(cx.phase, Phase::Closing { .. })
    }
}

/// Accepts a `send` if there is room.
fn admit(
    to: &To,
    draft: OutgoingMessage,
    peers: &mut Peers,
    gossip: &mut Gossip,
    mail: &mut Mail,
    cx: &mut Cx,
) -> Result<(), Box<NoRoom>> {
    match to {
        To::Agent(recipient) => mail.admit_mail(*recipient, draft, cx),
        To::Node(_) => Err(Box::new(NoRoom { wait: Wait::Shared(draft.expires), draft })),
        To::Topic(topic) => gossip.admit_broadcast(topic, draft, peers, cx),
    }
}

/// Returns `true` if the destination can make room: an agent always, a topic if it has connected
/// subscribers.
fn has_subscriber(to: &To, peers: &Peers) -> bool {
    match to {
        To::Agent(_) | To::Node(_) => true,
        To::Topic(topic) => peers.subscribers(topic) > 0,
    }
}

/// Returns until when a `send` has to wait for room or for a record, or `None` if there is room for
/// it.
fn wait_for(
    to: &To,
    draft: &OutgoingMessage,
    gossip: &mut Gossip,
    mail: &Mail,
    now: Instant,
) -> Option<Wait> {
    match to {
        To::Node(_) => Some(Wait::Shared(draft.expires)),
        To::Agent(recipient) => mail.await_write().or_else(|| mail.outbox.wait_for(recipient, draft)),
        To::Topic(topic) => {
            gossip.broadcasts.wait_for(topic, draft).or_else(|| gossip.wait_for_pace(topic, draft, now))
        }
    }
}

fn refuse_waiting(
    (code, message): (ErrorCode, &str),
    sends: impl IntoIterator<Item = WaitingSend>,
    cx: &mut Cx,
) {
    for WaitingSend { draft, .. } in sends {
        cx.stats.count(Counter::SendsRefusedAfterPause);
        cx.refuse_send(draft.command, code, message);
    }
}

/// Returns the error of a `send` for which there was no room.
fn busy(to: &To) -> (ErrorCode, &'static str) {
    let message = match to {
        To::Agent(_) | To::Node(_) => {
            "outbox full, for this recipient or in total; send again when recipients have acknowledged messages"
        }
        To::Topic(_) => {
            "broadcast queue full, or too many topics have queued broadcasts; send again in a moment"
        }
    };
    (ErrorCode::Busy, message)
}

/// Returns the error of a `send` that has waited long enough.
fn wait_over(to: &To) -> (ErrorCode, &'static str) {
    match to {
        To::Node(_) => (
            ErrorCode::PeerNotFound,
            "no verified record names this PeerId; send to the agent's `0x` address instead",
        ),
        To::Agent(_) | To::Topic(_) => busy(to),
    }
}
