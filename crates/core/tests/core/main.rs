//! Tests of several cores in virtual time.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests fail by panicking")]

mod ack_window;
mod acks;
mod backpressure;
mod cancel;
mod capacity;
mod clocks;
mod dials;
mod discover;
mod durable;
mod edges;
mod ending;
mod floors;
mod forged;
mod gathering;
mod lane;
mod mail;
mod mesh;
mod numbers;
mod pipeline;
mod presence;
mod priorities;
mod restored;
mod sealing;
mod secrets;
mod standing;
mod starting;
mod streams;
mod verification;
