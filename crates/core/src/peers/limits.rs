//! The limits of the connections and dials of a node.

use std::time::Duration;

use p2p_node_protocol::Role;

/// Maximum number of connections of an agent's node. The CHORUS node package allows 50, which is
/// less than its own high watermark; 200 leaves room for inbound connections.
const MAX: usize = 200;
/// Maximum number of connections of a bootstrap node, through which all other nodes join. Also the
/// largest value of the setting. Measured: with 1,000, of which three quarters may come in, a network
/// of 1,000 agents never came to rest, because each agent stores its record on all servers.
pub const MAX_CONNECTIONS: usize = 2000;
/// Maximum number of connections of a light node. Our choice: twice the number that a node seeks.
const MAX_OF_LIGHT: usize = 16;
/// Smallest value of the setting: a node with a few connections still reaches the network through them.
pub const MIN_CONNECTIONS: usize = 8;
/// Number of connections above which the node trims, from the CHORUS node package.
const HIGH_WATERMARK: usize = 128;
/// Number of connections that a node keeps when it trims, from the CHORUS node package.
const LOW_WATERMARK: usize = 32;
/// Number of connections from which on the node opens no more for comfort, from the TOS document.
const TARGET_PEERS: usize = 25;
/// Number of connections that an agent's node seeks, from the TOS document (minimum number of
/// peers).
pub(crate) const MIN_PEERS: usize = 8;
/// Number of incoming connections that each IP address may always have, from the CHORUS node package
/// and the TOS document.
pub const CONNECTIONS_PER_ADDRESS: u32 = 3;
/// Age below which the node does not trim a connection. Our choice: by then the two
/// nodes know what they are to each other.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Dials a second, from the CHORUS node package.
const DIALS_PER_SECOND: u32 = 5;
/// Dials at the same time, from the CHORUS node package.
const CONCURRENT_DIALS: usize = 10;
/// Largest number of dials at the same time: mail may use twice as many, and the swarm holds 32.
pub const MAX_CONCURRENT_DIALS: usize = 16;
/// Largest number of dials a second: our choice, one in a millisecond.
pub const MAX_DIALS_PER_SECOND: u32 = 1000;

/// Longest join stagger: our choice. A fleet of 1,000 nodes then joins with 17 nodes a second.
pub const MAX_JOIN_STAGGER: Duration = Duration::from_secs(60);

/// The limits of the connections and dials of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Maximum number of connections. The swarm refuses more.
    pub max: usize,
    /// The node trims when it has more connections.
    pub high_watermark: usize,
    /// The number of connections that the node keeps when it trims.
    pub low_watermark: usize,
    /// From this number on, the node dials for a topic only what gossip cannot do without.
    pub target: usize,
    /// The number of connections that the node seeks.
    pub min: usize,
    /// Age below which the node does not trim a connection.
    pub grace: Duration,
    /// Largest number of dials a second, without those for mail.
    pub dials_per_second: u32,
    /// Largest number of dials at the same time. Together with dials for mail, twice as many.
    pub concurrent_dials: usize,
    /// Longest random wait before the node dials its first peers.
    pub join_stagger: Duration,
}

impl ConnectionLimits {
    /// Returns the default of the maximum number of connections.
    pub fn default_max(role: Role) -> usize {
        match role {
            Role::Bootstrap => MAX_CONNECTIONS,
            Role::Light => MAX_OF_LIGHT,
            Role::Full | Role::Unknown => MAX,
        }
    }

    /// Returns the default of the target for a low watermark.
    pub fn default_target(low_watermark: usize) -> usize {
        TARGET_PEERS.min(low_watermark)
    }

    /// Returns the default of the minimum for a target: at most half of it, so that a node that others have
    /// trimmed does not dial again at once.
    pub fn default_min(target: usize) -> usize {
        MIN_PEERS.min((target / 2).max(1))
    }

    /// Returns the defaults for a role and a maximum number of connections.
    ///
    /// The swarm accepts three quarters of the maximum from outside. A bootstrap node lives from those,
    /// so it trims strangers only when they nearly use them up: from 1,400 of 2,000 down to 1,200, which
    /// leaves room for 300 nodes that join.
    pub fn new(role: Role, max: usize) -> Self {
        let (high, low) = match role {
            Role::Bootstrap => (max * 7 / 10, max * 6 / 10),
            _ => (HIGH_WATERMARK.min(max * 3 / 4), LOW_WATERMARK),
        };
        let high_watermark = high.max(1);
        let low_watermark = low.clamp(1, high_watermark);
        let target = Self::default_target(low_watermark);
        ConnectionLimits {
            max,
            high_watermark,
            low_watermark,
            target,
            min: Self::default_min(target),
            grace: DEFAULT_GRACE,
            dials_per_second: DIALS_PER_SECOND,
            concurrent_dials: CONCURRENT_DIALS,
            join_stagger: Duration::ZERO,
        }
    }

    /// Returns these limits with each number at most as large as the next larger one: minimum, target,
    /// low watermark, high watermark, maximum.
    #[must_use]
    pub fn lowered(mut self) -> Self {
        self.high_watermark = self.high_watermark.min(self.max);
        self.low_watermark = self.low_watermark.min(self.high_watermark);
        self.target = self.target.min(self.low_watermark);
        self.min = self.min.min(self.target);
        self
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Returns an explanation for people.
    pub fn check(&self) -> Result<(), String> {
        let ordered = [
            ("--min-peers", self.min),
            ("--target-peers", self.target),
            ("--low-watermark", self.low_watermark),
            ("--high-watermark", self.high_watermark),
            ("--max-connections", self.max),
        ];
        for (less, more) in ordered.iter().zip(ordered.iter().skip(1)) {
            if less.1 > more.1 {
                return Err(format!("{} ({}) must not exceed {} ({})", less.0, less.1, more.0, more.1));
            }
        }
        Ok(())
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits::new(Role::Full, MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_each_role_are_ordered_for_each_maximum() {
        for role in [Role::Full, Role::Light, Role::Bootstrap] {
            for max in 1..=MAX_CONNECTIONS {
                let limits = ConnectionLimits::new(role, max);
                assert_eq!(limits.check(), Ok(()), "{limits:?}");
                assert!(limits.high_watermark > 0);
            }
        }
        let full = ConnectionLimits::default();
        assert_eq!((full.high_watermark, full.low_watermark, full.target, full.min), (128, 32, 25, 8));
        let light = ConnectionLimits::new(Role::Light, ConnectionLimits::default_max(Role::Light));
        assert_eq!((light.high_watermark, light.low_watermark, light.target, light.min), (12, 12, 12, 6));
        let bootstrap = ConnectionLimits::new(Role::Bootstrap, MAX_CONNECTIONS);
        assert_eq!((bootstrap.high_watermark, bootstrap.low_watermark), (1400, 1200));
    }

    #[test]
    fn limits_in_the_wrong_order_are_named() {
        let limits = ConnectionLimits { high_watermark: 20, ..ConnectionLimits::default() };
        assert_eq!(
            limits.check(),
            Err("--low-watermark (32) must not exceed --high-watermark (20)".to_owned())
        );
        assert_eq!(limits.lowered().check(), Ok(()));
        let limits = ConnectionLimits { min: 26, ..ConnectionLimits::default() };
        assert_eq!(limits.check(), Err("--min-peers (26) must not exceed --target-peers (25)".to_owned()));
    }
}
