//! The parts that the tests of several crates share: the interpreter of effects, a network in
//! memory, the configuration of a core, what forged nodes say, and programs.

pub mod config;
pub mod forged;
pub mod interpreter;
pub mod network;
pub mod program;
pub mod secrets;
pub mod store;
