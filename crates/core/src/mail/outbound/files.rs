//! Messages with files that the node offers to their recipients.

use alloy_primitives::Address;
use p2p_node_protocol::{DeliveryState, ErrorCode};

use crate::cx::Cx;
use crate::file_io::FileHash;
use crate::mail::Mail;
use crate::mail::outbound::lane::Lane;
use crate::mail::outbound::outbox::Outbox;
use crate::mail::outbound::stream::QueuedMessage;
use crate::outgoing::{OutgoingFile, OutgoingMessage};
use crate::replies::reply_to::ReplyTo;

/// A file that the node offers to an agent.
pub(crate) struct OfferedFile {
    pub(crate) file: OutgoingFile,
    pub(crate) message_id: String,
    pub(crate) command: ReplyTo,
}

fn has_hash(draft: &OutgoingMessage, hash: &FileHash) -> bool {
    draft.file.as_ref().is_some_and(|file| file.offer.hash.as_ref() == hash)
}

impl Outbox {
    /// Returns the file with this hash that a message in the outbox offers to an agent.
    pub(crate) fn offered_file(&self, recipient: &Address, hash: &FileHash) -> Option<OfferedFile> {
        let lane = &self.known(recipient)?.streams[Lane::Files.index()];
        let mail = lane.find(|draft| has_hash(draft, hash))?;
        let (_, message_id, _) = lane.names_of(mail);
        let file = mail.draft.file.as_deref()?.clone();
        Some(OfferedFile { file, message_id, command: mail.draft.command.clone() })
    }
}

impl Mail {
    /// Ends the messages to an agent whose file is not what it was when it was offered.
    pub(crate) fn fail_changed_file(&mut self, recipient: &Address, hash: &FileHash, cx: &mut Cx) {
        let is_meant =
            |_: usize, mail: &QueuedMessage, _: bool| mail.persisted && has_hash(&mail.draft, hash);
        for ended in self.outbox.remove_if(recipient, is_meant) {
            self.report_failed(ended, DeliveryState::Failed, ErrorCode::FileChanged, cx);
        }
    }

    /// Offers the next file to an agent at once, because it may have the last one.
    pub(crate) fn resume_files(&mut self, recipient: &Address) {
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.resume_files();
            self.recipients_to_flush.insert(*recipient);
        }
    }
}
