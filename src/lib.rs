//! p2p-node connects an agent process to a peer-to-peer network.
//!
//! ```text
//! stdin line ─ pipe ── Command ───┐                       ┌─ Event ─ pipe ─ stdout line
//!                                 ├─ Input ─► Core ─► Effect
//! swarm · crypto · store · timer ─┘   (pure)              └─ io::{swarm, crypto, store}
//!
//! inside Core, for the network:  verify ► replay ► directory | delivery ► Emit + Verdict
//! ```
//!
//! `ARCHITECTURE.md` describes the modules and their dependencies, `docs/pipe-protocol.md` the
//! lines on the pipe, and `docs/wire-protocol.md` the messages on the network.

#[cfg(not(unix))]
compile_error!(
    "p2p-node runs on Unix alone (Linux, macOS, the BSDs): pipes, signals, locks and file permissions of other systems are different. \
     On Windows build it in WSL 2."
);

pub mod a2a;
pub mod attach;
pub mod bind;
pub mod chain;
pub mod config;
pub mod demo;
pub mod explorer;
pub mod grpc;
pub mod http;
mod inner;
pub mod io;
pub mod keygen;
pub mod logging;
pub mod mcp;
pub mod node;
pub mod panic_hook;
pub mod pipe;
pub mod register;
pub mod schema;
pub mod shell;
mod side_runtime;
pub mod socket;
mod terminal;
