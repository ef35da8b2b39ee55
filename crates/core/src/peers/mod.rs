//! The nodes that this one is connected to, or wants to be.

pub mod bootstrap;
pub mod dht_servers;
pub(crate) mod dialer;
pub(crate) mod on_network;
