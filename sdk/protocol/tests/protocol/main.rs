//! Commands, events and the line codec.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod events;
mod exchange;
mod framing;
mod json_cases;
mod requests;
mod rows;
mod shared;
