//! The directory for received files: what it holds, and what goes when a new file needs the room.
//!
//! A file stays while its message waits for an `ack`, and for [`KEEP`] in any case. After that it goes when a
//! new file needs its room, oldest first. A client that needs a file longer moves it away, and one that needs
//! the room deletes it: the node looks into the directory before it makes a file wait.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_node_wire::message_id::message_name;
use p2p_node_wire::time::Instant;

use crate::file_io::StoredFile;
use crate::mail::Mail;
use crate::mail::inbound::files::FileLimits;
use crate::mail::inbound::inbox::Key;

/// Largest number of received files in the directory. Our choice.
pub(crate) const MAX_STORED: usize = 10_000;

/// How long a received file stays at least. Our choice: long enough for a program that reads its messages late,
/// and acknowledges them by reading them.
pub(crate) const KEEP: Duration = Duration::from_secs(3600);

/// Part of the quota that files of strangers may use: an eighth, our choice, so that they cannot keep out the
/// files of others.
const STRANGERS_PART: u64 = 8;

/// Pause between two looks into the directory. Our choice.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// End of the name of a file that is not complete.
pub(crate) const PART: &str = ".part";

/// A file in the directory.
#[derive(Debug)]
struct Stored {
    bytes: u64,
    is_stranger: bool,
    /// When the file arrived, or the part was used last.
    since: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A part of a file. `is_active` states that it grows, up to `bytes`.
    Part { is_active: bool },
    /// A file, with its message if this process received it.
    Whole { message: Option<(Key, u64)> },
}

/// Room that a file gets.
#[derive(Debug)]
pub(crate) struct Room {
    /// Files to delete.
    pub(crate) evicted: Vec<String>,
}

/// The received files.
#[derive(Debug)]
pub(crate) struct Storage {
    limits: FileLimits,
    files: BTreeMap<String, Stored>,
    /// When the node may look into the directory again; `None` before the first look.
    next_look: Option<Instant>,
    /// The driver has said what the directory holds.
    is_known: bool,
}

impl Storage {
    pub(crate) fn new(limits: FileLimits) -> Self {
        Storage { limits, files: BTreeMap::new(), next_look: None, is_known: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns the bytes of the files, with those that parts will have when they are complete.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    pub(crate) fn quota(&self) -> u64 {
        self.limits.quota_bytes
    }

    /// Returns `true` once the driver has said what the directory holds.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Returns `true` if the node may look into the directory now. The next look comes later.
    pub(crate) fn may_look(&mut self, now: Instant) -> bool {
        let may = self.next_look.is_none_or(|at| at <= now);
        if may {
            self.next_look = Some(now + LOOK_INTERVAL);
        }
        may
    }

    /// Takes over what the directory holds: clients delete files, and earlier processes left some.
    pub(crate) fn reconcile(&mut self, stored: Vec<StoredFile>, now: Instant) {
        self.is_known = true;
        let sizes: BTreeMap<String, u64> = stored.into_iter().map(|file| (file.name, file.bytes)).collect();
        self.files.retain(|name, file| file.is_active() || sizes.contains_key(name));
        for (name, bytes) in sizes {
            let state = match name.ends_with(PART) {
                true => State::Part { is_active: false },
                false => State::Whole { message: None },
            };
            let fresh = || Stored { bytes, is_stranger: false, since: now, state };
            if self.files.len() < MAX_STORED || self.files.contains_key(&name) {
                let file = self.files.entry(name).or_insert_with(fresh);
                if !file.is_active() {
                    file.bytes = bytes;
                }
            }
        }
    }

    /// Makes room for a file that arrives as `part`. Returns what has to go, or `None` if there is no room.
    pub(crate) fn reserve(
        &mut self,
        part: &str,
        bytes: u64,
        is_stranger: bool,
        now: Instant,
        mail: &mut Mail,
    ) -> Option<Room> {
        let own = self.files.get(part).map_or(0, |file| file.bytes);
        let quota = self.limits.quota_bytes;
        let mut evicted = Vec::new();
        let (mut all, mut strangers) = (self.bytes() - own + bytes, self.bytes_of_strangers(part) + bytes);
        let mut count = self.len() + usize::from(!self.files.contains_key(part));
        let is_full = |all: u64, strangers: u64, count: usize| {
            all > quota || count > MAX_STORED || is_stranger && strangers > quota / STRANGERS_PART
        };
        for (_, name) in self.evictable(part, now, mail) {
            if !is_full(all, strangers, count) {
                break;
            }
            let Some(file) = self.files.get(&name) else { continue };
            // Files of others make no room in the share of strangers.
            if all <= quota && count <= MAX_STORED && !file.is_stranger {
                continue;
            }
            (all, count) = (all - file.bytes, count - 1);
            strangers -= if file.is_stranger { file.bytes } else { 0 };
            evicted.push(name);
        }
        if is_full(all, strangers, count) {
            return None;
        }
        for name in &evicted {
            if let Some(Stored { state: State::Whole { message: Some((key, seq)) }, .. }) =
                self.files.remove(name)
            {
                mail.forget_file(key, seq);
            }
        }
        let state = State::Part { is_active: true };
        self.files.insert(part.to_owned(), Stored { bytes, is_stranger, since: now, state });
        Some(Room { evicted })
    }

    fn bytes_of_strangers(&self, but: &str) -> u64 {
        let of_strangers = self.files.iter().filter(|(name, file)| file.is_stranger && *name != but);
        of_strangers.map(|(_, file)| file.bytes).sum()
    }

    /// Returns what may go, in this order: parts, and then whole files, oldest first.
    fn evictable(&self, but: &str, now: Instant, mail: &Mail) -> Vec<((bool, Instant), String)> {
        let may_go = |file: &Stored| match file.state {
            State::Part { is_active } => !is_active,
            State::Whole { message } => {
                let is_unread = message.is_some_and(|((sender, stream), seq)| {
                    mail.awaits_ack(&(message_name(&sender, &stream), seq))
                });
                !is_unread && file.since + KEEP <= now
            }
        };
        let mut evictable: Vec<_> = self
            .files
            .iter()
            .filter(|(name, file)| *name != but && may_go(file))
            .map(|(name, file)| ((file.is_whole(), file.since), name.clone()))
            .collect();
        evictable.sort();
        evictable
    }

    /// Records that a part is complete, under the name of its message.
    pub(crate) fn complete(&mut self, part: &str, name: String, message: (Key, u64), now: Instant) {
        let Some(stored) = self.files.remove(part) else { return };
        let state = State::Whole { message: Some(message) };
        self.files.insert(name, Stored { since: now, state, ..stored });
    }

    /// Records that a part does not grow any more. It keeps all of its room, until another file needs it.
    pub(crate) fn pause(&mut self, part: &str, now: Instant) {
        if let Some(file) = self.files.get_mut(part) {
            (file.since, file.state) = (now, State::Part { is_active: false });
        }
    }

    /// Records that the driver deletes a file.
    pub(crate) fn remove(&mut self, name: &str) {
        self.files.remove(name);
    }
}

impl Stored {
    fn is_active(&self) -> bool {
        self.state == State::Part { is_active: true }
    }

    fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole { .. })
    }
}
