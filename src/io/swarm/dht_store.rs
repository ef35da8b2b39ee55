//! Record store of a DHT server. It contains records that the core has verified, with limits for
//! number and bytes.

use std::borrow::Cow;
use std::collections::{HashMap, hash_map};
use std::iter;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use p2p_node_core::directory::record_table::MAX_AGENTS;
use p2p_node_wire::record::MAX_RECORD_BYTES;

/// Length of a key, in bytes: a Keccak-256 hash.
pub const KEY_BYTES: usize = 32;

/// Maximum size of a value, in bytes: the largest record, and some reserve so that the core counts a record
/// that is too long.
pub const MAX_VALUE_BYTES: usize = 7 << 10;
const _: () = assert!(MAX_RECORD_BYTES < MAX_VALUE_BYTES, "every record can be stored");

/// Maximum number of records: those of the directory, which evicts for both, and our own. With few
/// servers each stores the records of all agents.
pub const MAX_RECORDS: usize = MAX_AGENTS + 1;

/// Maximum lifetime of a stored record. `expiresAt` of a record is at most 24 h in the future.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Bounded record store. The core decides which records it contains.
#[derive(Debug, Default)]
pub(super) struct DhtStore {
    records: HashMap<RecordKey, Record>,
}

impl DhtStore {
    /// Inserts or replaces a record. Removes expired records first if the store is full.
    fn put_at(&mut self, record: Record, now: Instant) -> Result<()> {
        if record.key.as_ref().len() != KEY_BYTES || record.value.len() > MAX_VALUE_BYTES {
            return Err(Error::ValueTooLarge);
        }
        if !self.has_room_for(&record) {
            self.sweep(now);
            if !self.has_room_for(&record) {
                return Err(Error::MaxRecords);
            }
        }
        self.records.insert(record.key.clone(), record);
        Ok(())
    }

    fn has_room_for(&self, record: &Record) -> bool {
        self.records.len() < MAX_RECORDS || self.records.contains_key(&record.key)
    }

    /// Removes the records that the node stored for others. Kademlia names the node as the publisher of
    /// its own record only.
    pub(super) fn clear_records_of_others(&mut self) {
        self.records.retain(|_, record| record.publisher.is_some());
    }

    fn sweep(&mut self, now: Instant) {
        self.records.retain(|_, record| !record.is_expired(now));
    }
}

/// Creates a record that expires after `lifetime`.
pub(super) fn record(key: &Bytes, value: Bytes, lifetime: Duration) -> Record {
    Record { expires: Some(now() + lifetime.min(MAX_LIFETIME)), ..Record::new(key.to_vec(), value.into()) }
}

/// Returns the time of the system's monotonic clock, which Kademlia uses for the expiry of records.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

impl RecordStore for DhtStore {
    type RecordsIter<'a> =
        iter::Map<hash_map::Values<'a, RecordKey, Record>, fn(&'a Record) -> Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(Cow::Borrowed)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        self.put_at(record, now())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(Cow::Borrowed)
    }

    /// Ignores provider records: they have no signature, so they cannot be trusted.
    fn add_provider(&mut self, _: ProviderRecord) -> Result<()> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(number: usize) -> RecordKey {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        RecordKey::new(&key)
    }

    fn expiring(number: usize, bytes: usize, expires: Instant) -> Record {
        Record { key: key(number), value: vec![1; bytes], publisher: None, expires: Some(expires) }
    }

    fn filled(count: usize, bytes: usize, expires: Instant) -> DhtStore {
        let mut store = DhtStore::default();
        for number in 0..count {
            store.put_at(expiring(number, bytes, expires), expires - SECOND).unwrap();
        }
        store
    }

    #[test]
    fn record_replaces_record_with_same_key() {
        let mut store = filled(1, 10, now() + SECOND);
        store.put(expiring(0, 20, now() + SECOND)).unwrap();
        assert_eq!(store.get(&key(0)).unwrap().value.len(), 20);
        assert_eq!(store.records().count(), 1);
        store.remove(&key(0));
        assert_eq!(store.records().count(), 0);
    }

    #[test]
    fn short_key_and_oversized_value_are_rejected() {
        let mut store = DhtStore::default();
        let short_key = Record::new(vec![1; KEY_BYTES - 1], vec![]);
        assert!(matches!(store.put(short_key), Err(Error::ValueTooLarge)));
        let large = expiring(0, MAX_VALUE_BYTES + 1, now() + SECOND);
        assert!(matches!(store.put(large), Err(Error::ValueTooLarge)));
        store.put(expiring(0, MAX_VALUE_BYTES, now() + SECOND)).unwrap();
    }

    #[test]
    fn full_store_rejects_new_keys_and_renews_stored_records() {
        let expires = now() + SECOND;
        let mut store = filled(MAX_RECORDS, 1, expires);
        let before = expires - SECOND;
        assert!(matches!(store.put_at(expiring(MAX_RECORDS, 1, expires), before), Err(Error::MaxRecords)));
        store.put_at(expiring(0, 2, expires), before).unwrap();
        assert_eq!(store.records().count(), MAX_RECORDS);
    }

    #[test]
    fn expired_records_are_removed_for_new_ones() {
        let expires = now() + SECOND;
        let mut store = filled(MAX_RECORDS, 1, expires);
        store.put_at(expiring(MAX_RECORDS, 1, expires + SECOND), expires).unwrap();
        assert_eq!(store.records().count(), 1);
    }

    #[test]
    fn node_that_ends_to_serve_keeps_its_own_record_only() {
        let mut store = filled(3, 10, now() + SECOND);
        let own = Record { publisher: Some(PeerId::random()), ..expiring(7, 10, now() + SECOND) };
        store.put(own).unwrap();
        store.clear_records_of_others();
        assert_eq!(store.records().map(|record| record.key.clone()).collect::<Vec<_>>(), [key(7)]);
    }

    #[test]
    fn record_lifetime_is_bounded() {
        let made = record(&Bytes::from_static(&[0; KEY_BYTES]), Bytes::new(), Duration::MAX);
        assert!(made.expires.unwrap() <= now() + MAX_LIFETIME);
    }

    #[test]
    fn provider_records_are_refused() {
        let mut store = DhtStore::default();
        let provider = ProviderRecord::new(key(0), PeerId::random(), vec![]);
        assert!(store.add_provider(provider).is_err());
        assert!(store.providers(&key(0)).is_empty());
    }
}
