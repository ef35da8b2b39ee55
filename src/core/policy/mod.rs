//! What is decided about peers from numbers alone: when to try again.

pub mod retry;
