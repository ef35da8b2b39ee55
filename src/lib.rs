pub mod core;
pub mod io;
