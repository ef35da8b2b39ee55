//! Reports of the transport connections of each peer to the core.

use std::collections::HashMap;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::input::{Input, PeerReport};
use p2p_node_core::local::addresses::is_relayed;

/// The open connections, with the number of each. The limits of the swarm bound them.
#[derive(Debug, Default)]
pub(super) struct LinkReports {
    numbers: HashMap<ConnectionId, u64>,
    last: u64,
}

impl LinkReports {
    /// Returns the report of a new connection.
    pub(super) fn opened(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        endpoint: &ConnectedPoint,
    ) -> Input {
        self.last += 1;
        self.numbers.insert(connection, self.last);
        let (dialer, remote) = (endpoint.is_dialer(), remote_address(endpoint));
        Input::PeerReport { peer, report: PeerReport::LinkOpened { link: self.last, dialer, remote } }
    }

    /// Returns the report of an ended connection.
    pub(super) fn closed(&mut self, connection: ConnectionId, peer: PeerId) -> Option<Input> {
        let link = self.numbers.remove(&connection)?;
        Some(Input::PeerReport { peer, report: PeerReport::LinkClosed { link } })
    }
}

/// Returns the address of the other end. That of a peer behind a relay names the relay, which libp2p
/// says only in the address of this end.
fn remote_address(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, send_back_addr }
            if is_relayed(local_addr) && !is_relayed(send_back_addr) =>
        {
            local_addr.iter().chain(send_back_addr).collect()
        }
        _ => endpoint.get_remote_address().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_a_peer_behind_a_relay_names_the_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let circuit = format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit");
        let endpoint = ConnectedPoint::Listener {
            local_addr: circuit.parse().expect("an address"),
            send_back_addr: format!("/p2p/{peer}").parse().expect("an address"),
        };
        assert_eq!(remote_address(&endpoint).to_string(), format!("{circuit}/p2p/{peer}"));
    }

    #[test]
    fn each_connection_has_a_number_of_its_own_until_it_ends() {
        let (mut reports, peer) = (LinkReports::default(), PeerId::random());
        let endpoint = ConnectedPoint::Listener {
            local_addr: Multiaddr::empty(),
            send_back_addr: "/ip4/192.0.2.1/tcp/1".parse().expect("an address"),
        };
        let (first, second) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let opened = [first, second].map(|connection| match reports.opened(connection, peer, &endpoint) {
            Input::PeerReport { report: PeerReport::LinkOpened { link, .. }, .. } => link,
            _ => 0,
        });
        assert_eq!(opened, [1, 2]);
        let is_first =
            |input| matches!(input, Input::PeerReport { report: PeerReport::LinkClosed { link: 1 }, .. });
        assert!(reports.closed(first, peer).is_some_and(is_first));
        assert!(reports.closed(first, peer).is_none());
    }
}
