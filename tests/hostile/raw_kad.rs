//! Kademlia requests that a node does not send: invalid keys and values, and provider records.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::StreamProtocol;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{
    Behaviour, Config, Event, GetProvidersOk, GetRecordOk, Mode, QueryId, QueryResult, Quorum, Record,
    RecordKey,
};
use libp2p::swarm::SwarmEvent;
use p2p_node::io::swarm::MAX_VALUE_BYTES;

use crate::child::TIMEOUT;
use crate::fixture::{Fixture, HONEST, Real};
use crate::forge::Forger;
use crate::raw_admission::{ProtocolsEvent, RawSwarm, join};

struct Raw {
    swarm: RawSwarm<Behaviour<MemoryStore>>,
}

impl Raw {
    async fn join(real: &Real, forger: &Forger) -> Self {
        let peer = forger.node.peer_id();
        let store = MemoryStoreConfig { max_value_bytes: 1 << 20, ..MemoryStoreConfig::default() };
        let mut config = Config::new(StreamProtocol::new("/p2p-node/dev/kad/1"));
        config.set_replication_factor(NonZeroUsize::MIN).set_query_timeout(Duration::from_secs(5));
        let kad = Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config);
        let mut swarm = join(real, forger, kad).await;
        let kad = &mut swarm.behaviour_mut().attack;
        kad.set_mode(Some(Mode::Client));
        kad.add_address(&real.peer(), real.entry().parse().unwrap());
        Raw { swarm }
    }

    /// Returns the results of a query.
    async fn results(&mut self, query: QueryId) -> Vec<QueryResult> {
        let mut results = Vec::new();
        loop {
            if let SwarmEvent::Behaviour(ProtocolsEvent::Attack(event)) = self.swarm.select_next_some().await
                && let Event::OutboundQueryProgressed { id, result, step, .. } = event
                && id == query
            {
                results.push(result);
                if step.last {
                    return results;
                }
            }
        }
    }

    async fn put(&mut self, key: &[u8], value: Vec<u8>) {
        let record = Record::new(key.to_vec(), value);
        let query = self.swarm.behaviour_mut().attack.put_record(record, Quorum::One).unwrap();
        self.results(query).await;
        // Later lookups must not find the record in this peer's own store.
        self.swarm.behaviour_mut().attack.remove_record(&RecordKey::new(&key));
    }

    /// Returns the values that the node has under a key.
    async fn stored(&mut self, key: &[u8]) -> Vec<Vec<u8>> {
        let query = self.swarm.behaviour_mut().attack.get_record(RecordKey::new(&key));
        let results = self.results(query).await.into_iter();
        let found = |result| match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => Some(found.record.value),
            _ => None,
        };
        results.filter_map(found).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dht_server_refuses_invalid_keys_and_values() {
    let mut fixture = Fixture::new("bootstrap");
    // A server takes a record from its owner only.
    let forger = Forger::new(0x40);
    let mut raw = Raw::join(&fixture.victim, &forger).await;
    let good = forger.record(|_| {}).to_vec();
    let honest = Forger::new(HONEST).kad_key();
    let key = forger.kad_key();
    assert_eq!(raw.stored(&honest).await.len(), 1, "the honest peer's record is in the DHT");
    let first = raw.stored(&key).await;
    assert_eq!(first.len(), 1, "the record of its admission is in the DHT");
    let wrong: [(&str, &[u8], Vec<u8>); 6] = [
        ("records_malformed", &key, vec![7; MAX_VALUE_BYTES + 1]),
        ("records_malformed", &key, vec![7; 15 << 10]),
        ("records_malformed", &key, Vec::new()),
        ("records_misplaced", b"short", good.clone()),
        ("records_misplaced", &[7; 4096], good.clone()),
        ("records_misplaced", b"", good.clone()),
    ];
    for (number, (counter, key, value)) in wrong.into_iter().enumerate() {
        let before = fixture.victim.counter(counter);
        raw.put(key, value).await;
        fixture.victim.until_counted(counter, before + 1);
        assert_eq!(fixture.victim.counter(counter), before + 1, "case {number}");
        let expected = if key == forger.kad_key() { &first[..] } else { &[] };
        assert_eq!(raw.stored(key).await, expected, "case {number}");
    }
    // The server ignores provider records, because they have no signature.
    let provided = RecordKey::new(&honest);
    let query = raw.swarm.behaviour_mut().attack.start_providing(provided.clone()).unwrap();
    raw.results(query).await;
    raw.swarm.behaviour_mut().attack.stop_providing(&provided);
    let query = raw.swarm.behaviour_mut().attack.get_providers(provided);
    let found = raw.results(query).await.into_iter().any(|result| {
        matches!(result, QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) if !providers.is_empty())
    });
    assert!(!found, "the victim names a provider");

    let other = Forger::new(0x41);
    raw.put(&other.kad_key(), other.record(|_| {}).to_vec()).await;
    fixture.victim.until_counted("records_of_others", 1);
    assert!(raw.stored(&other.kad_key()).await.is_empty(), "the record of another node");

    raw.put(&key, good.clone()).await;
    let deadline = Instant::now() + TIMEOUT;
    while raw.stored(&key).await != [&good[..]] {
        assert!(Instant::now() < deadline, "the newer record is not stored");
    }
    fixture.check_honest_traffic();
}
