//! Runs the checks and tests of the SDKs in their own languages, and their examples.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests fail by panicking")]

mod container;
mod cross;
mod others;
mod rust;
mod rust_shared;
