//! Clients that attach and leave, while the node stays. Only the parent, or a signal, ends the node.

use std::time::Duration;

use p2p_node_protocol::{Closing, Command, Counter, ErrorCode, ErrorEvent, Event};
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::effect::Effect;
use crate::gossip::Gossip;
use crate::input::ClientEvent;
use crate::local::Local;
use crate::mail::Mail;
use crate::parent::Parent;
use crate::replies::client::{Client, Leaving};
use crate::replies::clients::MAX_CLIENTS;
use crate::replies::output_queue::MAX_REQUIRED_LINES;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;

/// Longest time for a client that leaves to read its last lines. As for the parent.
const FLUSH_TIMEOUT: Duration = super::shutdown::FLUSH_TIMEOUT;

/// Limit of the lines that an attached client must get and does not read: the node then closes the
/// client. Our choice: four times the lines at which the node reads no more commands of the client,
/// for the ends of the messages that it accepted before.
pub(crate) const MAX_UNREAD: usize = 4 * MAX_REQUIRED_LINES;

/// Returns why a node on the network refuses a command of an attached client: the client leaves, or
/// it has not connected.
pub(crate) fn refuse_attached(
    client: ClientId,
    command: &Command,
    cx: &Cx,
) -> Option<(ErrorCode, &'static str)> {
    if client == ClientId::PARENT || !cx.is_serving() {
        return None;
    }
    let client = cx.replies.clients.get(client)?;
    match &client.leaving {
        Some(Leaving::Flushing { .. } | Leaving::Finishing { shutdown: Some(_), .. }) => {
            Some((ErrorCode::ShuttingDown, "this client is leaving and may write no more commands"))
        }
        _ if client.is_connected || command.is_allowed_before_connect() => None,
        _ => Some((
            ErrorCode::NotConnected,
            "the client is not connected; the first command must be `connect`",
        )),
    }
}

impl Parent {
    /// Handles a client that attaches, ends its input, or goes.
    pub(crate) fn on_client(
        &mut self,
        client: ClientId,
        event: ClientEvent,
        gossip: &mut Gossip,
        local: &mut Local,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        match event {
            ClientEvent::Attached => attach(client, cx),
            ClientEvent::InputEnded => leave(client, "eof", None, cx),
            ClientEvent::Detached => self.remove_client(client, gossip, local, mail, cx),
        }
    }

    /// Handles `shutdown`. That of the parent ends the node. An attached client leaves.
    pub(crate) fn on_shutdown_command(&mut self, to: ReplyTo, cx: &mut Cx) {
        if to.client == ClientId::PARENT {
            return self.close("shutdown", Some(to), cx);
        }
        cx.replies.clients.open_request(&to);
        leave(to.client, "shutdown", Some(to), cx);
    }

    /// Hands the messages that wait to the clients, ends the pauses of those that wrote too many commands, lets
    /// those go that have finished, and closes those that do not read.
    pub(crate) fn check_attached(
        &mut self,
        gossip: &mut Gossip,
        local: &mut Local,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        mail.hand_over_waiting(cx);
        let now = cx.now.mono;
        cx.replies.clients.resume(now);
        let ids: Vec<ClientId> = cx.replies.clients.attached_ids().collect();
        for id in ids {
            let Some(client) = cx.replies.clients.get(id) else { continue };
            let [required, ..] = client.output.lines();
            let is_over = match &client.leaving {
                None => false,
                Some(Leaving::Flushing { deadline }) => client.is_flushed() || now >= *deadline,
                Some(Leaving::Finishing { deadline, .. }) => {
                    if now >= *deadline || self.has_finished(id, client, gossip, mail) {
                        say_goodbye(id, cx);
                    }
                    continue;
                }
            };
            if required > MAX_UNREAD {
                cx.stats.count(Counter::ClientsClosed);
            } else if !is_over {
                continue;
            }
            cx.flush_output();
            cx.effects.push_back(Effect::CloseClient { client: id });
            self.remove_client(id, gossip, local, mail, cx);
        }
    }

