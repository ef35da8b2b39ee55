//! The pure core.
pub mod directory;
pub mod effect;
pub mod envelope;
pub mod identity;
pub mod input;
pub mod wire;
