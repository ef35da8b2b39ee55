//! What is known about agents: verified records by address.

pub mod bindings;
pub mod book;
pub mod floors;
