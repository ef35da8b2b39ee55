//! Outgoing messages: queued by recipient, numbered in streams, and sent until the recipient has
//! acknowledged them.

pub(crate) mod admission;
pub mod destination;
pub(crate) mod files;
pub mod lane;
pub(crate) mod on_mail_response;
pub(crate) mod on_rejected;
pub mod outbox;
pub(crate) mod route;
pub mod stream;
pub(crate) mod transmit;
