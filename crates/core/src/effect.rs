//! The effects: every action that the core can request.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Event;
pub use p2p_node_protocol::ExitCode;
use p2p_node_wire::message_id::StreamId;

use crate::chain::ChainCommand;
use crate::client_id::ClientId;
use crate::crypto_task::CryptoTask;
use crate::file_io::FileCommand;
use crate::gate::access_list::{AccessRule, Subject};
use crate::gate::host::Host;
use crate::gate::reputation::{Party, PersistedBan};
use crate::highest_seen::HighestSeen;
use crate::input::Token;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::mail::outbound::outbox::PersistedMessage;
use crate::source::SourceCommand;
use crate::tracer::Span;

/// An action that the driver executes for the core, in the order in which the core requests it.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Passes a line to the writer of a client.
    Emit {
        /// The client.
        client: ClientId,
        /// The line.
        event: Event,
        /// `true` if the client opted in to numbered lines.
        numbered: bool,
    },
    /// Closes the connection of an attached client, after the lines that the core emitted for it. The core
    /// knows the client no more.
    CloseClient {
        /// The client.
        client: ClientId,
    },
    /// Exports a finished span. The core does not wait for it.
    Span(Box<Span>),
    /// Runs a task in the crypto pool.
    Crypto(CryptoTask),
    /// Persists the highest (generation, seq) of an agent, replacing the stored one, if there is a
    /// store. The core does not wait for the disk.
    PersistHighestSeen(HighestSeen),
    /// Persists a message. Answered by `Persisted` or `PersistFailed`, in the order of the numbers.
    PersistMessage {
        /// Number of this write. Each write has the next number.
        number: u64,
        /// The message.
        mail: Box<PersistedMessage>,
    },
    /// Persists the checkpoint of an inbound stream, replacing the stored one. Shares the numbers
    /// and answers of `PersistMessage`.
    PersistCheckpoint {
        /// Number of this write. Each write has the next number.
        number: u64,
        /// The stream and its checkpoint.
        row: Box<StreamCheckpoint>,
    },
    /// Deletes the checkpoint of an inbound stream. The core does not wait for the disk.
    DeleteCheckpoint {
        /// The account that sent on the stream.
        sender: Address,
        /// The stream.
        stream: StreamId,
    },
    /// Deletes a persisted message that has completed. The core does not wait for the disk: if a
    /// crash undoes the deletion, the node sends the message again, and the recipient recognises
    /// the duplicate.
    DeleteMessage {
        /// The stream of the message.
        stream: StreamId,
        /// Sequence number of the message.
        seq: u64,
    },
    /// Persists or deletes an access rule. Answered by `Persisted` or `PersistFailed`.
    PersistAccessRule {
        /// Number of the write.
        number: u64,
        /// The agent or node of the rule.
        subject: Subject,
        /// The new rule, or `None` to delete it.
        rule: Option<AccessRule>,
    },
    /// Persists or deletes a ban, if there is a store. The core does not wait for the disk.
    PersistBan {
        /// The banned agent, node or host.
        party: Party,
        /// The ban, or `None` to delete it.
        ban: Option<PersistedBan>,
    },
    /// Performs a network operation.
    Network(NetworkCommand),
    /// Asks a source of peers.
    Source(SourceCommand),
    /// Asks the chain of the registry.
    Chain(ChainCommand),
    /// Reads, writes or transfers a file.
    File(FileCommand),
    /// Flushes the output and ends the process.
    Exit(ExitCode),
}

