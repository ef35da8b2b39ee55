#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![warn(clippy::missing_errors_doc)]

mod acks;
mod ask;
mod binary;
mod builder;
mod calls;
mod channel;
mod child;
mod client;
mod data;
mod desired_state;
mod discovery;
mod error;
mod events;
mod inbox;
mod joining;
mod lane;
mod launcher;
mod locate;
mod mail;
mod outgoing;
mod pipes;
mod process;
mod registration;
mod registry;
mod report;
mod requests;
mod shared;
mod supervised_node;
mod supervisor;

pub use ask::{Answers, AskOptions, Audience, Parts};
pub use binary::BinaryReason;
pub use builder::{AckMode, Builder};
pub use client::Node;
pub use discovery::{DiscoverOptions, FoundAgents};
pub use error::Error;
pub use events::{Event, Events};
pub use joining::{JOIN_TIMEOUT, QUIET};
pub use mail::{Bytes, Payload, Published, SendOptions, SentMessage};
pub use p2p_node_protocol::{
    AgentError, Answer, Ask, Bandwidth, BindingState, Closing, Command, Connect, ConnectedPeer, Delivery,
    DeliveryState, DhtState, Discover, Distribution, Edge, Encoding, ErrorCode, ErrorEvent, HealthCause,
    HealthPenalty, Id, IncomingRequest, KeptFor, Latencies, Level, Limits, LinkDirection, LinkTransport, Log,
    Message, MessageCounts, NetworkReport, Overflow, PeerBanned, PeerConnected, PeerDisconnected,
    PeerDiscovered, PeerLink, PeerUnbanned, Percentiles, Performance, Priority, PriorityCounts, Ready,
    ReceivedFile, RegistryEntry, RegistryState, ReportMetrics, ReportNode, Respond, Response, Role, Route,
    SdkErrorCode, Send, StatusReport, TopicReport, Topology, TrafficCounts, Transfer, TransferDirection,
    Trust,
};
pub use registration::{RegisterOptions, Registration, RegistrationState};
pub use requests::{HandledRequest, Requests};
pub use supervisor::Restart;
