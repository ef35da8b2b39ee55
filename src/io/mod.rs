//! I/O for the effects of the core. Each module wraps one library, executes effects with it and
//! converts its events into inputs. No module makes decisions.

pub mod byte_streams;
pub mod crypto;
pub mod descriptors;
pub mod dns;
pub mod dns_seeds;
pub mod files;
pub mod keystore;
pub mod parent_watcher;
pub mod peer_book;
pub mod regions;
pub mod rendezvous;
pub mod sources;
pub mod swarm;
pub mod traces;
