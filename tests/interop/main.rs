//! Interoperability tests of the real binary with js-libp2p nodes and a JavaScript decoder of the
//! wire format. Both are written from docs/wire-protocol.md only.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and wait by the clock"
)]

#[path = "../process/child.rs"]
#[allow(dead_code, reason = "the tests of the process use the rest")]
mod child;
mod js;
mod npm;
mod reads;
mod relays;
mod seals;
