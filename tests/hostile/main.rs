//! Tests of the real binary against hostile peers, with an honest peer as control.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and date forged messages by the clock"
)]

mod acks;
mod admission;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../process/child.rs"]
mod child;
mod data;
mod dht;
mod exchange;
#[path = "../../crates/wire/tests/wire/extended.rs"]
mod extended;
mod files;
mod fixture;
mod flood;
mod forge;
mod forgers;
mod frames;
mod next_version;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../swarm/node.rs"]
mod node;
mod peer;
mod raw;
mod raw_admission;
mod raw_gossip;
mod raw_kad;
mod records;
mod replay;
mod small;
mod sybils;
