//! Everything that the core can do.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::Event;

use crate::crypto_task::CryptoTask;
use crate::directory::rollback_guard::HighestSeen;
use crate::gate::access_list::{AccessRule, Subject};
use crate::input::Token;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::StreamId;

/// Everything that the core can do, in the order in which it wants it done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Hand a line to the writer.
    Emit {
        /// The line.
        event: Event,
        /// Whether the parent opted in to numbered lines.
        numbered: bool,
    },
    /// Have the crypto pool do something.
    Crypto(CryptoTask),
    /// Keep in the store, if there is one, the order of an agent's newest record, in place of what is kept of that agent. What
    /// depends on it follows; nobody waits until it is on the disk.
    PersistHighestSeen(HighestSeen),
    /// Bring mail to the disk; answered by `Persisted` or `PersistFailed`, in the order of numbers.
    PersistMessage {
        /// Grows by one.
        number: u64,
        /// The mail.
        mail: Box<PersistedMessage>,
    },
    /// Bring to the disk how far the parent has the mail of a stream, in place of what is there; answered like `PersistMessage`, and
    /// numbered with it.
    PersistCheckpoint {
        /// Grows by one.
        number: u64,
        /// The stream, and how far.
        row: Box<StreamCheckpoint>,
    },
    /// Forget a stream of mail received. Nobody waits for it.
    DeleteCheckpoint {
        /// Who sent on it.
        sender: Address,
        /// The stream.
        stream: StreamId,
    },
    /// Forget kept mail that has ended. Nobody waits for it: mail that comes back after a crash is sent again.
    DeleteMessage {
        /// Its stream.
        stream: StreamId,
        /// Its number there.
        seq: u64,
    },
    /// Keep in the store, if there is one, whom the parent blocked or allowed, or forget it.
    PersistAccessRule {
        /// Whom it is about.
        subject: Subject,
        /// What was said; none any more.
        standing: Option<AccessRule>,
    },
    /// Do something on the network.
    Network(NetworkCommand),
    /// Flush and end the process.
    Exit(ExitCode),
}

/// What the core can do on the network.
#[derive(Clone, Debug)]
pub enum NetworkCommand {
    /// Listen on TCP and UDP; answered by `Listening` or `ListenFailed`.
    Listen {
        /// 0 takes any.
        port: u16,
    },
    /// Answer a `Listen` now, with the addresses that there are.
    ReportListening,
    /// Dial a peer; answered by `Connected` or `DialFailed`.
    Dial {
        /// The peer.
        peer: PeerId,
        /// Where it may be; those outside our address scope are never dialled.
        addrs: Vec<Multiaddr>,
    },
    /// Close every connection to a peer.
    Disconnect {
        /// The peer.
        peer: PeerId,
    },
    /// Close every connection to a peer and have none with it until `Unblock`. The core bounds how many are blocked.
    Block {
        /// The peer.
        peer: PeerId,
    },
    /// Let a peer connect again.
    Unblock {
        /// The peer.
        peer: PeerId,
    },
    /// Send our `Hello`; answered by `HelloResponseReceived`, or not at all.
    SendHello {
        /// The peer.
        peer: PeerId,
        /// An encoded `Hello`.
        body: Bytes,
    },
    /// Answer a `HelloRequestReceived`.
    AnswerHello {
        /// As in `HelloRequestReceived`.
        token: Token,
        /// An encoded `Hello`.
        body: Bytes,
    },
    /// Send a frame of mail to a connected peer; answered by `MailResponseReceived`, within `MAIL_TIMEOUT`.
    SendMail {
        /// Our name for it.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// An encoded frame.
        frame: Bytes,
    },
    /// Answer a `MailRequestReceived`.
    AnswerMail {
        /// As in `MailRequestReceived`.
        token: Token,
        /// An encoded `MailResponse`.
        body: Bytes,
    },
    /// Subscribe to a topic.
    Subscribe {
        /// Without the network's prefix.
        topic: String,
    },
    /// Unsubscribe from it.
    Unsubscribe {
        /// Without the network's prefix.
        topic: String,
    },
    /// Publish on a topic; answered by `Published`.
    Publish {
        /// Our name for it.
        token: Token,
        /// Without the network's prefix.
        topic: String,
        /// The bytes.
        data: Bytes,
    },
    /// Say whether a `Gossip` may be passed on.
    Judge {
        /// As in `Gossip`.
        token: Token,
        /// The verdict.
        verdict: Verdict,
    },
    /// Put our record into the DHT; answered by `RecordPut`.
    PutRecord {
        /// Kademlia key.
        key: Bytes,
        /// An encoded record.
        value: Bytes,
        /// How long servers may keep it.
        lifetime: Duration,
    },
    /// Ask the DHT; answered by any number of `RecordFound` and one `QueryEnded`.
    GetRecord {
        /// Our name for it.
        token: Token,
        /// Kademlia key.
        key: Bytes,
    },
    /// Stop a `GetRecord` that has brought what was wanted.
    StopQuery {
        /// As in `GetRecord`.
        token: Token,
    },
    /// Keep a verified record for those who ask us as a DHT server. It replaces what is under its key.
    StoreDhtRecord {
        /// Kademlia key.
        key: Bytes,
        /// An encoded record.
        value: Bytes,
        /// How long to keep it.
        lifetime: Duration,
    },
}

/// What is said about something that a peer passed to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Do not pass it on, and blame nobody: it is late, repeated, or more than we can look at.
    Ignore,
    /// Do not pass it on, and blame the peer: any relayer could have seen that it is wrong.
    Reject,
}

/// How the process ends, after BSD's `sysexits.h`; the second column says whether a supervisor should restart it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// All that was accepted is done. No.
    Ok = 0,
    /// The command line is wrong. No.
    Usage = 64,
    /// Something on stdin could not be carried out as it was (`--require-delivery`). No.
    BadInput = 65,
    /// The port could not be listened on. Yes.
    Unavailable = 69,
    /// A defect. Yes.
    Software = 70,
    /// Another process holds the identity or the data directory. No.
    InUse = 73,
    /// stdin, stdout or a file broke, or the data directory cannot be used at present. Yes.
    Io = 74,
    /// Mail was still undelivered when the drain timeout ran out, and is lost; with `--require-delivery`, mail was not delivered. Yes.
    Undelivered = 75,
    /// A key file or the data directory may not be used, or others may read a key file. No.
    NoPermission = 77,
    /// The configuration or identity is wrong, or superseded, or the data directory belongs to another agent. No.
    Config = 78,
}
