#![doc = include_str!("../README.md")]

mod acks;
mod builder;
mod channel;
mod child;
mod client;
mod error;
mod events;
mod inbox;
mod lane;
mod mail;
mod outgoing;
mod pipes;
mod process;
mod shared;
mod sidecar;
mod supervisor;
mod wanted;

pub use builder::Builder;
pub use client::{Grace, Node};
pub use error::Error;
pub use events::{Event, Events};
pub use mail::{Bytes, Options, Payload, Published, SentMail};
pub use p2p_node_protocol::{
    Answer, Closing, Command, Connect, ConnectedPeer, Delivery, DeliveryState, Discover, Encoding, ErrorCode,
    ErrorEvent, Id, Level, Limits, Log, Message, Overflow, PeerConnected, PeerDiscovered, PeerLost, Priority,
    Ready, Role, Route, Send, StatusReport, Trust,
};
pub use supervisor::Restart;
