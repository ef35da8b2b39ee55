//! How far a node reaches.

use std::fmt;
use std::str::FromStr;

/// What a node listens on, advertises and dials (design §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressScope {
    /// This machine alone.
    Loopback,
    /// The local networks: LAN, containers.
    Private,
    /// The internet.
    Public,
}

impl AddressScope {
    /// The scope of a network that was given none: `dev` stays on the machine, `main` is on the internet,
    /// any other is private.
    pub fn of_network(network: &str) -> Self {
        match network {
            "dev" => AddressScope::Loopback,
            "main" => AddressScope::Public,
            _ => AddressScope::Private,
        }
    }
}

/// The text is none of `loopback`, `private` and `public`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be loopback, private or public")]
pub struct UnknownScope;

impl FromStr for AddressScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "loopback" => Ok(AddressScope::Loopback),
            "private" => Ok(AddressScope::Private),
            "public" => Ok(AddressScope::Public),
            _ => Err(UnknownScope),
        }
    }
}

impl fmt::Display for AddressScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressScope::Loopback => "loopback",
            AddressScope::Private => "private",
            AddressScope::Public => "public",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_reads_back_what_it_writes() {
        for scope in [AddressScope::Loopback, AddressScope::Private, AddressScope::Public] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert_eq!("Public".parse::<AddressScope>(), Err(UnknownScope));
    }

    #[test]
    fn a_network_that_nobody_named_never_reaches_the_internet() {
        assert_eq!(AddressScope::of_network("dev"), AddressScope::Loopback);
        assert_eq!(AddressScope::of_network("main"), AddressScope::Public);
        assert_eq!(AddressScope::of_network("mainly"), AddressScope::Private);
    }
}
