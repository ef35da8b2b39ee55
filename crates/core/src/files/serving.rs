//! Files that other nodes fetch from this one: only the agent of the message, only while the message lives.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;

use super::Files;
use super::progress::TransferOf;
use crate::cx::Cx;
use crate::file_io::{FileCommand, FileHash, ServeEnd};
use crate::input::Token;
use crate::mail::Mail;
use crate::peers::Peers;

/// Largest number of files that others fetch at the same time. Our choice: each costs the driver a window of
/// some MiB.
pub(crate) const MAX_SERVED: usize = 32;
/// Largest number of files that one peer fetches at the same time: one, and another while the node does not
/// know yet that the connection of the first has ended.
const MAX_SERVED_PER_PEER: usize = 2;

/// A file that another node fetches.
#[derive(Debug)]
pub(crate) struct Serving {
    peer: PeerId,
    recipient: Address,
    hash: FileHash,
    transfer: TransferOf,
}

impl Files {
    /// Handles the request of a peer for a file: the node sends it only to the agent to whom it offers it.
    pub(super) fn on_requested(
        &mut self,
        token: Token,
        peer: PeerId,
        hash: FileHash,
        peers: &Peers,
        mail: &Mail,
        cx: &mut Cx,
    ) {
        let of_peer = self.serving.values().filter(|serving| serving.peer == peer).count();
        let has_room = self.serving.len() < MAX_SERVED && of_peer < MAX_SERVED_PER_PEER;
        let offered = peers.admitted_agent(&peer).and_then(|recipient| {
            mail.outbox.offered_file(&recipient, &hash).map(|offered| (recipient, offered))
        });
        let Some((recipient, offered)) = offered.filter(|_| has_room) else {
            cx.stats.count(Counter::FileRequestsRefused);
            return cx.file(FileCommand::Refuse { token });
        };
        let (path, size) = (offered.file.path, offered.file.offer.size);
        let transfer = TransferOf::sent(offered.message_id, recipient, size, offered.command);
        self.serving.insert(token, Serving { peer, recipient, hash, transfer });
        cx.file(FileCommand::Serve { token, path, hash, size });
    }

    pub(super) fn on_served(&mut self, token: Token, bytes: u64, peers: &mut Peers, cx: &mut Cx) {
        if let Some(serving) = self.serving.get_mut(&token) {
            peers.touch(&serving.peer, cx);
            serving.transfer.report(bytes, cx);
        }
    }

    pub(super) fn on_serve_ended(
        &mut self,
        token: Token,
        sent: u64,
        end: ServeEnd,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        let Some(serving) = self.serving.remove(&token) else { return };
        cx.stats.add(Counter::FileBytesSent, sent);
        match end {
            ServeEnd::Complete => mail.resume_files(&serving.recipient),
            ServeEnd::Changed => {
                cx.stats.count(Counter::FileTransfersFailed);
                mail.fail_changed_file(&serving.recipient, &serving.hash, cx);
            }
            ServeEnd::Broken => {
                cx.stats.count(Counter::FileTransfersFailed);
                // A peer that takes nothing does not cause offer after offer.
                if sent > 0 {
                    mail.resume_files(&serving.recipient);
                }
            }
        }
    }

    /// Stops to send the files of messages that have ended.
    pub(super) fn stop_ended_messages(&mut self, mail: &Mail, cx: &mut Cx) {
        for (token, serving) in &mut self.serving {
            if !serving.transfer.is_stopped
                && mail.outbox.offered_file(&serving.recipient, &serving.hash).is_none()
            {
                serving.transfer.is_stopped = true;
                cx.file(FileCommand::StopServing { token: *token });
            }
        }
    }
}
