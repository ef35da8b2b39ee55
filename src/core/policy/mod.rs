//! What is decided about peers without a look at what they say: when to try again, and whom the parent blocked or allowed.

pub mod retry;
pub mod standing;
