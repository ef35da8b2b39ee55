//! p2p-node: a place on a peer-to-peer network for any agent process.
//!
//! ```text
//! stdin line ─ front ─ Command ───┐                       ┌─ Event ─ front ─ stdout line
//!                                 ├─ Input ─► Core ─► Effect
//! swarm · crypto · store · timer ─┘   (pure)              └─ io::{swarm, crypto, store}
//!
//! inside Core, for the network:  verify ► replay ► directory | delivery ► Emit + Verdict
//! ```
//!
//! `ARCHITECTURE.md` describes the rooms and what each may touch; `docs/pipe-protocol.md` what crosses the pipe, and
//! `docs/wire-protocol.md` what crosses the wire.

#[cfg(not(unix))]
compile_error!(
    "p2p-node runs on Unix alone (Linux, macOS, the BSDs): pipes, signals, locks and file permissions of other systems are different. \
     On Windows build it in WSL 2."
);

pub mod bind;
pub mod config;
pub mod defect;
pub mod demo;
pub mod front;
pub mod io;
pub mod keygen;
pub mod logging;
pub mod node;
pub mod schema;
