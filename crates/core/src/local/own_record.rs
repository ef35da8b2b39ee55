//! Records of our own address that this process did not issue.

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Level};
use p2p_node_wire::identity::binding::{MAX_SKEW_SECS, is_future_generation};
use p2p_node_wire::record::SignedRecord;

use crate::cx::Cx;
use crate::effect::{Effect, ExitCode, Verdict};
use crate::highest_seen::HighestSeen;
use crate::input::Now;
use crate::local::Local;
use crate::signal::Signal;

impl Local {
    /// Handles a record of our own address that this process did not issue. The record has no
    /// effect if it is older than ours.
    pub(crate) fn on_own_record(&mut self, signed: &SignedRecord, cx: &mut Cx) -> Verdict {
        let now = cx.now;
        let ours = self.record.order();
        // Of two records of the same order, each peer stores the first that arrives.
        let is_conflicting =
            |current: &SignedRecord| current.order() == signed.order() && current.hash != signed.hash;
        if signed.order() <= ours && !self.record.current().is_some_and(is_conflicting) {
            return Verdict::Ignore;
        }
        if signed.order().0 > ours.0 {
            cx.effects.push_back(Effect::PersistHighestSeen(HighestSeen::from(signed)));
            superseded(signed.order().0, cx);
        } else if signed.peer_id() == cx.identity.peer
            && predates_process(signed, cx)
            && !self.record.has_raised_seq()
        {
            // The previous process of this node issued the record, with a clock that was ahead of
            // ours.
            cx.stats.count(Counter::OwnSeqRaised);
            self.record.raise_seq(signed.order().1, now);
        } else if self.record.record_conflict(signed) {
            self.record.contest(signed.order().1, now);
            if cx.identity.one_of_several {
                let message = format!(
                    "node {} also belongs to this agent: mail goes to the node that announced its record last, broadcasts go to both",
                    signed.peer_id()
                );
                cx.log(Level::Info, "identity", message);
                return Verdict::Accept;
            }
            let message = format!(
                "node {} also announces this agent's address: two nodes use the agent's key, and mail goes to the one that announced its record last; stop one of them, or give each agent a key of its own",
                signed.peer_id()
            );
            cx.emit_error(ErrorEvent::new(ErrorCode::IdentityConflict, message));
        }
        Verdict::Accept
    }
}

/// Returns `true` if the record was issued before this process started, within the tolerated
/// clock skew.
fn predates_process(signed: &SignedRecord, cx: &Cx) -> bool {
    signed.record.issued_at_ms <= cx.identity.started_ms.saturating_add(MAX_SKEW_SECS * 1000)
}

/// Ends the node, because another node of the same address has a newer generation.
pub(crate) fn superseded(generation: u64, cx: &mut Cx) {
    if cx.is_flushing() {
        return;
    }
    let message = format!(
        "another node of this identity has generation {generation}, which revokes ours ({}): this node may no longer speak for the address; restart it with a higher --generation, or leave it stopped",
        cx.identity.binding.binding.generation
    );
    cx.emit_error(ErrorEvent::new(ErrorCode::IdentitySuperseded, message));
    cx.signal(Signal::Abort(ExitCode::Config));
}

/// Removes the rows of our own address, and returns the highest one. The row only orders our own
/// records, so it does not enter the directory. Ignores rows with a generation in the future: an
/// earlier process had a wrong generation, and peers rejected its records.
pub(crate) fn own_highest_seen(
    rows: &mut Vec<HighestSeen>,
    address: &Address,
    now: Now,
) -> Option<HighestSeen> {
    rows.extract_if(.., |row| row.address == *address)
        .filter(|row| !is_future_generation(row.generation, now.unix_ms))
        .max_by_key(HighestSeen::order)
}
