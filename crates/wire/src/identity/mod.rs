//! Who is who: the Ethereum key that names an agent, the Ed25519 key of its node, and the signed statement
//! that ties the two together.

pub mod address;
pub mod binding;
pub mod keys;
pub mod presigned;
mod secret_bytes;
pub mod typed_data;

pub use address::{AddressError, parse_address};
pub use binding::{Binding, BindingError, BindingHash, SignedBinding};
pub use keys::{AgentKey, KeyError, NodeKey, hash_fields, node_key_of, peer_id_of, verify, verify_signed};
pub use secret_bytes::SecretBytes;

/// One agent with its node, for the tests of every crate.
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "the keys are constants")]
pub mod testing {
    use super::binding::BINDING_LIFE_SECS;
    use super::{AgentKey, Binding, NodeKey};

    /// When these tests take place, in seconds since 1970.
    pub const NOW_SECS: u64 = 1_750_000_000;

    /// An agent; its key is public.
    pub fn agent() -> AgentKey {
        AgentKey::from_bytes(&[0x11; 32]).unwrap()
    }

    /// Its node; its key is public.
    pub fn node() -> NodeKey {
        NodeKey::from_seed([0x22; 32])
    }

    /// Binds the one to the other on network `dev`, from now on.
    pub fn binding() -> Binding {
        Binding {
            account: agent().address(),
            chain_id: 0,
            peer_id: node().peer_id(),
            node_key: node().public(),
            network: "dev".to_owned(),
            generation: 0,
            not_before: NOW_SECS,
            not_after: NOW_SECS + BINDING_LIFE_SECS,
        }
    }
}
