pub mod core;
pub mod front;
