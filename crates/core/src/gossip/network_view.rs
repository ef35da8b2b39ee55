//! The network view: the newest status of each node that publishes one. A status changes the row of its
//! author alone, whose signature the gate has checked.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_wire::lru_map::LruMap;

use crate::gossip::node_status::NodeStatus;
use crate::input::Now;

/// Largest number of nodes in the view: our choice, as many as the directory has agents. Each takes up to
/// 1.5 KiB.
pub const MAX_VIEW_NODES: usize = 10_000;
/// Time after which the node forgets a status: an hour, from the TOS document, which keeps what it heard
/// of a peer so long.
pub const STATUS_LIFE: Duration = Duration::from_secs(60 * 60);

/// What the node heard of another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusRow {
    /// Its newest status.
    pub(crate) status: NodeStatus,
    /// When the first and the newest one arrived.
    pub(crate) first_at: Now,
    pub(crate) last_at: Now,
}

/// The statuses of other nodes, the one that was heard longest ago first.
#[derive(Debug, Default)]
pub(crate) struct NetworkView {
    rows: LruMap<PeerId, StatusRow>,
}

impl NetworkView {
    /// Takes over the status of a node. Returns the number of nodes that were forgotten for it.
    pub(crate) fn heard(&mut self, author: PeerId, status: NodeStatus, now: Now) -> u64 {
        self.expire(now);
        if let Some(row) = self.rows.touch(&author) {
            (row.status, row.last_at) = (status, now);
            return 0;
        }
        let before = self.rows.len();
        self.rows.shrink_to(MAX_VIEW_NODES - 1);
        let evicted = before - self.rows.len();
        self.rows.insert(author, StatusRow { status, first_at: now, last_at: now });
        evicted as u64
    }

    /// Forgets statuses that are too old.
    fn expire(&mut self, now: Now) {
        while let Some((oldest, row)) = self.rows.oldest()
            && now.mono.saturating_since(row.last_at.mono) >= STATUS_LIFE
        {
            let oldest = *oldest;
            self.rows.remove(&oldest);
        }
    }

    /// Forgets everything: nobody looks at the view any more.
    pub(crate) fn clear(&mut self) {
        self.rows = LruMap::default();
    }

    /// Returns the rows that are not too old, in the order of PeerIds.
    pub(crate) fn rows(&self, now: Now) -> impl Iterator<Item = (&PeerId, &StatusRow)> {
        self.rows.range(..).filter(move |(_, row)| now.mono.saturating_since(row.last_at.mono) < STATUS_LIFE)
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::time::Instant;

    use super::*;

    fn at(secs: u64) -> Now {
        Now { mono: Instant::from_secs(secs), unix_ms: secs * 1000 }
    }

    fn named(name: &str) -> NodeStatus {
        NodeStatus { name: name.to_owned(), ..NodeStatus::default() }
    }

    #[test]
    fn status_changes_the_row_of_its_author_alone() {
        let (mut view, one, other) = (NetworkView::default(), PeerId::random(), PeerId::random());
        view.heard(one, named("one"), at(1));
        view.heard(other, named("other"), at(2));
        view.heard(other, named("changed"), at(3));
        let rows: Vec<_> = view.rows(at(3)).map(|(peer, row)| (*peer, row.status.name.clone())).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows.contains(&(one, "one".to_owned())) && rows.contains(&(other, "changed".to_owned())));
        let row = view.rows.get(&other).expect("a row");
        assert_eq!((row.first_at, row.last_at), (at(2), at(3)));
    }

    #[test]
    fn full_view_forgets_the_node_that_it_heard_longest_ago() {
        let (mut view, first, second) = (NetworkView::default(), PeerId::random(), PeerId::random());
        view.heard(first, named("first"), at(0));
        view.heard(second, named("second"), at(0));
        for _ in 2..MAX_VIEW_NODES {
            assert_eq!(view.heard(PeerId::random(), NodeStatus::default(), at(1)), 0);
        }
        view.heard(first, named("first"), at(2));
        assert_eq!(view.heard(PeerId::random(), NodeStatus::default(), at(3)), 1);
        assert_eq!(view.len(), MAX_VIEW_NODES);
        assert!(view.rows.contains_key(&first) && !view.rows.contains_key(&second));
    }

    #[test]
    fn status_is_forgotten_after_an_hour() {
        let (mut view, old, life) = (NetworkView::default(), PeerId::random(), STATUS_LIFE.as_secs());
        view.heard(old, named("old"), at(0));
        view.heard(PeerId::random(), named("new"), at(10));
        assert_eq!(view.rows(at(life - 1)).count(), 2);
        assert_eq!(view.rows(at(life)).count(), 1, "a report does not show it");
        view.heard(PeerId::random(), named("newer"), at(life));
        assert_eq!(view.len(), 2, "the memory is free");
    }
}
