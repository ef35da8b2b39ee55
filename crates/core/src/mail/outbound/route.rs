//! The route of the next frame to a recipient.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::Route;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::MAX_TOPIC_BYTES;
use crate::cx::Cx;
use crate::mail::outbound::destination::Destination;
use crate::peers::Peers;
use crate::peers::candidate::Candidate;

/// How long `auto` waits for a dial before it uses gossip. Our choice: a dial on a healthy network
/// takes less.
const AUTO_DIAL_WAIT: Duration = Duration::from_secs(3);
/// How long `direct` waits for a dial. The swarm gives up a dial before that.
const DIRECT_DIAL_WAIT: Duration = Duration::from_secs(11);

/// The route of the next frame to a recipient.
#[derive(Clone, Copy)]
pub(super) enum RouteDecision {
    Direct,
    Gossip,
    Dial(Duration),
}

/// What the node knows of the way to a recipient.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// The recipient's node is connected.
    connected: bool,
    /// The messages have already waited for a dial.
    waited: bool,
    /// The last dial failed, and its backoff has not ended.
    unreachable: bool,
}

impl Reach {
    pub(super) fn of(destination: &Destination, peer: &PeerId, peers: &Peers, now: Instant) -> Reach {
        Reach {
            connected: peers.is_admitted(peer),
            waited: destination.dialing_until.is_some() || destination.unreachable,
            unreachable: peers.is_unreachable(peer, now),
        }
    }

    /// Returns the route of the next frame. `heads` are the next messages by priority, each with
    /// its route and its size in bytes. A message of lower priority that can be sent does not wait
    /// for one of higher priority that cannot.
    pub(super) fn route(self, heads: &[(Route, usize)]) -> Option<RouteDecision> {
        let mut ways = heads.iter().map(|head| self.route_of(*head));
        let first = ways.next()?;
        Some(match first {
            RouteDecision::Dial(_) => {
                ways.find(|way| !matches!(way, RouteDecision::Dial(_))).unwrap_or(first)
            }
            RouteDecision::Direct | RouteDecision::Gossip => first,
        })
    }

    /// Returns `true` if a message would go over a connection that a dial may open now.
    pub(super) fn needs_dial(self, heads: &[(Route, usize)]) -> bool {
        !self.unreachable && heads.iter().any(|head| matches!(self.route_of(*head), RouteDecision::Dial(_)))
    }

    fn route_of(self, (wanted, size): (Route, usize)) -> RouteDecision {
        match wanted {
            _ if self.connected && wanted != Route::Gossip => RouteDecision::Direct,
            // A message that is too large for a gossip frame has only the direct route.
            Route::Auto | Route::Direct if size > MAX_TOPIC_BYTES => RouteDecision::Dial(DIRECT_DIAL_WAIT),
            Route::Direct => RouteDecision::Dial(DIRECT_DIAL_WAIT),
            Route::Auto if !self.waited && !self.unreachable => RouteDecision::Dial(AUTO_DIAL_WAIT),
            Route::Auto | Route::Gossip => RouteDecision::Gossip,
        }
    }
}

/// Dials the node of a recipient, unless that node closed the last connections.
pub(super) fn dial_recipient(
    destination: &mut Destination,
    record: &SignedRecord,
    wait: Duration,
    peers: &mut Peers,
    cx: &mut Cx,
) {
    let (now, peer) = (cx.now.mono, record.peer_id());
    destination.suspect();
    if let Some(until) = peers.short_connections_until(&peer, now) {
        destination.paced_until = until;
        return;
    }
    destination.dialing_until = Some(now + wait);
    peers.dial_for_mail(Candidate::from(record), cx);
}
