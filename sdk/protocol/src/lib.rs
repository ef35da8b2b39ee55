//! The contract of the pipe between a parent process and `p2p-node`: [`Command`]s travel one JSON
//! line each to the node's stdin, [`Event`]s one JSON line each from its stdout.
//!
//! This crate holds the types and the line codec and does no I/O. `docs/pipe-protocol.md` in the
//! repository describes the same contract in prose; `p2p-node schema --json` prints it as a schema.

mod answer;
mod base64;
mod code;
mod command;
mod counter;
mod delivery;
mod event;
mod exchange;
mod exit_code;
mod field_limit;
mod file;
mod forward_compat;
mod id;
mod kind;
mod limits;
pub mod line;
mod overflow;
mod report;
mod route;
mod sdk_code;
mod sdk_limit;
mod status;
mod trust;

pub use answer::{
    Answer, ConnectedPeer, KeptFor, LinkDirection, LinkTransport, PeerLink, RegistryEntry, Tier,
};
pub use base64::{decode_base64, encode_base64};
pub use code::ErrorCode;
pub use command::*;
pub use counter::Counter;
pub use delivery::{Delivery, DeliveryState};
pub use event::{
    Closing, ErrorEvent, Event, Level, Log, Message, PeerBanned, PeerConnected, PeerDisconnected,
    PeerDiscovered, PeerUnbanned, Ready, Role,
};
pub use exchange::*;
pub use exit_code::ExitCode;
pub use field_limit::*;
pub use file::{ReceivedFile, Transfer, TransferDirection};
pub use id::{Id, MAX_EXACT};
pub use kind::MessageKind;
pub use limits::{Limit, Limits};
pub use overflow::{DropCounts, Overflow};
pub use report::{
    Bandwidth, BindingState, Distribution, Edge, HealthCause, HealthPenalty, Latencies, MessageCounts,
    NetworkReport, Percentiles, Performance, PriorityCounts, RegistryState, ReportMetrics, ReportNode,
    TopicReport, Topology, TrafficCounts,
};
pub use route::Route;
pub use sdk_code::SdkErrorCode;
pub use sdk_limit::*;
pub use status::{DhtState, StatusReport};
pub use trust::Trust;

/// Highest version of the contract that this crate speaks, and the only one so far.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest line accepted and written, in bytes without the newline (1 MiB).
pub const MAX_LINE_BYTES: usize = 1 << 20;
