//! Broadcasts on topics, and the pace and budget of gossip.

pub mod broadcast_queue;
pub mod gossip_budget;
pub(crate) mod on_gossip;
pub mod pacer;
pub(crate) mod well_known_topics;
