//! The signals: events from a component for the components above.
//!
//! A component changes its own state and calls the components below. To reach a component above, a
//! component raises a signal, and [`crate::Core`] routes the signal after the call has returned.

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Command, ErrorCode, Request};
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::record::{RecordHash, SignedRecord};

use crate::client_id::ClientId;
use crate::directory::record_table::Update;
use crate::effect::ExitCode;
use crate::gate::admission_policy::Refusal;
use crate::gate::message_event::ReceivedCall;
use crate::gate::pending_verification::{GossipMessage, MailRequest, OfferedRecord};
use crate::gate::registry::Registration;
use crate::gate::reputation::conduct::Report;
use crate::input::{Input, Token};
use crate::mail::inbound::files::WantedFile;
use crate::peers::finder::Answer;
use crate::replies::reply_to::ReplyTo;

/// An event for the components above the one that raises the signal.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A record arrived that the directory has to check.
    RecordReceived(OfferedRecord),
    /// The directory checked the record that a peer offers for its admission. The outcome is its agent.
    PeerRecordChecked { peer: PeerId, record: RecordHash, outcome: Result<Address, Refusal> },
    /// A peer does not admit this node, by its policy. `reason` is for people.
    PeerRejected { peer: PeerId, reason: String },
    /// A peer does not admit this node, because its clock is this much ahead of ours, in ms.
    ClocksDiffer { peer: PeerId, ahead_ms: i64 },
    /// The node admitted the peer of this input, which was held until then.
    InputReleased(Box<Input>),
    /// A gossip message whose binding the crypto pool has checked.
    GossipChecked(GossipMessage),
    /// A frame of direct mail whose binding the crypto pool has checked.
    MailChecked(MailRequest),
    /// The directory stored a record.
    RecordChanged { record: Box<SignedRecord>, update: Update },
    /// A lookup started.
    LookupStarted(Token, Address),
    /// The peers of a lookup answered, and the DHT had no answer.
    PeersAnswered(Token),
    /// A lookup ended. `found` states if the directory has a record of the agent now.
    LookupEnded { address: Address, found: bool },
    /// A record from the future shows that the clock of its node is ahead of ours. `genuine` states
    /// that the agent signed the binding in it.
    RecordFromFuture { record: Box<SignedRecord>, genuine: bool },
    /// The node learned that the registration of an agent changed.
    RegistrationChanged(Address, Registration),
    /// A node did something that changes its reputation.
    Conduct(Report),
    /// The node accepted a frame of this agent.
    Heard(Address),
    /// The outbox was empty for this agent and got a message.
    Mailed(Address),
    /// The node admitted a node of this agent.
    AgentConnected(Address),
    /// A node of this agent appeared on this machine.
    AgentSighted(Address),
    /// A peer disconnected. The address is that of its agent, if the node has its record.
    PeerDisconnected { peer: PeerId, address: Option<Address> },
    /// The node of this agent cannot be dialled.
    Unreachable(Address),
    /// A peer subscribed to a topic. `first_mail_subscription` states that this is the
    /// first subscription to mail by gossip on the connection.
    Subscribed { peer: PeerId, topic: String, first_mail_subscription: bool },
    /// A peer answered the question of the `discover` with this number, or did not.
    FindAnswered { number: u64, peer: PeerId, answer: Answer },
    /// New DHT servers are connected, so failed lookups may succeed now.
    DhtServersChanged,
    /// Many peers read gossip too slowly.
    GossipTooFast,
    /// A frame of mail, or of acks for us, arrived by gossip from this neighbour and passed all checks.
    /// The token waits for the verdict `Accept`.
    MailByGossip { token: Token, from: PeerId, frame: Box<Frame> },
    /// A recipient could not decrypt a frame of ours. `key` is the id of the key that we used.
    KeyRefused { recipient: Address, key: Option<Bytes>, by_session: bool },
    /// Streams to acknowledge to a sender whose node only its record names.
    AcksFor { account: Address, streams: Vec<StreamId> },
    /// A copy of this process used our frame counters.
    CountersReused,
    /// A message arrived whose file the node does not have.
    FileWanted(Box<WantedFile>),
    /// A step of a request arrived.
    CallReceived(Box<ReceivedCall>),
    /// The message of a request to this agent, or to a topic without one, was delivered or failed.
    RequestSent { number: u64, target: Option<Address>, outcome: Result<(), (ErrorCode, String)> },
    /// The request with this number has ended.
    RequestEnded(u64),
    /// A client writes no more commands, so it answers no more requests.
    ClientLeaves(ClientId),
    /// A client is gone.
    ClientGone(ClientId),
    /// A command of a client that waited for `ready`.
    CommandReleased(ClientId, Box<Request>),
    /// A command that waited for the address of a name, with the address in its place.
    NameResolved(ReplyTo, Box<Command>),
    /// A `shutdown` that waited for `ready`.
    ShutdownReleased(ReplyTo),
    /// Stdin ended before `ready`.
    StdinClosed,
    /// The node must not or cannot run any longer.
    Abort(ExitCode),
}
