//! The parts that the tests of several crates share: the interpreter of effects, a network in memory, programs,
//! and the configuration of a core.

pub mod config;
pub mod interpreter;
pub mod network;
pub mod program;
pub mod secrets;
pub mod store;
