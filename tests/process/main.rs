//! The real binary as real processes on loopback.

mod child;
mod contract;
mod examples;
mod network;
