//! Waits until the node has joined the network, and until pending messages have arrived.

use std::collections::VecDeque;
use std::time::Duration;

use p2p_node_protocol::{ConnectedPeer, Level};
use tokio::time::{Instant, timeout};

use crate::client::deadline;
use crate::events::Event;
use crate::{Error, Node};

/// The usual time to wait for a peer in [`Node::joined`] and [`Node::caught_up`]: 30 s. A dial to a
/// host that does not answer takes 10 s, and the node then dials again.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The usual time without a message in [`Node::caught_up`]: 3 s. A sender starts to send within
/// about one second after it connects.
pub const QUIET: Duration = Duration::from_secs(3);

/// How often the SDK requests the list of peers, in case the event buffer dropped the event of a
/// new peer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The number of node errors that an error quotes. The node reports each bootstrap peer's failure
/// once.
const MAX_ERRORS: usize = 8;

/// The time of the last message or peer event, and the failures that the node reported.
pub(crate) struct Activity {
    last: Instant,
    errors: VecDeque<String>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Activity { last: Instant::now(), errors: VecDeque::new() }
    }

    /// Records that the program finished a message.
    pub(crate) fn touch(&mut self) {
        self.last = Instant::now();
    }

    /// Records an event of the node. Returns `true` if the waiting calls must check again.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::PeerConnected(_) => self.touch(),
            Event::Message(message) if message.topic.is_none() => self.touch(),
            Event::Error(error) => self.add_error(format!("{}: {}", error.code, error.message)),
            Event::Log(log) if log.level == Level::Warn && log.namespace == "discovery" => {
                self.add_error(log.message.clone());
            }
            _ => return false,
        }
        true
    }

    fn add_error(&mut self, text: String) {
        self.errors.retain(|other| *other != text);
        if self.errors.len() >= MAX_ERRORS {
            self.errors.pop_front();
        }
        self.errors.push_back(text);
    }
}

/// Waits until a peer is connected and returns the connected peers.
pub(crate) async fn joined(node: &Node, waited: Duration) -> Result<Vec<ConnectedPeer>, Error> {
    let (deadline, mut activity) = (deadline(waited), node.sink().activity());
    loop {
        activity.mark_unchanged();
        match node.peers_within(deadline.saturating_duration_since(Instant::now())).await {
            Ok(connected) if connected.is_empty() => {}
            // The node is down and may restart before the deadline.
            Err(
                Error::CallTimeout { .. }
                | Error::SidecarRestarted { .. }
                | Error::SidecarUnavailable { .. }
                | Error::WriteTimeout { .. },
            ) => {}
            other => return other,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let (tried, errors) = (node.tried(), activity.borrow().errors.iter().cloned().collect());
            return Err(Error::NotJoined { waited, tried, errors });
        }
        // After an event or the timeout, request the peers again.
        let _ = timeout(left.min(ASK_AGAIN), activity.changed()).await;
    }
}

/// Waits until a peer is connected, no message waits for the program, and for `quiet` nothing has
/// happened. `patience` limits the wait for a peer, and `limit` the wait in all.
pub(crate) async fn caught_up(
    node: &Node,
    quiet: Duration,
    patience: Duration,
    limit: Option<Duration>,
) -> Result<(), Error> {
    let (end, mut activity) = (limit.map(deadline), node.sink().activity());
    joined(node, patience).await?;
    loop {
        let left = (activity.borrow_and_update().last + quiet).saturating_duration_since(Instant::now());
        let has_mail = node.sink().has_mail();
        if left.is_zero() && !has_mail {
            // Check again: the peer may have disconnected, and a message may have arrived
            // meanwhile.
            joined(node, patience).await?;
            if activity.borrow().last.elapsed() >= quiet && !node.sink().has_mail() {
                return Ok(());
            }
            continue;
        }
        let mut pause = if has_mail { ASK_AGAIN } else { left };
        if let (Some(end), Some(waited)) = (end, limit) {
            pause = pause.min(end.saturating_duration_since(Instant::now()));
            if pause.is_zero() {
                return Err(Error::CallTimeout { what: "caught_up".to_owned(), waited, maybe_sent: false });
            }
        }
        let _ = timeout(pause, activity.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::{ErrorCode, ErrorEvent};

    use super::*;

    #[test]
    fn reported_errors_are_bounded_and_distinct() {
        let mut activity = Activity::new();
        for number in (0..20).chain([19, 18]) {
            let error = ErrorEvent::new(ErrorCode::Internal, number.to_string());
            assert!(activity.note(&Event::Error(Box::new(error))));
        }
        assert_eq!(activity.errors.len(), MAX_ERRORS);
        assert!(activity.errors[7].ends_with("18") && activity.errors[6].ends_with("19"));
    }
}
