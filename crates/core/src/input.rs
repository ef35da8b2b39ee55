//! Everything that can happen to the core.

pub use p2p_node_wire::time::Now;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Counter;
use p2p_node_protocol::Request;
use p2p_node_protocol::line::LineError;

use crate::crypto_task::{Opened, Outcome};
use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::seal::hpke::SealedFrame;

/// Names one thing that the core holds for the network, or the network for the core: a request to be
/// answered, a gossip message to be judged, a query to be finished. The handle itself never enters the core.
pub type Token = u64;

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// The parent wrote a command.
    Command(Request),
    /// The parent wrote something else.
    BadLine(LineError),
    /// The parent closed our stdin.
    StdinClosed,
    /// Our stdin broke.
    InputFailed {
        /// For a person.
        reason: String,
    },
    /// Nothing can be told any more.
    StdoutClosed {
        /// Whether it broke; otherwise the parent closed it.
        broken: bool,
    },
    /// The process that was named as our parent has ended.
    ParentEnded,
    /// SIGTERM, SIGINT or SIGHUP.
    Signal,
    /// The writer has put out so many of the lines handed to it.
    Written {
        /// Lines, since the last report.
        lines: usize,
    },

    /// Listening on the port asked for; every address with which that succeeded is listed. Comes again when an address has come since.
    Listening {
        /// Without `/p2p/`, TCP first.
        addrs: Vec<Multiaddr>,
    },
    /// One of several sockets could not be opened, or names of hosts cannot be resolved; the node goes on without.
    Degraded {
        /// For a person.
        reason: String,
    },
    /// No socket could be opened, or the listener broke later.
    ListenFailed {
        /// For a person.
        reason: String,
    },

    /// The first connection to a peer was established.
    Connected {
        /// The peer.
        peer: PeerId,
        /// Whether we dialled it.
        dialer: bool,
    },
    /// The last connection to a peer ended.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// For a person.
        reason: Option<String>,
    },
    /// A dial asked for by the core came to nothing.
    DialFailed {
        /// The peer.
        peer: PeerId,
        /// For a person.
        reason: String,
    },
    /// The peer says that it belongs to another network.
    NetworkMismatch {
        /// The peer.
        peer: PeerId,
        /// The network's name.
        network: String,
    },
    /// The peer serves the DHT of our network and is in the routing table now.
    DhtServerSeen {
        /// The peer.
        peer: PeerId,
    },

    /// A peer sent its `Hello` and waits for ours.
    HelloRequestReceived {
        /// To be answered with `AnswerHello`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded `Hello`.
        body: Bytes,
    },
    /// A peer answered our `Hello` with its own.
    HelloResponseReceived {
        /// The peer.
        peer: PeerId,
        /// An encoded `Hello`.
        body: Bytes,
    },

    /// A peer sent a frame of mail and waits for the response.
    MailRequestReceived {
        /// To be answered with `AnswerMail`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded frame.
        frame: Bytes,
    },
    /// A frame of our mail was answered, or came to nothing.
    MailResponseReceived {
        /// As in `SendMail`.
        token: Token,
        /// An encoded `MailResponse`, or what went wrong, for a person. After a failure the frame may have arrived.
        outcome: Result<Bytes, String>,
    },

    /// Something was published on a topic that we subscribe to.
    Gossip {
        /// To be judged, exactly once, with `Judge`.
        token: Token,
        /// Who passed it to us, not who published it.
        from: PeerId,
        /// Without the network's prefix.
        topic: String,
        /// A frame, or a record on `agent-announcements`.
        data: Bytes,
    },
    /// A peer subscribes to a topic.
    PeerSubscribed {
        /// The peer.
        peer: PeerId,
        /// Without the network's prefix.
        topic: String,
    },
    /// A peer no longer subscribes to a topic.
    PeerUnsubscribed {
        /// The peer.
        peer: PeerId,
        /// Without the network's prefix.
        topic: String,
    },
    /// What became of a `Publish`.
    Published {
        /// As in `Publish`.
        token: Token,
        /// How it went.
        outcome: PublishOutcome,
    },
    /// Gossip to this peer backs up.
    SlowPeer {
        /// The peer.
        peer: PeerId,
    },

    /// A peer asks us, as a DHT server, to keep a record.
    RecordOffered {
        /// The peer.
        peer: PeerId,
        /// Kademlia key.
        key: Bytes,
        /// An encoded record.
        value: Bytes,
    },
    /// One answer to a `GetRecord`; more may follow.
    RecordFound {
        /// As in `GetRecord`.
        token: Token,
        /// An encoded record, not checked in any way.
        value: Bytes,
    },
    /// A `GetRecord` brings no more answers.
    QueryEnded {
        /// As in `GetRecord`.
        token: Token,
    },
    /// How a `PutRecord` ended.
    RecordPut {
        /// Whether at least one server answered.
        stored: bool,
    },

    /// The network lost something, which counts and has no other consequence.
    Dropped {
        /// What it was.
        what: DropKind,
        /// How many, since the last report.
        number: u64,
    },

    /// What the crypto pool found about a binding's signature.
    BindingChecked {
        /// Hash of the signed binding.
        hash: BindingHash,
        /// Whether the account named in it signed it; `None`: the pool was full and did not look.
        valid: Option<bool>,
    },

    /// A frame was sealed.
    Sealed {
        /// As in the task.
        token: Token,
        /// What is to be sent; nothing when the recipient's key is none.
        outcome: Outcome<SealedFrame>,
    },
    /// A sealed frame was opened.
    Opened {
        /// As in the task.
        token: Token,
        /// What was in it; nothing when it was not sealed to us by its sender.
        outcome: Outcome<Opened>,
    },

    /// The store has all that it was given up to this number.
    Persisted {
        /// As in `Effect::PersistMessage`.
        upto: u64,
    },
    /// The store could take nothing up to this number of which it has not said that it has it.
    PersistFailed {
        /// As in `Effect::PersistMessage`.
        upto: u64,
        /// For a person.
        reason: String,
    },
    /// The store lost what was in it, or cannot write at present and tries again.
    StoreFailed {
        /// For a person.
        reason: String,
    },
    /// Another process, on this host, has taken the data directory: nothing is kept any more.
    StoreLost {
        /// What the host calls itself.
        host: String,
    },
    /// The store has written again after `StoreFailed`.
    StoreRecovered,
}

