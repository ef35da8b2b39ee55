//! The store of a killed process.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_testing::store::Store;
use p2p_node_wire::message_id::{message_id, message_name, parse_message_id};

use crate::parent::Restored;
use crate::world::World;

/// Returns the messages whose deliveries the next process may report.
pub fn restored(store: &Store, account: &Address) -> BTreeMap<String, Restored> {
    let restored = |message: &PersistedMessage| {
        let (from, life, serial, to, _pad): (usize, u32, u64, usize, String) =
            serde_json::from_slice(&message.draft.data).expect("a payload of the simulation");
        let id = message_id(&message_name(account, &message.stream), message.seq);
        (id, Restored { name: (from, life, serial), to })
    };
    store.messages.values().map(restored).collect()
}

fn has(store: &Store, account: &Address, message_id: &str) -> bool {
    parse_message_id(message_id).is_some_and(|(name, seq)| {
        let mut keys = store.messages.keys();
        keys.any(|(stream, other)| *other == seq && message_name(account, stream) == name)
    })
}

impl World {
    /// Kills the store of a process: a random number of its pending writes is persisted. Accepted
    /// messages must be persisted.
    pub fn kill_store(&mut self, node: usize) {
        let store = &mut self.network.endpoints[node].store;
        let arrived = self.rng.below(store.pending().len() + 1);
        store.end(arrived);
        let (store, here) = (&self.network.endpoints[node].store, &self.nodes[node]);
        let account = here.account();
        // A parent that does not read does not know which messages completed.
        if here.durable && here.parent.reads && here.parent.unread.is_empty() {
            let missing = here.parent.accepted.keys().find(|id| !has(store, &account, id)).cloned();
            if let Some(id) = missing {
                self.violate("an accepted message is persisted", node, id);
            }
        }
    }
}
