//! Tests of the registry with a real EVM node and real contracts, which are compiled here.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and wait by the clock"
)]

mod anvil;
#[path = "../process/child.rs"]
#[allow(dead_code, reason = "the tests of the process use the rest")]
mod child;
mod commands;
mod erc8004;
mod names;
mod nodes;
#[path = "../interop/npm.rs"]
mod npm;
mod reads;
mod reputation;
mod sdks;
mod servers;
mod wallets;
