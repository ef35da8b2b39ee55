//! A peer-to-peer sidecar for agents.
pub mod config;
pub mod core;
pub mod io;
pub mod keygen;
pub mod schema;
pub mod scope;
