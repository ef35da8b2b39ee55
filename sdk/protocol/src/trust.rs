//! The trust in an agent.

use serde::{Deserialize, Serialize};

/// Trust in a sender, whose address is always proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Trust {
    /// Only the address is known: there is no registry, or the node has no answer of it yet.
    Unverified,
    /// The registry on the chain names the sender.
    Registered,
    /// The registry named the sender when it could last be read, more than ten minutes ago.
    Stale,
    /// The registry does not name the sender.
    Unregistered,
    /// The owner of the registry blocked the sender.
    Blocked,
    /// The parent has allowed the sender.
    Allowed,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}
