//! Tests of the network driver: two to nine nodes with real libp2p on 127.0.0.1.
#![allow(clippy::unwrap_used)] // Tests fail by panicking.

mod connecting;
mod dht;
mod gossip;
mod listening;
mod mail;
mod measure;
mod node;
