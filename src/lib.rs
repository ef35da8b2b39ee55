//! A peer-to-peer sidecar for agents.
pub mod config;
pub mod core;
pub mod demo;
pub mod io;
pub mod keygen;
pub mod logging;
pub mod schema;
pub mod scope;
