//! Tests of several cores in virtual time.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests fail by panicking")]

mod access_rules;
mod ack_window;
mod acks;
mod backpressure;
mod bans;
mod cancel;
mod capacity;
mod clocks;
mod command_limits;
mod connections;
mod dialer;
mod discover;
mod durable;
mod encryption;
mod finder;
mod first_broadcasts;
mod flow_guards;
mod forged;
mod large_network;
mod local_record;
mod mail;
mod mesh;
mod newcomers;
mod peer_lookups;
mod pipeline;
mod priorities;
mod restored_store;
mod rollback_guard;
mod secrets;
mod send_lane;
mod sequence_numbers;
mod shutdown;
mod startup;
mod streams;
mod verification;