/// A network operation.
#[derive(Clone, Debug)]
pub enum NetworkCommand {
    /// Listens on TCP and UDP. Answered by `Listening` or `ListenFailed`.
    Listen {
        /// The port. 0 lets the system choose.
        port: u16,
    },
    /// Answers a pending `Listen` now, with the addresses known so far.
    ReportListening,
    /// Dials a peer. Answered by `Connected` or `DialFailed`.
    Dial {
        /// The peer.
        peer: PeerId,
        /// Candidate addresses. The driver never dials addresses outside of the address scope.
        addrs: Vec<Multiaddr>,
    },
    /// Dials an address without knowing its peer. `Connected` follows if a peer answers.
    DialAddr {
        /// The address. The driver never dials addresses outside of the address scope.
        addr: Multiaddr,
    },
    /// Closes every connection to a peer.
    Disconnect {
        /// The peer.
        peer: PeerId,
    },
    /// Closes every connection to a peer, refuses new ones, and ignores its gossip, until `Unblock`. The
    /// core limits the number of blocked peers.
    Block {
        /// The peer.
        peer: PeerId,
    },
    /// Allows a peer to connect again.
    Unblock {
        /// The peer.
        peer: PeerId,
    },
    /// Refuses new connections of a host until `UnblockHost`. Those that stand remain. The core limits
    /// the number of blocked hosts.
    BlockHost {
        /// The host.
        host: Host,
    },
    /// Allows a host to connect again.
    UnblockHost {
        /// The host.
        host: Host,
    },
    /// Asks a connected peer to relay connections to this node. Answered by `Reserved` or
    /// `ReservationEnded`.
    ReserveRelay {
        /// The peer.
        relay: PeerId,
        /// An address of the peer, without its PeerId.
        addr: Multiaddr,
    },
    /// Replaces the external addresses of the swarm, except those at relays. Peers learn them by
    /// identify.
    SetExternalAddresses {
        /// The addresses.
        addrs: Vec<Multiaddr>,
    },
    /// Adds a DHT server to the routing table of Kademlia, or replaces its addresses.
    AddServer {
        /// The peer.
        peer: PeerId,
        /// Its addresses.
        addrs: Vec<Multiaddr>,
    },
    /// Removes a peer from the routing table of Kademlia.
    RemoveServer {
        /// The peer.
        peer: PeerId,
    },
    /// Sends a step of admission to a connected peer. Answered by `AdmissionResponseReceived`.
    SendAdmission {
        /// Token of the answer.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded `Admission`.
        body: Bytes,
    },
    /// Answers an `AdmissionRequestReceived`.
    AnswerAdmission {
        /// Token of the `AdmissionRequestReceived`.
        token: Token,
        /// An encoded `Admission`.
        body: Bytes,
    },
    /// Asks a connected peer which agents it knows. Answered by `FindResponseReceived`.
    SendFind {
        /// Token of the answer.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded `FindAgents`.
        body: Bytes,
    },
    /// Answers a `FindRequestReceived`.
    AnswerFind {
        /// Token of the `FindRequestReceived`.
        token: Token,
        /// An encoded `FoundAgents`, or nothing to refuse.
        body: Bytes,
    },
    /// Sends a frame of mail to a connected peer. Answered by `MailResponseReceived` within
    /// `MAIL_TIMEOUT`.
    SendMail {
        /// Token of the answer.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded frame.
        frame: Bytes,
    },
    /// Answers a `MailRequestReceived`.
    AnswerMail {
        /// Token of the `MailRequestReceived`.
        token: Token,
        /// An encoded `MailResponse`.
        body: Bytes,
    },
    /// Subscribes to a topic.
    Subscribe {
        /// The topic, without the network's prefix.
        topic: String,
    },
    /// Unsubscribes from a topic.
    Unsubscribe {
        /// The topic, without the network's prefix.
        topic: String,
    },
    /// Publishes on a topic. Answered by `Published`.
    Publish {
        /// Token of the answer.
        token: Token,
        /// The topic, without the network's prefix.
        topic: String,
        /// The bytes to publish.
        data: Bytes,
    },
    /// Reports the verdict on a `Gossip` to gossipsub, which forwards the message or drops it.
    ReportValidation {
        /// Token of the `Gossip`.
        token: Token,
        /// The verdict.
        verdict: Verdict,
    },
    /// Begins or ends to serve the DHT. The swarm begins with the configured mode, `auto` as a client.
    ServeDht(bool),
    /// Puts our record into the DHT. Answered by `RecordPut`.
    PutRecord {
        /// Kademlia key.
        key: Bytes,
        /// An encoded record.
        value: Bytes,
        /// Time for which servers may store the record.
        lifetime: Duration,
    },
    /// Queries the DHT. Answered by any number of `RecordFound` and one `QueryEnded`.
    GetRecord {
        /// Token of the answers.
        token: Token,
        /// Kademlia key.
        key: Bytes,
    },
    /// Stops a `GetRecord` whose result is no longer needed.
    StopQuery {
        /// Token of the `GetRecord`.
        token: Token,
    },
    /// Stores a verified record in our DHT server, replacing the record under its key.
    StoreDhtRecord {
        /// Kademlia key.
        key: Bytes,
        /// An encoded record.
        value: Bytes,
        /// Time for which to store the record.
        lifetime: Duration,
    },
    /// Removes a record from our DHT server, if the server stores it.
    RemoveDhtRecord {
        /// Kademlia key.
        key: Bytes,
    },
}

/// The verdict on data that a peer forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Forward the data.
    Accept,
    /// Do not forward the data, and do not penalise the peer: the data is late, repeated, or
    /// exceeds our capacity.
    Ignore,
    /// Do not forward the data, and penalise the peer: any relayer could have detected that the
    /// data is invalid.
    Reject,
}
