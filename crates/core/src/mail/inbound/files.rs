//! Messages with files: the node accepts one when it has the file.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{ErrorCode, ReceivedFile};
use p2p_node_wire::envelope;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::message_id::StreamId;

use crate::cx::Cx;
use crate::file_io::FileHash;
use crate::gate::sender::Sender;
use crate::gate::tier::Tier;
use crate::mail::Mail;
use crate::mail::inbound::inbox::Key;
use crate::mail::inbound::unacked::MessageName;
use crate::signal::Signal;

/// Largest number of decisions about files whose messages have not come again. Our choice: as many as the
/// node fetches at once, many times over.
pub(crate) const MAX_DECISIONS: usize = 1024;

/// What becomes of a message with a file.
#[derive(Clone, Debug)]
pub(crate) enum FileDecision {
    /// The node has the file.
    Here(ReceivedFile),
    /// The node rejects the message.
    Rejected(ErrorCode),
}

/// What the node accepts of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// `true` if there is a directory for received files.
    pub has_directory: bool,
    /// Largest file in either direction, in bytes.
    pub max_bytes: u64,
    /// Largest sum of the received files in the directory, in bytes.
    pub quota_bytes: u64,
}

/// Largest file of a stranger, in bytes. Our choice: documents and pictures, no films.
pub const STRANGER_FILE_BYTES: u64 = 16 << 20;

impl FileLimits {
    /// Returns why the node takes no file of this size from an agent of this tier.
    pub(crate) fn refusal(&self, size: u64, tier: Tier) -> Option<ErrorCode> {
        if !self.has_directory {
            return Some(ErrorCode::FilesRefused);
        }
        let largest = match tier {
            Tier::Stranger => self.max_bytes.min(STRANGER_FILE_BYTES),
            Tier::Known | Tier::Allowed => self.max_bytes,
        };
        (size > largest.min(self.quota_bytes)).then_some(ErrorCode::FileTooLarge)
    }
}

/// A file of another agent's message that the node does not have.
#[derive(Debug)]
pub(crate) struct WantedFile {
    pub(crate) sender: Address,
    pub(crate) peer: PeerId,
    pub(crate) is_stranger: bool,
    pub(crate) key: Key,
    pub(crate) seq: u64,
    pub(crate) message_id: String,
    pub(crate) hash: FileHash,
    pub(crate) size: u64,
    pub(crate) name: String,
}

/// The decisions about files.
#[derive(Debug, Default)]
pub(crate) struct FileDecisions(LruMap<(Key, u64), FileDecision>);

impl FileDecisions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Mail {
    /// Decides about a message with a file, which its sender sends again.
    pub(crate) fn decide_file(&mut self, key: Key, seq: u64, decision: FileDecision) {
        self.files.0.insert((key, seq), decision);
        self.files.0.shrink_to(MAX_DECISIONS);
    }

    /// Forgets that the node has a file, because it deletes the file.
    pub(crate) fn forget_file(&mut self, key: Key, seq: u64) {
        self.files.0.remove(&(key, seq));
    }

    /// Returns `true` if the message of a received file waits for the `ack` of a client.
    pub(crate) fn awaits_ack(&self, name: &MessageName) -> bool {
        self.delivery.unacked.contains(name)
    }

    /// Returns `true` if a message waits for its file, so that the inbox must not have it yet.
    pub(super) fn must_wait_for_file(
        &mut self,
        sender: &mut Sender,
        stream: StreamId,
        message: &envelope::Message,
        cx: &mut Cx,
    ) -> bool {
        let Some(offer) = &message.file else { return false };
        let (key, next) = ((sender.address, stream), self.inbox.next_seq(&sender.address, &stream));
        if message.seq < next || sender.refusal().is_some() {
            return false;
        }
        if message.base_seq > next {
            return true;
        }
        if self.files.0.contains_key(&(key, message.seq)) {
            return false;
        }
        let Ok(hash) = offer.hash.as_ref().try_into() else { return true };
        if let Some(code) = self.file_limits.refusal(offer.size, sender.tier) {
            self.decide_file(key, message.seq, FileDecision::Rejected(code));
            return false;
        }
        cx.signal(Signal::FileWanted(Box::new(WantedFile {
            sender: sender.address,
            peer: sender.peer_id,
            is_stranger: sender.tier == Tier::Stranger,
            key,
            seq: message.seq,
            message_id: sender.message_id(stream, message.seq),
            hash,
            size: offer.size,
            name: offer.name.clone(),
        })));
        true
    }

    /// Returns the file of a message that is next in its stream, or why the node rejects the message.
    pub(super) fn take_file(
        &mut self,
        key: Key,
        message: &envelope::Message,
    ) -> Result<Option<ReceivedFile>, ErrorCode> {
        if message.file.is_none() {
            return Ok(None);
        }
        match self.files.0.remove(&(key, message.seq)) {
            Some(FileDecision::Here(file)) => Ok(Some(file)),
            Some(FileDecision::Rejected(code)) => Err(code),
            None => Err(ErrorCode::FilesRefused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_limit_of_files_follows_the_tier_the_setting_and_the_quota() {
        let limits = FileLimits { has_directory: true, max_bytes: 1 << 30, quota_bytes: 1 << 29 };
        let large = Some(ErrorCode::FileTooLarge);
        assert_eq!(limits.refusal(STRANGER_FILE_BYTES, Tier::Stranger), None);
        assert_eq!(limits.refusal(STRANGER_FILE_BYTES + 1, Tier::Stranger), large);
        assert_eq!(limits.refusal(1 << 29, Tier::Known), None);
        assert_eq!(limits.refusal((1 << 29) + 1, Tier::Known), large, "the quota holds no larger file");
        let few = FileLimits { max_bytes: 10, ..limits };
        assert_eq!((few.refusal(10, Tier::Allowed), few.refusal(11, Tier::Allowed)), (None, large));
        let none = FileLimits { has_directory: false, ..limits };
        assert_eq!(none.refusal(0, Tier::Allowed), Some(ErrorCode::FilesRefused));
    }
}
