//! What the tests of several crates share: the interpreter of effects, and a network in memory.

pub mod interpreter;
pub mod network;
pub mod secrets;
pub mod store;
