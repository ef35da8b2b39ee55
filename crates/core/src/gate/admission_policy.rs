//! The admission policy: which agents and nodes this node lets in.

use std::str::FromStr;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::lru_map::LruMap;

use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::gate::registry::Registration;

/// Largest number of nodes that the node remembers because the configuration names them or its parent wrote
/// to them by PeerId: our choice, several times the peers of a configuration. A new one replaces the oldest.
pub const MAX_KNOWN_NODES: usize = 1024;
/// Pause that a node asks for when it has no room for another handshake, or has not read the registry. Our
/// choice: by then there is room for 200 more, and a server of the chain has answered.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Pause that a node asks for when the clocks of both nodes differ too much. Our choice: a machine that
/// starts without a clock has the time some seconds later.
const CLOCK_PAUSE: Duration = Duration::from_secs(5);

/// Which agents the node admits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdmissionMode {
    /// Every agent that is not blocked.
    #[default]
    Open,
    /// Agents and nodes that the parent allowed or wrote to, and the peers of the configuration.
    Known,
    /// Agents of the registry, and those of `Known`.
    Registered,
}

impl FromStr for AdmissionMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(AdmissionMode::Open),
            "known" => Ok(AdmissionMode::Known),
            "registered" => Ok(AdmissionMode::Registered),
            _ => Err("use `open`, `known` or `registered`".to_owned()),
        }
    }
}

/// The reasons why a node does not admit a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The node banned the agent or its node.
    Banned,
    /// The parent blocked the agent or its node.
    Blocked,
    /// The node admits known agents only.
    NotKnown,
    /// The node admits registered agents only.
    NotRegistered,
    /// The node has no capacity for another handshake.
    Busy,
    /// The record or the binding is not valid at this time.
    ClockOutOfRange,
    /// The signature is not of this exchange.
    Forged,
    /// The record is not valid, or is of another node.
    InvalidRecord,
    /// The step is malformed.
    Malformed,
    /// The step does not follow from the one before.
    OutOfTurn,
    /// The generation of the binding is revoked.
    Superseded,
    /// The node has not read the agent in the registry yet.
    RegistryUnread,
    /// The peer did not finish the handshake in time.
    TimedOut,
    /// The peer began too many exchanges.
    TooMany,
    /// The step is of a later version.
    UnsupportedVersion,
    /// The peer belongs to another network.
    WrongNetwork,
    /// The stated role is not that of the record.
    WrongRole,
}

impl Refusal {
    /// Returns the stable code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Refusal::Banned => "BANNED",
            Refusal::Blocked => "BLOCKED",
            Refusal::NotKnown => "NOT_KNOWN",
            Refusal::NotRegistered => "NOT_REGISTERED",
            Refusal::Busy | Refusal::RegistryUnread => "BUSY",
            Refusal::ClockOutOfRange => "CLOCK_OUT_OF_RANGE",
            Refusal::Forged => "FORGED",
            Refusal::InvalidRecord => "INVALID_RECORD",
            Refusal::Malformed => "MALFORMED",
            Refusal::OutOfTurn => "OUT_OF_TURN",
            Refusal::Superseded => "SUPERSEDED",
            Refusal::TimedOut => "TIMED_OUT",
            Refusal::TooMany => "TOO_MANY",
            Refusal::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Refusal::WrongNetwork => "WRONG_NETWORK",
            Refusal::WrongRole => "WRONG_ROLE",
        }
    }

    /// Returns the reason for people.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::Banned => "this agent or node is banned",
            Refusal::Blocked => "this agent or node is blocked",
            Refusal::NotKnown => "this node admits only agents that it knows",
            Refusal::NotRegistered => "this node admits only registered agents",
            Refusal::Busy => "too many handshakes at the moment",
            Refusal::ClockOutOfRange => "the record is not valid at this time: compare the clocks",
            Refusal::Forged => "the signature is not of this exchange",
            Refusal::InvalidRecord => "the record is not a valid record of this node",
            Refusal::Malformed => "the step is malformed",
            Refusal::OutOfTurn => "the step does not follow from the one before",
            Refusal::Superseded => "the generation of the binding is revoked",
            Refusal::RegistryUnread => "the registry has not been read yet",
            Refusal::TimedOut => "the handshake took too long",
            Refusal::TooMany => "too many handshakes in a row",
            Refusal::UnsupportedVersion => "the step is of a later version",
            Refusal::WrongNetwork => "this node belongs to another network",
            Refusal::WrongRole => "the stated role is not that of the record",
        }
    }

    /// Returns `true` if no correct node gives this cause. The directory judges records.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Refusal::Forged
                | Refusal::Malformed
                | Refusal::TooMany
                | Refusal::WrongNetwork
                | Refusal::WrongRole
        )
    }

    /// Returns `true` if the node has no room or no answer at the moment.
    pub(crate) fn is_busy(self) -> bool {
        matches!(self, Refusal::Busy | Refusal::RegistryUnread)
    }

    /// Returns `true` if another attempt on the same connection may succeed.
    pub(crate) fn is_temporary(self) -> bool {
        self.is_busy() || self == Refusal::ClockOutOfRange
    }

    /// Returns the time after which another attempt makes sense. Zero if none does for now.
    pub(crate) fn retry_after(self) -> Duration {
        match self {
            Refusal::Busy | Refusal::RegistryUnread => BUSY_PAUSE,
            Refusal::ClockOutOfRange => CLOCK_PAUSE,
            _ => Duration::ZERO,
        }
    }
}

