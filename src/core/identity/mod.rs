//! Who is who: the Ethereum key that names an agent, the Ed25519 key of its node, and the signed statement
//! that ties the two together.

pub mod binding;
pub mod keys;

pub use binding::{Binding, BindingError, BindingHash, SignedBinding};
pub use keys::{AgentKey, KeyError, NodeKey, hash_fields, node_key_of, peer_id_of, verify, verify_signed};
