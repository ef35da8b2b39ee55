//! Files that this node fetches for messages of other agents.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use alloy_primitives::hex;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Level, ReceivedFile};
use p2p_node_wire::time::Instant;

use super::Files;
use super::progress::TransferOf;
use super::storage::PART;
use crate::cx::Cx;
use crate::file_io::{FetchFault, FileCommand};
use crate::gate::reputation::Conduct;
use crate::input::Token;
use crate::mail::Mail;
use crate::mail::inbound::files::{FileDecision, WantedFile};
use crate::peers::Peers;

/// Largest number of files that the node fetches at the same time. Our choice: each costs the driver a window
/// of some MiB, and more of them do not make a disk faster.
const MAX_FETCHES: usize = 8;
/// Largest number of files of strangers that the node fetches at the same time: half.
const MAX_STRANGER_FETCHES: usize = MAX_FETCHES / 2;
/// Largest number of files that are offered to the node. Of each agent the node takes one at a time. Our choice.
pub(crate) const MAX_OFFERS: usize = 256;
/// Largest number of files that strangers offer: a quarter.
const MAX_STRANGER_OFFERS: usize = MAX_OFFERS / 4;
/// Time after which the node forgets an offer that its sender does not repeat: four times the pause after which
/// a sender repeats it.
const OFFER_LIFETIME: Duration = Duration::from_secs(120);
/// Pause after a failure of the disk. Our choice.
const DISK_PAUSE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The fetch may start.
    Waiting,
    /// The fetch failed. It starts again when the sender offers the file again, but not before this time.
    Failed(Instant),
    /// The driver fetches the file.
    Active(Token),
}

/// A file that an agent offers to this node.
#[derive(Debug)]
struct Offer {
    wanted: WantedFile,
    state: State,
    /// When the sender last offered the file.
    seen: Instant,
    transfer: TransferOf,
}

impl Offer {
    fn new(wanted: WantedFile, now: Instant) -> Self {
        let transfer = TransferOf::received(wanted.message_id.clone(), wanted.sender, wanted.size);
        Offer { wanted, state: State::Waiting, seen: now, transfer }
    }

    fn is_active(&self) -> bool {
        matches!(self.state, State::Active(_))
    }

    /// Returns the name of the part of the file. A file that its sender sends again, in another message, goes on
    /// where it was.
    fn part(&self) -> String {
        format!("{}-{}{PART}", hex::encode(self.wanted.sender), hex::encode(self.wanted.hash))
    }
}

/// The offered files, one of each agent.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    offers: BTreeMap<Address, Offer>,
    /// No fetch starts before this time, because the disk failed.
    disk_failed_until: Option<Instant>,
    /// A file waits for room in the directory.
    lacks_room: bool,
    /// When the node last said that a file waits for room.
    told_at: Option<Instant>,
}

impl Offers {
    pub(crate) fn len(&self) -> usize {
        self.offers.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let idle = self.offers.values().filter(|offer| !offer.is_active());
        idle.map(|offer| offer.seen + OFFER_LIFETIME).chain(self.disk_failed_until).min()
    }

    /// Returns `true` if a file waits for room in the directory.
    pub(crate) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    fn has_waiting(&self) -> bool {
        self.offers.values().any(|offer| offer.state == State::Waiting)
    }

    fn active(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values().filter(|offer| offer.is_active())
    }

    fn by_token(&mut self, token: Token) -> Option<&mut Offer> {
        self.offers.values_mut().find(|offer| offer.state == State::Active(token))
    }

    fn remove_by_token(&mut self, token: Token) -> Option<Offer> {
        let sender = self.by_token(token)?.wanted.sender;
        self.offers.remove(&sender)
    }
}

impl Files {
    /// Handles the offer of a file that the node does not have.
    pub(crate) fn on_wanted(&mut self, wanted: WantedFile, cx: &mut Cx) {
        let now = cx.now.mono;
        if let Some(offer) = self.offers.offers.get_mut(&wanted.sender) {
            offer.seen = now;
            if (offer.wanted.key, offer.wanted.seq, offer.wanted.hash)
                == (wanted.key, wanted.seq, wanted.hash)
            {
                let may_start = matches!(offer.state, State::Failed(until) if until <= now);
                if !offer.is_active() {
                    offer.wanted = wanted;
                }
                if may_start {
                    offer.state = State::Waiting;
                }
                return;
            }
            // The sender gave the other message up.
            let old = self.offers.offers.remove(&wanted.sender);
            old.into_iter().for_each(|offer| self.end_fetch(&offer, cx));
        }
        let strangers = self.offers.offers.values().filter(|offer| offer.wanted.is_stranger).count();
        if self.offers.len() >= MAX_OFFERS || wanted.is_stranger && strangers >= MAX_STRANGER_OFFERS {
            return cx.stats.count(Counter::FilesDeferred);
        }
        self.offers.offers.insert(wanted.sender, Offer::new(wanted, now));
    }

    fn end_fetch(&mut self, offer: &Offer, cx: &mut Cx) {
        if let State::Active(token) = offer.state {
            cx.file(FileCommand::CancelFetch { token });
            self.storage.pause(&offer.part(), cx.now.mono);
        }
        offer.transfer.give_up(cx);
    }

    /// Forgets the offers that their senders do not repeat, and says so of those that had begun. What arrived
    /// stays until its room is needed.
    pub(super) fn forget_silent_offers(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        let is_silent =
            |_: &Address, offer: &mut Offer| !offer.is_active() && offer.seen + OFFER_LIFETIME <= now;
        let silent = self.offers.offers.extract_if(.., is_silent);
        silent.for_each(|(_, offer)| offer.transfer.give_up(cx));
    }

