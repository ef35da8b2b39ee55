//! What is decided about peers without a look at what they say: when to try again, how much to pass on, how much haste to believe, and
//! whom the parent blocked or allowed.

pub mod recent;
pub mod retry;
pub mod standing;
pub mod urgent;
