//! What is known about other agents.

pub mod record;
