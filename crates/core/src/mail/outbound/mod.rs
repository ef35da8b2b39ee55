//! Mail that leaves: queued by recipient, numbered in streams, sent until it is acknowledged.

pub(crate) mod admission;
pub mod default_priority;
pub mod destination;
pub(crate) mod on_mail_response;
pub mod outbox;
pub(crate) mod route;
pub mod stream;
pub(crate) mod transmit;
