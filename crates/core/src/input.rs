//! The inputs: every event that the core handles.

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Request;
use p2p_node_protocol::line::LineError;
use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::seal::hpke::SealedFrame;
pub use p2p_node_wire::time::{Instant, Now};

use crate::chain::ChainEvent;
pub use crate::client_id::ClientEvent;
use crate::client_id::ClientId;
use crate::crypto_task::{Opened, TaskOutcome};
pub use crate::drop_kind::DropKind;
use crate::file_io::FileEvent;
pub use crate::peers::links::PeerReport;
pub use crate::peers::relays::AddressEvent;
use crate::source::SourceEvent;

/// Identifies an object for which the core and the driver owe each other an answer: a request, a
/// gossip message to validate, a query. The driver holds the handle itself, which never enters
/// the core.
pub type Token = u64;

/// An event for the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client wrote a command.
    Command {
        /// The client.
        client: ClientId,
        /// The command.
        request: Request,
    },
    /// A client wrote an invalid line.
    BadLine {
        /// The client.
        client: ClientId,
        /// What is wrong with the line.
        error: LineError,
    },
    /// A client attached, ended its input, or went.
    Client {
        /// The client.
        client: ClientId,
        /// What happened.
        event: ClientEvent,
    },
    /// The parent closed our stdin.
    StdinClosed,
    /// Reading stdin failed.
    InputFailed {
        /// Reason, for people.
        reason: String,
    },
    /// Stdout is closed, so the node cannot report anything any more.
    StdoutClosed {
        /// `true` if writing failed; `false` if the parent closed the pipe.
        broken: bool,
    },
    /// The process configured as our parent has ended.
    ParentEnded,
    /// SIGTERM, SIGINT or SIGHUP arrived.
    Signal,
    /// The writer of a client has written lines.
    Written {
        /// The client.
        client: ClientId,
        /// Number of lines since the last report.
        lines: usize,
    },

    /// The node listens on the requested port. Lists every address. Reported again when an address
    /// is added.
    Listening {
        /// Addresses without `/p2p/`, TCP first.
        addrs: Vec<Multiaddr>,
    },
    /// One of several sockets could not be opened, or host names cannot be resolved. The node
    /// continues without it.
    Degraded {
        /// Reason, for people.
        reason: String,
    },
    /// No socket could be opened, or the listener failed later.
    ListenFailed {
        /// Reason, for people.
        reason: String,
    },

    /// The first connection to a peer was established.
    Connected {
        /// The peer.
        peer: PeerId,
        /// `true` if we dialled the peer.
        dialer: bool,
    },
    /// The last connection to a peer ended.
    Disconnected {
        /// The peer.
        peer: PeerId,
        /// Reason, for people.
        reason: Option<String>,
    },
    /// The swarm reports something of a connected peer.
    PeerReport {
        /// The peer.
        peer: PeerId,
        /// The report.
        report: PeerReport,
    },
    /// A dial requested by the core failed.
    DialFailed {
        /// The peer.
        peer: PeerId,
        /// Reason, for people.
        reason: String,
    },
    /// The peer reports that it belongs to another network.
    NetworkMismatch {
        /// The peer.
        peer: PeerId,
        /// Name of the peer's network.
        network: String,
    },
    /// The peer said whether it serves the DHT of our network, in an identify exchange.
    DhtMode {
        /// The peer.
        peer: PeerId,
        /// `true` if the peer serves the DHT.
        serves: bool,
        /// The addresses of a server within the address scope, without `/p2p/`.
        addrs: Vec<Multiaddr>,
    },

    /// A source of peers outside of libp2p reports something.
    Source(SourceEvent),
    /// The chain of the registry reports something.
    Chain(ChainEvent),
    /// The driver of files reports something.
    File(FileEvent),
    /// The swarm found out something about the addresses of this node or about relays.
    Addresses(AddressEvent),

    /// A peer sent a step of admission and waits for the answer.
    AdmissionRequestReceived {
        /// Token for `AnswerAdmission`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded `Admission`.
        body: Bytes,
    },
    /// A peer answered our step of admission, or the request failed.
    AdmissionResponseReceived {
        /// Token of the `SendAdmission`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded `Admission`, or the reason of the failure.
        outcome: Result<Bytes, String>,
    },

    /// A peer asks which agents this node knows, and waits for the answer.
    FindRequestReceived {
        /// Token for `AnswerFind`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded `FindAgents`.
        body: Bytes,
    },
    /// A peer answered our question, or the request failed.
    FindResponseReceived {
        /// Token of the `SendFind`.
        token: Token,
        /// An encoded `FoundAgents`, or the reason of the failure.
        outcome: Result<Bytes, String>,
    },

    /// A peer sent a frame of mail and waits for the response.
    MailRequestReceived {
        /// Token for `AnswerMail`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded frame.
        frame: Bytes,
    },
    /// A peer answered a frame of our mail, or the request failed.
    MailResponseReceived {
        /// Token of the `SendMail`.
        token: Token,
        /// An encoded `MailResponse`, or the reason of the failure, for people. A frame may have
        /// arrived in spite of a failure.
        outcome: Result<Bytes, String>,
    },

    /// A message arrived on a topic to which we subscribe.
    Gossip {
        /// Token for `ReportValidation`. The core answers exactly once.
        token: Token,
        /// The peer that forwarded the message, not its publisher.
        from: PeerId,
        /// The topic, without the network's prefix.
        topic: String,
        /// A frame, or a record on `agent-announcements`.
        data: Bytes,
    },
    /// The sizes of the gossip meshes, of each topic that the node subscribes to.
    Meshes(Vec<(String, usize)>),
    /// A peer subscribed to a topic.
    PeerSubscribed {
        /// The peer.
        peer: PeerId,
        /// The topic, without the network's prefix.
        topic: String,
    },
    /// A peer unsubscribed from a topic.
    PeerUnsubscribed {
        /// The peer.
        peer: PeerId,
        /// The topic, without the network's prefix.
        topic: String,
    },
    /// A `Publish` was executed.
    Published {
        /// Token of the `Publish`.
        token: Token,
        /// The outcome.
        outcome: PublishOutcome,
    },

    /// A peer asks us, as a DHT server, to store a record.
    RecordOffered {
        /// The peer.
        peer: PeerId,
        /// Kademlia key.
        key: Bytes,
        /// An encoded record.
        value: Bytes,
    },
    /// One answer to a `GetRecord`. More may follow.
    RecordFound {
        /// Token of the `GetRecord`.
        token: Token,
        /// The server that answered.
        server: PeerId,
        /// An encoded record, not checked in any way.
        value: Bytes,
    },
    /// A `GetRecord` ended.
    QueryEnded {
        /// Token of the `GetRecord`.
        token: Token,
    },
    /// A `PutRecord` ended.
    RecordPut {
        /// `true` if at least one server answered.
        stored: bool,
    },

    /// The driver dropped data. The core counts the drop; it has no other effect.
    Dropped {
        /// Kind of the dropped data.
        what: DropKind,
        /// Number of drops since the last report.
        number: u64,
    },

    /// The crypto pool verified the signature of a binding.
    BindingChecked {
        /// Hash of the signed binding.
        hash: BindingHash,
        /// `true` if the account named in the binding signed it; `None` if the pool was full and
        /// did not check.
        valid: Option<bool>,
    },

    /// The crypto pool encrypted a frame.
    Sealed {
        /// Token of the task.
        token: Token,
        /// The encrypted frame. It fails if the recipient's key is invalid.
        outcome: TaskOutcome<SealedFrame>,
    },
    /// The crypto pool decrypted a frame.
    Opened {
        /// Token of the task.
        token: Token,
        /// The content. It fails if the sender did not encrypt the frame to us.
        outcome: TaskOutcome<Opened>,
    },

    /// The store has persisted all writes up to this number.
    Persisted {
        /// Number of an `Effect::PersistMessage`, `PersistCheckpoint` or `PersistAccessRule`.
        through: u64,
    },
    /// The store failed to persist all writes up to this number that it has not reported as
    /// persisted.
    PersistFailed {
        /// Number of an `Effect::PersistMessage`, `PersistCheckpoint` or `PersistAccessRule`.
        through: u64,
        /// Reason, for people.
        reason: String,
    },
    /// The store lost its content, or cannot write at present and tries again.
    StoreFailed {
        /// Reason, for people.
        reason: String,
    },
    /// Another process on this host took over the data directory. The store persists nothing any
    /// more.
    StoreLost {
        /// Name of the host.
        host: String,
    },
    /// The store can write again after `StoreFailed`.
    StoreRecovered,
}

/// The outcome of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The message was queued for at least one peer.
    Sent,
    /// No subscriber is connected, so nothing was sent.
    NoPeers,
    /// Every queue was full. Gossipsub offers the message lazily, which counts as sent, but the
    /// node must publish more slowly.
    QueuesFull,
    /// The same bytes were published before.
    Duplicate,
    /// The message exceeds the network's limit. This is an internal error.
    TooLarge,
}
