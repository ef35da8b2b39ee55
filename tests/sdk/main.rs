//! The SDKs in other languages, checked and tested by their own means, and the examples of all of them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests fail by panicking")]

mod container;
mod cross;
mod others;
mod rust;
