//! What touches the world, and decides nothing.

pub mod keystore;
