//! Kademlia requests that a node does not send: invalid keys and values, and provider records.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{
    Behaviour, Config, Event, GetProvidersOk, GetRecordOk, Mode, QueryId, QueryResult, Quorum, Record,
    RecordKey,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use p2p_node::io::swarm::MAX_VALUE_BYTES;
use p2p_node_wire::identity::NodeKey;

use crate::fixture::{Fixture, HONEST, Real};
use crate::forge::Forger;

struct Raw {
    swarm: Swarm<Behaviour<MemoryStore>>,
}

impl Raw {
    async fn join(real: &Real, seed: [u8; 32]) -> Self {
        let keypair = Keypair::ed25519_from_bytes(seed).expect("a seed");
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| {
                let peer = key.public().to_peer_id();
                let store = MemoryStoreConfig { max_value_bytes: 1 << 20, ..MemoryStoreConfig::default() };
                let mut config = Config::new(StreamProtocol::new("/p2p-node/dev/kad/1"));
                config.set_replication_factor(NonZeroUsize::MIN).set_query_timeout(Duration::from_secs(5));
                Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config)
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        let addr: Multiaddr = real.entry().parse().unwrap();
        swarm.behaviour_mut().set_mode(Some(Mode::Client));
        swarm.behaviour_mut().add_address(&real.peer(), addr.clone());
        swarm.dial(addr).unwrap();
        loop {
            if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
                return Raw { swarm };
            }
        }
    }

    /// Returns the results of a query.
    async fn results(&mut self, query: QueryId) -> Vec<QueryResult> {
        let mut results = Vec::new();
        loop {
            if let SwarmEvent::Behaviour(Event::OutboundQueryProgressed { id, result, step, .. }) =
                self.swarm.select_next_some().await
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
        let query = self.swarm.behaviour_mut().put_record(record, Quorum::One).unwrap();
        self.results(query).await;
        // Later lookups must not find the record in this peer's own store.
        self.swarm.behaviour_mut().remove_record(&RecordKey::new(&key));
    }

    async fn is_stored(&mut self, key: &[u8]) -> bool {
        let query = self.swarm.behaviour_mut().get_record(RecordKey::new(&key));
        let results = self.results(query).await;
        results.iter().any(|result| matches!(result, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_)))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dht_server_refuses_invalid_keys_and_values() {
    let mut fixture = Fixture::new("bootstrap");
    // A server takes a record from its owner only.
    let seed = [0x40; 32];
    let mut raw = Raw::join(&fixture.victim, seed).await;
    let forger = Forger::with_node(0x40, NodeKey::from_seed(seed));
    let good = forger.record(|_| {}).to_vec();
    let honest = Forger::new(HONEST).kad_key();
    let key = forger.kad_key();
    assert!(raw.is_stored(&honest).await, "the honest peer's record is in the DHT");
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
        assert!(!raw.is_stored(key).await, "case {number}");
    }
    // The server ignores provider records, because they have no signature.
    let provided = RecordKey::new(&honest);
    let query = raw.swarm.behaviour_mut().start_providing(provided.clone()).unwrap();
    raw.results(query).await;
    raw.swarm.behaviour_mut().stop_providing(&provided);
    let query = raw.swarm.behaviour_mut().get_providers(provided);
    let found = raw.results(query).await.into_iter().any(|result| {
        matches!(result, QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) if !providers.is_empty())
    });
    assert!(!found, "the victim names a provider");

    let other = Forger::new(0x41);
    raw.put(&other.kad_key(), other.record(|_| {}).to_vec()).await;
    fixture.victim.until_counted("records_of_others", 1);
    assert!(!raw.is_stored(&other.kad_key()).await, "the record of another node");

    raw.put(&key, good).await;
    fixture.victim.child.expect("the valid record", |event| event["address"] == forger.address().as_str());
    assert!(raw.is_stored(&key).await);
    fixture.check_honest_traffic();
}
