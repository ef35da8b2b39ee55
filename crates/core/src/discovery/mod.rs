//! How others are found: through the nodes named at the start, and by asking the DHT.

pub mod bootstrap;
pub mod queries;
pub mod servers;
