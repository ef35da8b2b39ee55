//! The parent side: the commands of the clients, the parent's pipe, and the shutdown.

pub(crate) mod admission;
pub(crate) mod client_load;
pub(crate) mod connecting;
pub(crate) mod discovery;
pub(crate) mod file_sends;
pub(crate) mod leaving;
pub(crate) mod names;
pub(crate) mod on_access;
pub(crate) mod on_ask;
pub(crate) mod on_cancel;
pub(crate) mod on_command;
pub(crate) mod on_discover;
pub(crate) mod on_respond;
pub(crate) mod on_send;
pub(crate) mod peer_discovered;
pub(crate) mod require_delivery;
pub mod send_lane;
pub(crate) mod shutdown;
pub(crate) mod starting;

use p2p_node_protocol::MAX_LINE_BYTES;
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::lifecycle::Phase;
use crate::timers::TimerTable;
use crate::usage::Usage;
use crate::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES};
use discovery::Discovery;
use file_sends::FileSends;
use names::Names;
use on_command::Recipient;
use send_lane::SendLane;
use starting::DeferredCommands;

/// State of the clients' commands and of the node's lifecycle.
#[derive(Debug)]
pub(crate) struct Parent {
    /// `true` if reading stdin or writing stdout failed.
    pub(crate) pipe_broken: bool,
    /// Earliest time of the exit, so that peers can read the last answers and broadcasts.
    pub(crate) stay_until: Instant,
    /// The time at which a node whose stdin has ended stops receiving.
    pub(crate) receive_until: Option<Instant>,
    /// `discover` commands that are running.
    pub(crate) discoveries: Vec<Discovery>,
    /// The recipient of the last `send`, parsed.
    pub(crate) recipient_parse_cache: Option<(String, Recipient)>,
    /// Commands that wait for `ready`.
    pub(crate) deferred: DeferredCommands,
    /// Commands that wait for the addresses of names.
    pub(crate) names: Names,
    /// `send` commands that wait for room.
    pub(crate) send_lane: SendLane,
    /// `send` commands whose files are being hashed.
    pub(crate) file_sends: FileSends,
    /// `true` if the node refused waiting `send` commands because it closes.
    pub(crate) sends_abandoned: bool,
}

impl Parent {
    /// `resolves_names` states that the configuration names RPC servers.
    pub(crate) fn new(resolves_names: bool) -> Self {
        Parent {
            pipe_broken: false,
            stay_until: Instant::ZERO,
            receive_until: None,
            discoveries: Vec::new(),
            recipient_parse_cache: None,
            deferred: DeferredCommands::default(),
            names: Names::new(resolves_names),
            send_lane: SendLane::default(),
            file_sends: FileSends::default(),
            sends_abandoned: false,
        }
    }

    /// Enters the timers of the parent side.
    pub(crate) fn timers(&self, timers: &mut TimerTable, cx: &Cx) {
        if cx.phase != Phase::Exited {
            timers.enter("clients that leave", self.leaving_deadline(cx));
            timers.enter("patience with clients", cx.replies.clients.pace_deadline());
            timers.enter("pauses of clients", cx.replies.clients.next_resumption());
        }
        match cx.phase {
            Phase::Flushing { deadline, stay_until, .. } => {
                let is_flushed = cx.replies.clients.are_flushed();
                return timers.enter("exit", Some(if is_flushed { stay_until } else { deadline }));
            }
            Phase::Starting { report_by, .. } => {
                timers.enter("report of the sockets", report_by);
                return timers.enter("pause before ready", self.deferred.next_deadline());
            }
            // A node that waits for deliveries without a limit has no deadline of its own.
            Phase::Closing { deadline, .. } => {
                timers.enter("end of the drain", Some(deadline).filter(|at| *at < Instant::MAX));
            }
            Phase::Ready => {}
            Phase::Idle | Phase::Exited => return,
        }
        timers.enter("end of receiving", self.receive_until);
        timers.enter("addresses of names", self.names.next_deadline());
        timers.enter("send lane", self.lane_deadline(cx));
        timers.enter("discoveries", self.discovery_deadline(cx));
    }

    /// Returns the size of each collection of each client, with its limit.
    pub(crate) fn usage(&self, cx: &Cx) -> Vec<Usage> {
        let of_clients = cx.replies.clients.iter().flat_map(|(client, _)| self.usage_of(client));
        of_clients.chain(self.names.usage()).chain([self.file_sends.usage()]).collect()
    }

    fn usage_of(&self, client: ClientId) -> impl Iterator<Item = Usage> {
        let (lane, deferred) = (self.send_lane.of(client), self.deferred.sends_of(client));
        let unresolved = self.names.waiting_of(client);
        [
            ("waiting sends", lane.count(), MAX_INFLIGHT + 1),
            ("bytes of waiting sends", lane.bytes(), MAX_INFLIGHT_BYTES + crate::MAX_DIRECT_BYTES),
            ("deferred commands", self.deferred.len_of(client), 2 * MAX_INFLIGHT + 1),
            ("bytes of deferred sends", deferred.bytes(), MAX_INFLIGHT_BYTES + MAX_LINE_BYTES),
            ("commands that wait for addresses", unresolved.count(), MAX_INFLIGHT + 1),
            (
                "bytes of sends that wait for addresses",
                unresolved.bytes(),
                MAX_INFLIGHT_BYTES + MAX_LINE_BYTES,
            ),
            ("discoveries", self.discoveries_of(client), MAX_INFLIGHT),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
    }
}

#[cfg(test)]
mod tests;
