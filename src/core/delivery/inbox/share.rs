//! What one sender takes of the inbox.

/// What one sender takes.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) streams: usize,
    /// The node that its last mail came from.
    pub(super) node_key: Option<[u8; 32]>,
    /// Messages that wait for earlier ones, and their bytes.
    pub(super) held: usize,
    pub(super) held_bytes: usize,
    /// Handed on, and not known to have arrived.
    pub(super) outstanding: usize,
    /// Arrived before something earlier.
    pub(super) beyond: usize,
}

impl Share {
    /// All that has arrived before something earlier, or may yet have.
    pub(super) fn waiting(&self) -> usize {
        self.held + self.outstanding + self.beyond
    }

    /// A message of so many bytes waits no longer.
    pub(super) fn holds_less(&mut self, size: usize) {
        self.held -= 1;
        self.held_bytes -= size;
    }
}