    /// Returns `true` if the node owes the client nothing but the answer to its `shutdown`.
    fn has_finished(&self, id: ClientId, client: &Client, gossip: &Gossip, mail: &Mail) -> bool {
        let is_shutdown =
            matches!(&client.leaving, Some(Leaving::Finishing { shutdown: Some(to), .. }) if to.id.is_some());
        client.open_sends.is_empty()
            && client.open_calls.is_empty()
            && client.open_requests.len() == usize::from(is_shutdown)
            && self.deferred.len_of(id) == 0
            && self.send_lane.of(id).is_empty()
            && !self.file_sends.has_client(id)
            && self.names.waiting_of(id).is_empty()
            && !mail.outbox.has(|draft| draft.command.client == id)
            && !gossip.broadcasts.has(|draft| draft.command.client == id)
    }

    /// Returns when the wait for a client that leaves ends next.
    pub(crate) fn leaving_deadline(&self, cx: &Cx) -> Option<Instant> {
        let leaving = cx.replies.clients.iter().filter_map(|(_, client)| client.leaving.as_ref());
        let deadlines = leaving.map(|leaving| match leaving {
            Leaving::Finishing { deadline, .. } | Leaving::Flushing { deadline } => *deadline,
        });
        deadlines.min()
    }

    /// Removes a client, and the commands that only it waits for. Messages that the node accepted from it
    /// go out all the same.
    fn remove_client(
        &mut self,
        id: ClientId,
        gossip: &mut Gossip,
        local: &mut Local,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let Some(client) = cx.replies.clients.detach(id) else { return };
        self.deferred.remove_of(id);
        self.names.remove_of(id);
        self.send_lane.remove_of(id);
        self.file_sends.remove_of(id);
        self.discoveries.retain(|discovery| discovery.command.client != id);
        gossip.on_client_left(id, local, cx);
        mail.on_client_left(id, client, cx);
        cx.signal(Signal::ClientGone(id));
    }
}

fn attach(id: ClientId, cx: &mut Cx) {
    if cx.replies.clients.attach(id) {
        return cx.stats.count(Counter::ClientsAttached);
    }
    cx.stats.count(Counter::ClientsRefused);
    let message =
        format!("the node has {MAX_CLIENTS} clients, which is as many as it permits; try again later");
    let error = Event::Error(Box::new(ErrorEvent::new(ErrorCode::Busy, message)));
    cx.effects.push_back(Effect::Emit { client: id, event: error, numbered: false });
    cx.effects.push_back(Effect::CloseClient { client: id });
}

/// Begins to let a client go: the node finishes what the client began.
fn leave(id: ClientId, reason: &'static str, shutdown: Option<ReplyTo>, cx: &mut Cx) {
    let deadline = cx.now.mono + cx.identity.drain_timeout;
    if let Some(client) = cx.replies.clients.get_mut(id)
        && client.leaving.is_none()
    {
        client.leaving = Some(Leaving::Finishing { reason, shutdown, deadline });
        cx.signal(Signal::ClientLeaves(id));
    }
}

/// Writes the last lines of a client that leaves.
fn say_goodbye(id: ClientId, cx: &mut Cx) {
    let flushing = Leaving::Flushing { deadline: cx.now.mono + FLUSH_TIMEOUT };
    let leaving = cx.replies.clients.get_mut(id).and_then(|client| client.leaving.replace(flushing));
    let Some(Leaving::Finishing { reason, shutdown, .. }) = leaving else { return };
    if let Some(to) = shutdown {
        cx.answer(to, "shutdown", |_| {});
    }
    let Some(client) = cx.replies.clients.get_mut(id) else { return };
    if client.protocol_v1 {
        client.output.push_required(Event::Closing(Closing { reason: reason.to_owned() }));
    }
    client.output.close();
}

/// Writes the last lines of all clients that leave, because the node closes.
pub(super) fn answer_leaving(cx: &mut Cx) {
    let ids: Vec<ClientId> = cx.replies.clients.attached_ids().collect();
    ids.into_iter().for_each(|id| say_goodbye_if_leaving(id, cx));
}

fn say_goodbye_if_leaving(id: ClientId, cx: &mut Cx) {
    let leaving = cx.replies.clients.get(id).and_then(|client| client.leaving.as_ref());
    if matches!(leaving, Some(Leaving::Finishing { .. })) {
        say_goodbye(id, cx);
    }
}
