//! Identities: the Ethereum key of an agent, the Ed25519 key of its node, and the signed binding
//! between the two.

pub mod address;
pub mod binding;
pub mod keys;
pub mod presigned;
mod secret_bytes;
pub mod typed_data;

pub use address::{AddressError, parse_address};
pub use binding::{Binding, BindingError, BindingHash, SignedBinding};
pub use keys::{
    AgentKey, KeyError, NodeKey, NodePublicKey, hash_fields, node_key_of, peer_id_of, verify, verify_signed,
};
pub use secret_bytes::SecretBytes;

/// An agent with its node, for the tests of every crate.
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "the keys are constants")]
pub mod testing {
    use super::binding::BINDING_LIFE_SECS;
    use super::{AgentKey, Binding, NodeKey};

    /// The time of these tests, in seconds since 1970.
    pub const NOW_SECS: u64 = 1_750_000_000;

    /// Returns an agent's key. Its secret is public.
    pub fn agent() -> AgentKey {
        AgentKey::from_bytes(&[0x11; 32]).unwrap()
    }

    /// Returns the key of the agent's node. Its secret is public.
    pub fn node() -> NodeKey {
        NodeKey::from_seed([0x22; 32])
    }

    /// Returns a binding of the agent to the node on network `dev`, valid from [`NOW_SECS`].
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
