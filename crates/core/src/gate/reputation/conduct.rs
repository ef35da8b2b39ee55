//! What changes a reputation, and by how much: the only table of it.

use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;

/// What a node or agent did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conduct {
    /// It sent a frame of mail that no correct node sends: malformed, forged, of or for another node.
    InvalidMail,
    /// It forwarded gossip that every node rejects: malformed, forged, of another topic or network.
    InvalidGossip,
    /// It sent a step of admission that no correct node sends, or a record of another node in it.
    InvalidAdmission,
    /// It asked or answered a question for agents in a form that no correct node uses.
    InvalidQuestion,
    /// It answered with, or put into the DHT, a record that every node rejects.
    InvalidRecord,
    /// Its agent signed two records of the same order.
    Equivocation,
    /// Its agent used the number of a message for another message.
    ReusedNumber,
    /// It sent more frames of its own on topics, or records for the DHT, than a correct node sends.
    MessageRateExceeded,
    /// It sent more bytes of its own on topics than a correct node sends.
    BandwidthExceeded,
    /// It sent mail that the node accepted.
    MailAccepted,
    /// It told the node of an agent that the node did not know.
    RecordFound,
}

/// The rule for a conduct.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) conduct: Conduct,
    /// Name of the reason of a ban; stable.
    pub(crate) name: &'static str,
    /// Change of the reputation, from the TOS document.
    pub(crate) change: f64,
    /// What the TOS document calls it.
    pub(crate) source: &'static str,
    /// Time in which the conduct counts once for each party.
    pub(crate) spacing: Duration,
}

/// Time in which reused numbers count once. Our choice, the half-life: a machine that was copied while
/// it ran reuses numbers until it notices, and is never banned for that alone.
const REUSE: Duration = Duration::from_secs(600);

/// Time in which an excess counts once. Our choice: a peer that floods is banned 0.7 s after it used up its
/// burst, and one whose excess came at once, by an accident that we did not think of, loses a tenth.
const EXCESS: Duration = Duration::from_millis(100);

const fn rule(
    conduct: Conduct,
    name: &'static str,
    change: f64,
    source: &'static str,
    spacing: Duration,
) -> Rule {
    Rule { conduct, name, change, source, spacing }
}

/// The rules, in the order of [`Conduct`]. The changes are those of the TOS document for what it calls
/// `source`. It also knows `slow_response` and `connection_drop`: they are not here, because a peer far
/// away or on a train does nothing wrong.
pub(crate) const RULES: [Rule; 11] = [
    rule(Conduct::InvalidMail, "invalid_mail", -0.2, "invalid_message", Duration::ZERO),
    rule(Conduct::InvalidGossip, "invalid_gossip", -0.2, "invalid_message", Duration::ZERO),
    rule(Conduct::InvalidAdmission, "invalid_admission", -0.2, "invalid_message", Duration::ZERO),
    rule(Conduct::InvalidQuestion, "invalid_question", -0.2, "invalid_message", Duration::ZERO),
    rule(Conduct::InvalidRecord, "invalid_record", -0.2, "invalid_message", Duration::ZERO),
    rule(Conduct::Equivocation, "equivocation", -0.3, "consensus_violation", Duration::ZERO),
    rule(Conduct::ReusedNumber, "reused_number", -0.3, "consensus_violation", REUSE),
    rule(Conduct::MessageRateExceeded, "message_rate_exceeded", -0.1, "message_rate_exceeded", EXCESS),
    rule(Conduct::BandwidthExceeded, "bandwidth_exceeded", -0.15, "bandwidth_exceeded", EXCESS),
    rule(Conduct::MailAccepted, "mail_accepted", 0.02, "valid_transaction", Duration::ZERO),
    rule(Conduct::RecordFound, "record_found", 0.01, "helpful_peer_info", Duration::ZERO),
];

impl Conduct {
    pub(crate) fn rule(self) -> &'static Rule {
        &RULES[self as usize]
    }

    /// Returns the name, as the reason of a ban.
    pub fn name(self) -> &'static str {
        self.rule().name
    }

    /// Returns the conduct with this name.
    pub fn by_name(name: &str) -> Option<Conduct> {
        RULES.iter().find(|rule| rule.name == name).map(|rule| rule.conduct)
    }
}

/// Something that a node did, for its reputation and that of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The node: the peer that sent it, or the author of an authentic frame.
    pub(crate) node: PeerId,
    /// The agent, if a signature proves it. Otherwise that of the record of the node.
    pub(crate) agent: Option<Address>,
    /// What it did.
    pub(crate) conduct: Conduct,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_conduct_has_its_rule_with_the_change_of_the_source_document() {
        let document = [
            ("message_rate_exceeded", -0.1),
            ("bandwidth_exceeded", -0.15),
            ("invalid_message", -0.2),
            ("consensus_violation", -0.3),
            ("valid_transaction", 0.02),
            ("helpful_peer_info", 0.01),
        ];
        for (number, rule) in RULES.iter().enumerate() {
            assert_eq!((rule.conduct as usize, Conduct::by_name(rule.name)), (number, Some(rule.conduct)));
            assert!(document.contains(&(rule.source, rule.change)), "{rule:?}");
        }
        assert_eq!(Conduct::by_name("other"), None);
    }
}