/// Returns `true` if a peer that rejects this node with this code does so by its policy, so that mail to
/// its agent cannot arrive.
pub(crate) fn is_policy(code: &str) -> bool {
    [Refusal::Banned, Refusal::Blocked, Refusal::NotKnown, Refusal::NotRegistered]
        .iter()
        .any(|refusal| refusal.code() == code)
}

/// Which agents the node admits, and the nodes that it knows. The tiers know the agents.
#[derive(Debug)]
pub(crate) struct AdmissionPolicy {
    mode: AdmissionMode,
    known_nodes: LruMap<PeerId, ()>,
}

impl AdmissionPolicy {
    pub(crate) fn new(mode: AdmissionMode) -> Self {
        AdmissionPolicy { mode, known_nodes: LruMap::default() }
    }

    /// Remembers a node of the configuration, or to which the parent writes.
    pub(crate) fn meet(&mut self, node: PeerId) {
        if self.is_open() {
            return;
        }
        self.known_nodes.insert(node, ());
        self.known_nodes.shrink_to(MAX_KNOWN_NODES);
    }

    /// Returns `true` if the node admits every agent that it does not refuse.
    pub(crate) fn is_open(&self) -> bool {
        self.mode == AdmissionMode::Open
    }

    /// Returns `true` if the registry decides on agents that the node does not know.
    pub(crate) fn asks_registry(&self) -> bool {
        self.mode == AdmissionMode::Registered
    }

    /// Returns `true` for a node of the configuration, or to which the parent wrote.
    pub(crate) fn knows(&self, node: &PeerId) -> bool {
        self.known_nodes.contains_key(node)
    }

    pub(crate) fn known_nodes(&self) -> usize {
        self.known_nodes.len()
    }
}

impl Gate {
    /// Decides whether the node accepts mail of this agent on this node. A configured node is known once it
    /// has connected.
    pub(crate) fn accepts_mail(
        &self,
        agent: &Address,
        node: &PeerId,
        registration: Registration,
    ) -> Result<(), Refusal> {
        self.admits(agent, node, false, registration)
    }