/// What the network may lose: because a bound was reached, or because it could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// A frame of mail: too many waited for an answer.
    Mail,
    /// A frame of mail that was too long, cut short, or too slow to arrive.
    MailUnread,
    /// A `Hello` of which the same is true.
    HelloUnread,
    /// Gossip, ignored because too much waited for a verdict.
    Gossip,
    /// A verified record, for which the DHT server's memory had no room.
    Record,
    /// A floor that waited for the disk, of more agents than are remembered.
    Floor,
    /// A standing that waited for a disk that does not write.
    AccessRule,
}

impl DropKind {
    /// What counts it.
    pub fn counter(self) -> Counter {
        match self {
            DropKind::Mail => Counter::MailShed,
            DropKind::MailUnread => Counter::MailUnread,
            DropKind::HelloUnread => Counter::HellosUnread,
            DropKind::Gossip => Counter::GossipShed,
            DropKind::Record => Counter::RecordsShed,
            DropKind::Floor => Counter::FloorsShed,
            DropKind::AccessRule => Counter::StandingsShed,
        }
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Queued to at least one peer.
    Sent,
    /// Nobody who subscribes is connected; nothing was sent.
    NoPeers,
    /// Every queue was full; it will be offered lazily, which counts as sent, but publishing must slow down.
    QueuesFull,
    /// The same bytes were published before.
    Duplicate,
    /// It is larger than the network allows; a defect of ours.
    TooLarge,
}