    /// Starts to fetch the files that wait, as far as the limits allow.
    pub(super) fn start_fetches(&mut self, mail: &mut Mail, cx: &mut Cx) {
        let now = cx.now.mono;
        self.offers.lacks_room = false;
        self.offers.disk_failed_until.take_if(|until| *until <= now);
        if !self.offers.has_waiting() || self.offers.disk_failed_until.is_some() {
            return;
        }
        if !self.storage.is_known() {
            if self.storage.may_look(now) {
                cx.file(FileCommand::List);
            }
            return;
        }
        let waiting: Vec<Address> = self
            .offers
            .offers
            .iter()
            .filter(|(_, offer)| offer.state == State::Waiting)
            .map(|(sender, _)| *sender)
            .collect();
        for sender in waiting {
            self.offers.lacks_room |= !self.start_fetch(&sender, mail, cx);
        }
        if self.offers.lacks_room && self.storage.may_look(now) {
            // A client may have deleted files.
            cx.stats.count(Counter::FilesDeferred);
            cx.file(FileCommand::List);
            self.tell_lack_of_room(cx);
        }
    }

    /// Starts to fetch a file. Returns `false` if there is no room for it.
    fn start_fetch(&mut self, sender: &Address, mail: &mut Mail, cx: &mut Cx) -> bool {
        let strangers = self.offers.active().filter(|offer| offer.wanted.is_stranger).count();
        let active = self.offers.active().count();
        let Some(offer) = self.offers.offers.get_mut(sender) else { return true };
        let wanted = &offer.wanted;
        if active >= MAX_FETCHES || wanted.is_stranger && strangers >= MAX_STRANGER_FETCHES {
            return true;
        }
        let (part, now) = (offer.part(), cx.now.mono);
        let Some(room) = self.storage.reserve(&part, wanted.size, wanted.is_stranger, now, mail) else {
            return false;
        };
        cx.stats.add(Counter::FilesEvicted, room.evicted.len() as u64);
        for name in room.evicted {
            cx.file(FileCommand::Remove { name });
        }
        let token = cx.token();
        let (peer, hash, size) = (wanted.peer, wanted.hash, wanted.size);
        let name = wanted.message_id.clone();
        offer.state = State::Active(token);
        cx.file(FileCommand::Fetch { token, peer, hash, size, partial: part, name });
        true
    }

    fn tell_lack_of_room(&mut self, cx: &mut Cx) {
        let now = cx.now.mono;
        if self.offers.told_at.is_some_and(|at| at + OFFER_LIFETIME > now) {
            return;
        }
        self.offers.told_at = Some(now);
        let message = format!(
            "a file of another agent waits: the received files use the {} bytes of --files-quota; move or delete some",
            self.storage.quota()
        );
        cx.log(Level::Warn, "files", message);
    }

    pub(super) fn on_received(&mut self, token: Token, bytes: u64, peers: &mut Peers, cx: &mut Cx) {
        if let Some(offer) = self.offers.by_token(token) {
            // The connection is in use.
            peers.touch(&offer.wanted.peer, cx);
            offer.transfer.report(bytes, cx);
        }
    }

    /// Lets the node accept the message of a file that is complete.
    pub(super) fn on_fetched(&mut self, token: Token, path: String, mail: &mut Mail, cx: &mut Cx) {
        let Some(mut offer) = self.offers.remove_by_token(token) else { return };
        offer.transfer.report(offer.wanted.size, cx);
        let part = offer.part();
        let WantedFile { key, seq, message_id, hash, size, name, .. } = offer.wanted;
        cx.stats.count(Counter::FilesReceived);
        cx.stats.add(Counter::FileBytesReceived, size);
        self.storage.complete(&part, message_id, (key, seq), cx.now.mono);
        let name = Some(name).filter(|name| !name.is_empty());
        let file = ReceivedFile { path, size, hash: hex::encode(hash), name };
        mail.decide_file(key, seq, FileDecision::Here(file));
        // The sender then offers the message again, and the node accepts it.
        cx.file(FileCommand::FinishFetch { token });
    }

    pub(super) fn on_fetch_failed(&mut self, token: Token, fault: FetchFault, mail: &mut Mail, cx: &mut Cx) {
        let now = cx.now.mono;
        let Some(offer) = self.offers.by_token(token) else { return };
        let (part, sender) = (offer.part(), offer.wanted.sender);
        cx.stats.count(Counter::FileTransfersFailed);
        match fault {
            FetchFault::Broken | FetchFault::Refused => {
                offer.state = State::Failed(now);
                self.storage.pause(&part, now);
            }
            FetchFault::Disk(why) => {
                offer.state = State::Failed(now);
                offer.transfer.fail(ErrorCode::DiskFull, cx);
                self.storage.pause(&part, now);
                self.offers.disk_failed_until = Some(now + DISK_PAUSE);
                let message = format!("a received file cannot be written: {why}; free the disk");
                cx.emit_error(ErrorEvent::new(ErrorCode::DiskFull, message));
            }
            FetchFault::Changed | FetchFault::Wrong => {
                if fault == FetchFault::Wrong {
                    cx.observe_agent(sender, offer.wanted.peer, Conduct::InvalidMail);
                }
                offer.transfer.fail(ErrorCode::FileChanged, cx);
                let (key, seq) = (offer.wanted.key, offer.wanted.seq);
                mail.decide_file(key, seq, FileDecision::Rejected(ErrorCode::FileChanged));
                self.offers.offers.remove(&sender);
                self.storage.remove(&part);
                cx.file(FileCommand::Remove { name: part });
            }
        }
    }
}
