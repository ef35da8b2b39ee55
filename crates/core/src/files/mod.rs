//! Files of messages, in both directions.
//!
//! A message with a file stays in the outbox of its sender's node until the recipient's node has the file.
//! The recipient's node fetches the file from the sender's node, on streams of their own, and accepts the
//! message when the sender offers it again. So nothing of a message is lost if either node ends, and what
//! arrived of the file stays on disk. See `docs/adr/0068-files.md`.
//!
//! - [`serving`]: what other nodes fetch from this one.
//! - [`receiving`]: what this node fetches.
//! - [`storage`]: the directory for received files.

mod progress;
pub(crate) mod receiving;
pub(crate) mod serving;
pub(crate) mod storage;

use std::collections::BTreeMap;

use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::effect::Effect;
use crate::file_io::{FileCommand, FileEvent};
use crate::input::Token;
use crate::mail::Mail;
use crate::mail::inbound::files::FileLimits;
use crate::peers::Peers;
use crate::timers::TimerTable;
use crate::usage::Usage;
use receiving::{MAX_OFFERS, Offers};
use serving::{MAX_SERVED, Serving};
use storage::{MAX_STORED, Storage};

/// The transfers of files, and the received files.
#[derive(Debug)]
pub(crate) struct Files {
    /// Files that other nodes fetch.
    serving: BTreeMap<Token, Serving>,
    /// Files that this node wants.
    offers: Offers,
    /// The directory for received files.
    storage: Storage,
}

impl Files {
    pub(crate) fn new(limits: FileLimits) -> Self {
        Files { serving: BTreeMap::new(), offers: Offers::default(), storage: Storage::new(limits) }
    }

    /// Handles an event of the driver.
    pub(crate) fn on_event(&mut self, event: FileEvent, peers: &mut Peers, mail: &mut Mail, cx: &mut Cx) {
        match event {
            // The parent side handles it.
            FileEvent::Hashed { .. } => {}
            FileEvent::Requested { token, peer, hash } => {
                self.on_requested(token, peer, hash, peers, mail, cx);
            }
            FileEvent::Served { token, bytes } => self.on_served(token, bytes, peers, cx),
            FileEvent::ServeEnded { token, sent, end } => self.on_serve_ended(token, sent, end, mail, cx),
            FileEvent::Received { token, bytes } => self.on_received(token, bytes, peers, cx),
            FileEvent::Fetched { token, path } => self.on_fetched(token, path, mail, cx),
            FileEvent::FetchFailed { token, fault } => self.on_fetch_failed(token, fault, mail, cx),
            FileEvent::Stored(stored) => self.storage.reconcile(stored, cx.now.mono),
        }
    }

    /// Starts the transfers that may start, and ends those that nobody needs any more.
    pub(crate) fn serve(&mut self, mail: &mut Mail, cx: &mut Cx) {
        self.stop_ended_messages(mail, cx);
        self.forget_silent_offers(cx);
        self.start_fetches(mail, cx);
    }

    /// Enters the next deadline of each kind.
    pub(crate) fn timers(&self, timers: &mut TimerTable) {
        timers.enter("offers of files", self.offers.next_deadline());
        timers.enter("room for files", self.next_look_for_room());
    }

    fn next_look_for_room(&self) -> Option<Instant> {
        self.offers.lacks_room().then(|| self.storage.next_look()).flatten()
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let as_size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        [
            ("files that others fetch", self.serving.len(), MAX_SERVED),
            ("offered files", self.offers.len(), MAX_OFFERS),
            ("received files", self.storage.len(), MAX_STORED),
            ("bytes of received files", as_size(self.storage.bytes()), as_size(self.storage.quota())),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

impl Cx {
    pub(crate) fn file(&mut self, command: FileCommand) {
        self.effects.push_back(Effect::File(command));
    }
}
