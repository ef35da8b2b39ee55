//! Tests of the real binary in real processes on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests fail by panicking, and wait by the clock"
)]

mod address_rules;
mod auto_reply;
mod binding;
#[allow(dead_code, reason = "other tests use the rest")]
mod child;
mod connections;
mod contract;
mod daemon;
mod data_dir;
mod descriptors;
mod discover;
mod dns_seeds;
mod durable;
mod examples;
mod explorer;
mod far;
mod files;
mod fleet;
mod fleet_watermarks;
mod flow;
mod hostile_input;
mod http;
mod identity;
mod lab;
mod lifecycle;
mod listening;
mod logs;
mod mcp;
mod nat;
mod network;
mod numbers;
mod one_address;
mod peer_book;
mod peer_exchange;
mod pipeline;
mod regions;
mod rendezvous;
mod reports;
mod requests;
mod restarted_servers;
mod returning;
mod revocation;
mod roles;
mod sdk;
mod sdk_files;
mod sdk_mail;
mod sdk_requests;
mod sdk_starts;
mod shared_dir;
mod shell;
mod shell_command;
mod stalled;
mod stopped;
mod successor;
mod surroundings;
mod topics;
mod traces;
