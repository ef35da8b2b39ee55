//! The pure core.
pub mod delivery;
pub mod directory;
pub mod effect;
pub mod emit;
pub mod envelope;
pub mod identity;
pub mod input;
pub mod policy;
pub mod scope;
pub mod stats;
pub mod wire;
