//! Incoming messages: put in order, delivered once, and acknowledged.

mod calls;
pub mod deferred_responses;
pub(crate) mod delivery;
pub mod digests;
pub mod files;
pub(crate) mod handover;
pub mod inbox;
pub(crate) mod mail_limits;
pub(crate) mod on_ack;
pub(crate) mod on_gossip_mail;
pub(crate) mod on_mail;
pub(crate) mod pending_acks;
pub mod receive_window;
pub(crate) mod unacked;