    /// Decides whether the node admits this agent on this node. `is_configured` states that the
    /// configuration names the node, as a bootstrap peer or in a region.
    pub(crate) fn admits(
        &self,
        agent: &Address,
        node: &PeerId,
        is_configured: bool,
        registration: Registration,
    ) -> Result<(), Refusal> {
        let rule = self.access_list.of(agent, node);
        if rule == Some(AccessRule::Blocked) {
            return Err(Refusal::Blocked);
        }
        if self.reputations.is_banned(agent, node) {
            return Err(Refusal::Banned);
        }
        let is_known = rule == Some(AccessRule::Allowed)
            || is_configured
            || self.tiers.is_mailed(agent)
            || self.admission.knows(node);
        match self.admission.mode {
            AdmissionMode::Open => Ok(()),
            _ if is_known => Ok(()),
            AdmissionMode::Known => Err(Refusal::NotKnown),
            AdmissionMode::Registered => match registration {
                Registration::Registered | Registration::RegisteredOnce => Ok(()),
                Registration::Unknown => Err(Refusal::RegistryUnread),
                Registration::NotRegistered => Err(Refusal::NotRegistered),
                Registration::Blocked => Err(Refusal::Blocked),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::access_list::Subject;
    use crate::testing::core_with;

    fn agent(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    fn verdicts(gate: &Gate, of: u8, registration: Registration) -> [Result<(), Refusal>; 2] {
        let node = PeerId::random();
        [false, true].map(|is_configured| gate.admits(&agent(of), &node, is_configured, registration))
    }

    fn gate(mode: AdmissionMode) -> Gate {
        let rules = [(agent(1), AccessRule::Blocked), (agent(2), AccessRule::Allowed)];
        let mut gate = core_with(|config| {
            config.admission = mode;
            config.access_rules = rules.map(|(agent, rule)| (Subject::Agent(agent), rule)).into();
        })
        .gate;
        gate.tiers.on_mailed(agent(3));
        gate
    }

    #[test]
    fn each_mode_admits_whom_it_names() {
        for mode in [AdmissionMode::Open, AdmissionMode::Known, AdmissionMode::Registered] {
            let gate = gate(mode);
            assert_eq!(verdicts(&gate, 1, Registration::Registered), [Err(Refusal::Blocked); 2], "{mode:?}");
            assert_eq!(verdicts(&gate, 2, Registration::NotRegistered), [Ok(()); 2], "{mode:?}: allowed");
            assert_eq!(verdicts(&gate, 3, Registration::NotRegistered), [Ok(()); 2], "{mode:?}: mailed");
        }
        let stranger = |mode, registration| verdicts(&gate(mode), 4, registration);
        assert_eq!(stranger(AdmissionMode::Open, Registration::NotRegistered), [Ok(()); 2]);
        assert_eq!(
            stranger(AdmissionMode::Known, Registration::Registered),
            [Err(Refusal::NotKnown), Ok(())]
        );
        for (registration, verdict) in [
            (Registration::Registered, Ok(())),
            (Registration::RegisteredOnce, Ok(())),
            (Registration::Unknown, Err(Refusal::RegistryUnread)),
            (Registration::NotRegistered, Err(Refusal::NotRegistered)),
            (Registration::Blocked, Err(Refusal::Blocked)),
        ] {
            assert_eq!(stranger(AdmissionMode::Registered, registration), [verdict, Ok(())]);
        }
    }

    #[test]
    fn known_mode_holds_without_limits() {
        let gate = core_with(|config| {
            (config.admission, config.limits_apply) = (AdmissionMode::Known, false);
        })
        .gate;
        assert_eq!(verdicts(&gate, 4, Registration::Unknown), [Err(Refusal::NotKnown), Ok(())]);
    }

    #[test]
    fn known_nodes_have_a_limit_and_the_oldest_goes() {
        let mut gate = gate(AdmissionMode::Known);
        let nodes: Vec<PeerId> = (0..=MAX_KNOWN_NODES).map(|_| PeerId::random()).collect();
        nodes.iter().for_each(|node| gate.admission.meet(*node));
        assert_eq!(gate.admission.known_nodes(), MAX_KNOWN_NODES);
        let admits = |node| gate.admits(&agent(4), node, false, Registration::Unknown);
        assert_eq!((admits(&nodes[0]), admits(&nodes[1])), (Err(Refusal::NotKnown), Ok(())));
    }

    #[test]
    fn modes_have_names() {
        assert_eq!("open".parse(), Ok(AdmissionMode::Open));
        assert_eq!("known".parse(), Ok(AdmissionMode::Known));
        assert_eq!("registered".parse(), Ok(AdmissionMode::Registered));
        assert!("closed".parse::<AdmissionMode>().is_err());
    }
}
