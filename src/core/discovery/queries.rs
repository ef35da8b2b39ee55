//! Lookups of agents in the DHT.

use std::collections::{BTreeMap, VecDeque};

use alloy::primitives::Address;

use crate::core::input::Token;

/// Lookups at once (CHORUS: `MaxConcurrentDHT`).
pub const MAX_QUERIES: usize = 16;
/// Lookups that wait for their turn. Ours.
pub const MAX_WAITING: usize = 1024;

/// What becomes of a wish for a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is to be started.
    Start,
    /// It runs, or will run in its turn.
    Waits,
    /// Too many wait.
    Full,
}

/// Every lookup.
#[derive(Debug, Default)]
pub struct Queries {
    running: BTreeMap<Token, Address>,
    waiting: VecDeque<(Token, Address)>,
    /// Looked up without success since a server became known last.
    missed: VecDeque<Address>,
}

impl Queries {
    /// Wants an agent looked up, under `token` unless that goes on already.
    pub fn want(&mut self, address: Address, token: Token) -> Wanted {
        if self.running.values().any(|running| *running == address)
            || self.waiting.iter().any(|(_, waiting)| *waiting == address)
        {
            return Wanted::Waits;
        }
        if self.running.len() < MAX_QUERIES {
            self.running.insert(token, address);
            return Wanted::Start;
        }
        if self.waiting.len() >= MAX_WAITING {
            return Wanted::Full;
        }
        self.waiting.push_back((token, address));
        Wanted::Waits
    }

    /// Whom a running lookup is for.
    pub fn address(&self, token: Token) -> Option<Address> {
        self.running.get(&token).copied()
    }

    /// A lookup has ended: whom it was for, and the one to start in its place.
    pub fn ended(&mut self, token: Token) -> (Option<Address>, Option<(Token, Address)>) {
        let ended = self.running.remove(&token);
        if let Some(address) = ended
            && !self.missed.contains(&address)
        {
            self.missed.push_back(address);
            self.missed.truncate(MAX_WAITING);
        }
        let next = if self.running.len() < MAX_QUERIES { self.waiting.pop_front() } else { None };
        if let Some((token, address)) = next {
            self.running.insert(token, address);
        }
        (ended, next)
    }

    /// A server has become known: takes those who were looked up before.
    pub fn wake_all(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.missed).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> Address {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Address::from(bytes)
    }

    #[test]
    fn lookups_run_side_by_side_up_to_the_bound_and_then_in_turn() {
        let mut queries = Queries::default();
        for number in 0..MAX_QUERIES + MAX_WAITING + 5 {
            let wanted = queries.want(agent(number), number as Token);
            let expected = match number {
                _ if number < MAX_QUERIES => Wanted::Start,
                _ if number < MAX_QUERIES + MAX_WAITING => Wanted::Waits,
                _ => Wanted::Full,
            };
            assert_eq!(wanted, expected);
        }
        assert_eq!(queries.want(agent(0), 9999), Wanted::Waits, "it runs already");
        let (ended, next) = queries.ended(3);
        assert_eq!(ended, Some(agent(3)));
        assert_eq!(next, Some((MAX_QUERIES as Token, agent(MAX_QUERIES))));
        assert_eq!(queries.address(MAX_QUERIES as Token), Some(agent(MAX_QUERIES)));
        assert_eq!(queries.wake_all(), [agent(3)]);
        assert!(queries.wake_all().is_empty());
        assert_eq!(queries.ended(3), (None, None));
    }
}
