//! Publication of our record: the DHT and the announcements topic.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, MAX_CAPABILITIES, MAX_CAPABILITIES_BYTES};
use p2p_node_wire::record::{MAX_RECORD_TAG_BYTES, MAX_RECORD_TAGS};

use crate::cx::Cx;
use crate::effect::{Effect, NetworkCommand};
use crate::highest_seen::HighestSeen;
use crate::local::Local;
use crate::replies::reply_to::ReplyTo;
use crate::topics::ANNOUNCEMENTS;

// Topics keep most of the tags of a record and half of their bytes.
const _: () = assert!(MAX_CAPABILITIES <= MAX_RECORD_TAGS / 4);
const _: () = assert!(MAX_CAPABILITIES_BYTES <= MAX_RECORD_TAG_BYTES / 2);

/// Checks the capabilities of an agent.
///
/// # Errors
/// Returns an explanation for people if there are too many, or one is empty or not printable.
pub fn check_capabilities(capabilities: &[String]) -> Result<(), String> {
    let bytes: usize = capabilities.iter().map(String::len).sum();
    if capabilities.len() > MAX_CAPABILITIES || bytes > MAX_CAPABILITIES_BYTES {
        return Err(format!(
            "at most {MAX_CAPABILITIES} capabilities are possible, with {MAX_CAPABILITIES_BYTES} bytes in total"
        ));
    }
    let is_named = |name: &String| !name.is_empty() && !name.contains(char::is_control);
    match capabilities.iter().all(is_named) {
        true => Ok(()),
        false => Err("a capability must not be empty or contain control characters".to_owned()),
    }
}

impl Local {
    /// Replaces the capabilities in our record.
    pub(crate) fn set_capabilities(&mut self, command: ReplyTo, capabilities: Vec<String>, cx: &mut Cx) {
        if let Err(message) = check_capabilities(&capabilities) {
            return cx.refuse(command, ErrorCode::InvalidArgument, message);
        }
        let left_out = self.record.set_capabilities(capabilities, cx.now);
        cx.stats.add(Counter::TopicsNotInRecord, left_out as u64);
        cx.answer(command, "capabilities", |_| {});
    }

    pub(crate) fn advertise_topics(&mut self, topics: &BTreeSet<String>, cx: &mut Cx) {
        let now = cx.now;
        let left_out = self.record.set_topics(topics, now);
        if left_out > 0 {
            cx.stats.add(Counter::TopicsNotInRecord, left_out as u64);
        }
    }

    /// Publishes our record when it is due. `agents` is the number of known agents.
    pub(crate) fn publish_local_record(&mut self, agents: usize, cx: &mut Cx) {
        let now = cx.now;
        if !self.check_binding_expiry(cx) {
            return;
        }
        self.reissue_if_due(cx);
        let due = self.record.due(now, agents, &mut cx.jitter);
        if let Some(record) = self.record.current() {
            let (bytes, lifetime) =
                (record.bytes.clone(), record.record.expires_at_ms.saturating_sub(now.unix_ms));
            let key = Bytes::copy_from_slice(&p2p_node_wire::record::kad_key(
                &cx.identity.network,
                &cx.identity.address,
            ));
            if due.publish {
                let lifetime = Duration::from_millis(lifetime);
                cx.network(NetworkCommand::PutRecord { key, value: bytes.clone(), lifetime });
            }
            if due.announce {
                let token = cx.token();
                cx.network(NetworkCommand::Publish { token, topic: ANNOUNCEMENTS.to_owned(), data: bytes });
            }
        }
    }

    pub(crate) fn reissue_if_due(&mut self, cx: &mut Cx) {
        let now = cx.now;
        // The KEM keys rotate first, so that the record never names an expired key.
        self.rotate_kem_keys(cx);
        match self.record.reissue(now, &cx.identity.node_key, &mut cx.jitter) {
            Ok(true) => {
                let row = self.record.current().map(HighestSeen::from);
                cx.effects.extend(row.map(Effect::PersistHighestSeen));
            }
            Ok(false) => {}
            Err(error) => {
                let message = format!("the node cannot create its own record: {error}");
                cx.emit_error(ErrorEvent::new(ErrorCode::Internal, message));
            }
        }
    }

    /// Rotates the KEM keys when a rotation is due, and updates our record.
    pub(crate) fn rotate_kem_keys(&mut self, cx: &Cx) {
        let now = cx.now;
        self.keyring.rotate(now);
        self.record.set_kem(self.keyring.current(), now);
    }
}
