//! Mail and broadcasts on their way: out, in, and acknowledged.

pub mod answers;
pub mod arrivals;
pub mod destination;
pub mod digests;
pub mod inbox;
pub mod kinds;
pub mod outbox;
pub mod pacing;
pub mod stream;
pub mod topics;
