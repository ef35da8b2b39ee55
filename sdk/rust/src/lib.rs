#![doc = include_str!("../README.md")]

mod builder;
mod channel;
mod client;
mod error;
mod process;
mod pump;

pub use builder::Builder;
pub use client::{Events, Grace, Node, Published, SentMail};
pub use error::Error;
pub use p2p_node_protocol::{
    Answer, Closing, Command, Connect, Delivery, DeliveryState, Discover, Encoding, ErrorCode, ErrorEvent,
    Event, Id, Level, Limits, Log, Message, Overflow, PeerConnected, PeerDiscovered, PeerLost, Priority,
    Ready, Role, Route, Send, StatusReport, Trust,
};
