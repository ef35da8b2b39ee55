//! The Rust SDK, mostly against `sdk/testing/child.sh`.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking")]

mod arguments;
mod child;
mod closing;
mod common;
mod joining;
mod mail;
mod readme;
mod restart;
mod start;
