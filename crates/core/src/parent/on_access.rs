//! The commands `block`, `allow` and `unblock`, which change the access list, and `peers`, which
//! lists connected peers and the access list.

use p2p_node_protocol::{ConnectedPeer, ErrorCode, Id};

use crate::Core;
use crate::effect::Effect;
use crate::gate::access_list::{AccessRule, Subject};
use crate::parent::on_command::{Recipient, parse_recipient};
use crate::parent::replies::line_bytes;

/// Upper bound of the bytes of a peer in the answer to `peers`, without its name.
const PEER_BYTES: usize = 256;

impl Core {
    /// Sets the access rule of an agent or node, or removes it if `standing` is `None`.
    pub(crate) fn set_standing(
        &mut self,
        id: Option<Id>,
        command: &str,
        of: &str,
        standing: Option<AccessRule>,
    ) {
        let subject = match parse_recipient(of) {
            Ok(Recipient::Address(address)) => Subject::Agent(address),
            Ok(Recipient::Peer(peer)) => Subject::Node(peer),
            Err(message) => return self.cx.refuse(id, ErrorCode::InvalidArgument, message),
        };
        if [Subject::Agent(self.cx.identity.address), Subject::Node(self.cx.identity.peer)].contains(&subject)
        {
            return self.cx.refuse(
                id,
                ErrorCode::InvalidArgument,
                "`peerId` is this agent or its node; name another one",
            );
        }
        match self.gate.access_list.set(subject, standing) {
            Err(full) => return self.cx.refuse(id, ErrorCode::Busy, full.to_string()),
            Ok(true) => self.cx.effects.push_back(Effect::PersistAccessRule { subject, standing }),
            Ok(false) => {}
        }
        self.cx.answer(id, command, |_| {});
    }

    pub(crate) fn list_peers(&mut self, id: Option<Id>) {
        let now = self.cx.now;
        let mut room = self.cx.room_for_lists();
        let mut names = |standing| -> Vec<String> {
            let names = self.gate.access_list.having(standing).map(|subject| subject.to_string());
            names.filter(|name| room.fits(name)).collect()
        };
        let (blocked, allowed) = (names(AccessRule::Blocked), names(AccessRule::Allowed));
        let mut connected = Vec::new();
        for (peer, known) in &self.peers.connected {
            let record = self.directory.records.by_peer(peer, now.unix_ms);
            let name = record.map(|record| record.record.name.clone()).filter(|name| !name.is_empty());
            if !room.takes(PEER_BYTES + name.as_deref().map_or(0, line_bytes)) {
                break;
            }
            connected.push(ConnectedPeer {
                peer_id: peer.to_string(),
                address: record.map(|record| record.address().to_string()),
                name,
                role: record.map(|record| record.record.role),
                connected_for_ms: now.mono.saturating_sub(known.connected_at).as_millis() as u64,
            });
        }
        let count = self.peers.connected.len();
        self.cx.answer(id, "peers", |answer| {
            answer.count = Some(count);
            answer.connected = Some(connected);
            answer.blocked = Some(blocked);
            answer.allowed = Some(allowed);
        });
    }
}
