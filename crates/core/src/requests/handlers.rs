//! The kinds of requests that each client handles.

use std::collections::{BTreeMap, BTreeSet};

use p2p_node_protocol::MAX_HANDLED_KINDS;

use crate::client_id::ClientId;

/// Largest number of kinds of a client.
pub(crate) const MAX_KINDS: usize = MAX_HANDLED_KINDS;

/// The kind that stands for all requests without another handler.
pub(crate) const ANY_KIND: &str = "*";

/// The clients that handle each kind.
#[derive(Debug, Default)]
pub(crate) struct Handlers(BTreeMap<String, BTreeSet<ClientId>>);

impl Handlers {
    /// Replaces the kinds of a client.
    pub(super) fn set(&mut self, client: ClientId, kinds: Vec<String>) {
        for clients in self.0.values_mut() {
            clients.remove(&client);
        }
        for kind in kinds {
            self.0.entry(kind).or_default().insert(client);
        }
        self.0.retain(|_, clients| !clients.is_empty());
    }

    /// Forgets all clients.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the clients that handle a kind. A handler of the kind itself goes before one of all kinds.
    pub(super) fn of(&self, kind: &str) -> impl Iterator<Item = ClientId> {
        let clients = self.0.get(kind).filter(|_| kind != ANY_KIND).or_else(|| self.0.get(ANY_KIND));
        clients.into_iter().flatten().copied()
    }

    /// Returns the number of kinds of all clients.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handler_of_a_kind_goes_before_handler_of_all_kinds() {
        let mut handlers = Handlers::default();
        let of = |handlers: &Handlers, kind: &str| handlers.of(kind).collect::<Vec<_>>();
        let (one, other) = (ClientId(1), ClientId(2));
        handlers.set(one, vec!["sum".to_owned(), "product".to_owned()]);
        handlers.set(other, vec!["*".to_owned(), "sum".to_owned()]);
        assert_eq!(of(&handlers, "sum"), [one, other]);
        assert_eq!(of(&handlers, "product"), [one]);
        assert_eq!(
            (of(&handlers, "x"), of(&handlers, ""), of(&handlers, "*")),
            (vec![other], vec![other], vec![other])
        );
        assert_eq!(handlers.len(), 4);
        handlers.set(other, Vec::new());
        assert_eq!((of(&handlers, "sum"), of(&handlers, "x")), (vec![one], Vec::new()));
        handlers.clear();
        assert_eq!(handlers.len(), 0);
    }
}
