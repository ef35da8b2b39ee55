//! What is known about agents: verified records by address.

pub mod bindings;
pub mod lookups;
pub(crate) mod on_record;
pub mod record_table;
pub mod rollback_guard;
