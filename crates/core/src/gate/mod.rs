//! What decides about everything that comes in: who may speak, how urgently, and from where.

pub mod access_list;
pub mod address_scope;
pub mod high_priority_limiter;
pub(crate) mod sender;
