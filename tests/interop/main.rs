//! Another implementation in the mesh: js-libp2p nodes and a reader of the wire format in JavaScript, against the real
//! binary. What they know of us they have from docs/wire-protocol.md.
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
mod reads;
mod relays;
mod seals;
