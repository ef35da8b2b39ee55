//! `send` commands with files: the node hashes each file before it accepts the message.

use std::collections::BTreeMap;

use p2p_node_protocol::{ErrorCode, Id};
use p2p_node_wire::envelope::FileOffer;
use p2p_node_wire::envelope::file_offer::is_file_name;

use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::file_io::{FileCommand, HashFault, HashedFile};
use crate::gossip::Gossip;
use crate::mail::Mail;
use crate::outgoing::OutgoingFile;
use crate::parent::Parent;
use crate::parent::send_lane::{To, WaitingSend};
use crate::peers::Peers;
use crate::usage::Usage;

/// Largest number of files that wait to be hashed. Our choice: a directory of documents. The driver hashes one
/// at a time.
const MAX_HASHING: usize = 256;

/// A `send` whose file the driver hashes.
#[derive(Debug)]
struct Hashing {
    to: To,
    send: WaitingSend,
    path: String,
}

/// The `send` commands whose files the driver hashes.
#[derive(Debug, Default)]
pub(crate) struct FileSends {
    hashing: BTreeMap<u64, Hashing>,
    last_number: u64,
}

impl FileSends {
    pub(crate) fn is_empty(&self) -> bool {
        self.hashing.is_empty()
    }

    /// Returns `true` if a `send` of a client waits.
    pub(crate) fn has_client(&self, client: ClientId) -> bool {
        self.hashing.values().any(|hashing| hashing.send.draft.command.client == client)
    }

    /// Forgets the commands of a client that is gone.
    pub(crate) fn remove_of(&mut self, client: ClientId) {
        self.hashing.retain(|_, hashing| hashing.send.draft.command.client != client);
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage { name: "files to hash", size: self.hashing.len(), limit: MAX_HASHING }
    }
}

impl Parent {
    /// Begins a `send` with a file, which the driver hashes first.
    pub(crate) fn send_file(&mut self, to: To, send: WaitingSend, path: String, max_bytes: u64, cx: &mut Cx) {
        let sends = &mut self.file_sends;
        if sends.hashing.len() >= MAX_HASHING {
            let message = "too many files wait to be read; send again when the node has accepted some";
            return cx.refuse_send(send.draft.command, ErrorCode::Busy, message);
        }
        sends.last_number += 1;
        cx.file(FileCommand::Hash { number: sends.last_number, path: path.clone(), max_bytes });
        sends.hashing.insert(sends.last_number, Hashing { to, send, path });
    }

    /// Accepts the `send` whose file was hashed, or refuses it.
    pub(crate) fn on_hashed(
        &mut self,
        number: u64,
        outcome: Result<HashedFile, HashFault>,
        peers: &mut Peers,
        gossip: &mut Gossip,
        mail: &mut Mail,
        cx: &mut Cx,
    ) {
        // A `cancel`, or the end of the client, removes a command.
        let Some(Hashing { to, mut send, path }) = self.file_sends.hashing.remove(&number) else { return };
        match outcome {
            Ok(HashedFile { hash, size, name }) => {
                let name = Some(name).filter(|name| is_file_name(name)).unwrap_or_default();
                let offer = FileOffer { hash: hash.to_vec().into(), size, name };
                send.draft.file = Some(Box::new(OutgoingFile { path, offer }));
                self.admit_or_queue(to, send, peers, gossip, mail, cx);
            }
            Err(HashFault::TooLarge(size)) => {
                let max = mail.file_limits.max_bytes;
                let message =
                    format!("`file` has {size} bytes; this node sends at most {max} (`--max-file`)");
                cx.refuse_send(send.draft.command, ErrorCode::FileTooLarge, message);
            }
            Err(HashFault::Unreadable(why)) => {
                let message = format!("`file` cannot be sent: {why}");
                cx.refuse_send(send.draft.command, ErrorCode::FileUnavailable, message);
            }
        }
    }

    /// Cancels the `send` of a client whose file is being hashed. Returns `false` if there is none.
    pub(crate) fn cancel_file_send(&mut self, client: ClientId, target: &Id, cx: &mut Cx) -> bool {
        self.refuse_file_sends(
            |hashing| hashing.send.draft.command.is(client, target),
            (ErrorCode::Cancelled, "a `cancel` command ended this `send`"),
            cx,
        )
    }

    /// Refuses every `send` whose file is being hashed, because the node closes.
    pub(crate) fn abandon_file_sends(&mut self, cx: &mut Cx) {
        let message = "the node closed before it had read the file of the `send`";
        self.sends_abandoned |= self.refuse_file_sends(|_| true, (ErrorCode::ShuttingDown, message), cx);
    }

    fn refuse_file_sends(
        &mut self,
        is_meant: impl Fn(&Hashing) -> bool,
        (code, message): (ErrorCode, &str),
        cx: &mut Cx,
    ) -> bool {
        let refused: Vec<_> =
            self.file_sends.hashing.extract_if(.., |_, hashing| is_meant(hashing)).collect();
        let is_any = !refused.is_empty();
        for (_, Hashing { send, .. }) in refused {
            cx.refuse_send(send.draft.command, code, message);
        }
        is_any
    }
}
