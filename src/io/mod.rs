//! Everything impure that the core asks for through effects. A room in here holds one outside library, turns its
//! events into inputs and effects into its calls, and decides nothing.

pub mod crypto;
pub mod descriptors;
pub mod disk;
pub mod keystore;
pub mod parent;
pub mod store;
pub mod swarm;
