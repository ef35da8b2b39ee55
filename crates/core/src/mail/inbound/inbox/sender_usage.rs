//! What one sender takes of the inbox.

use std::collections::BTreeSet;

use p2p_node_wire::envelope::limits::MAX_ACK_COUNTERS;

/// What one sender takes.
#[derive(Debug, Default)]
pub(crate) struct SenderUsage {
    pub(crate) streams: usize,
    /// The node that its last mail came from.
    pub(crate) node_key: Option<[u8; 32]>,
    /// The process whose frames came by gossip, and the latest of them.
    pub(crate) boot: u64,
    pub(crate) counters: BTreeSet<u64>,
    /// Messages that wait for earlier ones, and their bytes.
    pub(crate) held: usize,
    pub(crate) held_bytes: usize,
    /// Handed on, and not known to have arrived.
    pub(crate) outstanding: usize,
    /// Arrived before something earlier.
    pub(crate) beyond: usize,
}

impl SenderUsage {
    /// A frame of mail has come by gossip. The node answers it with its next acknowledgement.
    pub(crate) fn heard(&mut self, boot: u64, counter: u64) {
        if self.boot != boot {
            (self.boot, self.counters) = (boot, BTreeSet::new());
        }
        self.counters.insert(counter);
        if self.counters.len() > MAX_ACK_COUNTERS {
            self.counters.pop_first();
        }
    }

    /// All that has arrived before something earlier, or may yet have.
    pub(crate) fn waiting(&self) -> usize {
        self.held + self.outstanding + self.beyond
    }

    /// A message of so many bytes waits no longer.
    pub(crate) fn release(&mut self, size: usize) {
        self.held -= 1;
        self.held_bytes -= size;
    }
}
