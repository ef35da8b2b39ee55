//! Mail and broadcasts on their way: out, in, and acknowledged.

pub mod destination;
pub mod outbox;
pub mod stream;
