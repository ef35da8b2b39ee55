//! Control messages of gossipsub that a node does not send: senseless pauses, topics and ids.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, Codec, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use prost::Message;
use serde_json::json;

use crate::child::TIMEOUT;
use crate::fixture::{Fixture, Real, TOPIC};
use crate::forge::Forger;
use crate::raw_admission::{RawSwarm, connect, join_alone, wire_topic};

/// The newest protocol of gossipsub that a node speaks.
const GOSSIPSUB: &str = "/meshsub/1.2.0";
/// The number of the attacker's agent.
const ATTACKER: u64 = 0xa77a;
/// The topic to which the attacker subscribes at the end.
const LAST: &str = "last";
/// Memory that an attack may cost, in MiB. Debug builds and allocators need some reserve.
const MAX_GROWN: u64 = 10;
/// Largest number of topics or ids in one RPC, so that it has less than 256 KiB.
const OF_ONE_RPC: usize = 3_000;

/// `RPC` of the gossipsub specification, without published messages.
#[derive(Clone, PartialEq, Message)]
struct Rpc {
    #[prost(message, repeated, tag = "1")]
    subscriptions: Vec<Subscription>,
    #[prost(message, optional, tag = "3")]
    control: Option<Control>,
}

#[derive(Clone, PartialEq, Message)]
struct Subscription {
    #[prost(bool, optional, tag = "1")]
    subscribe: Option<bool>,
    #[prost(string, optional, tag = "2")]
    topic: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Control {
    #[prost(message, repeated, tag = "1")]
    ihave: Vec<Ids>,
    #[prost(message, repeated, tag = "2")]
    iwant: Vec<Wanted>,
    #[prost(message, repeated, tag = "3")]
    graft: Vec<Graft>,
    #[prost(message, repeated, tag = "4")]
    prune: Vec<Prune>,
    #[prost(message, repeated, tag = "5")]
    idontwant: Vec<Wanted>,
}

#[derive(Clone, PartialEq, Message)]
struct Ids {
    #[prost(string, optional, tag = "1")]
    topic: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    ids: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Wanted {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    ids: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Graft {
    #[prost(string, optional, tag = "1")]
    topic: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Prune {
    #[prost(string, optional, tag = "1")]
    topic: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    backoff: Option<u64>,
}

/// Writes all RPCs on one stream and keeps it open. Reads and drops what the node sends.
#[derive(Clone, Default)]
struct Gossip;

impl Codec for Gossip {
    type Protocol = StreamProtocol;
    type Request = Vec<Rpc>;
    type Response = ();

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<Rpc>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut dropped = [0; 4096];
        while io.read(&mut dropped).await? > 0 {}
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()>
    where
        T: AsyncRead + Unpin + Send,
    {
        // The node closes the stream, or sends nothing.
        io.read(&mut [0]).await.map(|_| ())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, rpcs: Vec<Rpc>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        for rpc in rpcs {
            io.write_all(&rpc.encode_length_delimited_to_vec()).await?;
        }
        io.flush().await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Raw {
    swarm: RawSwarm<request_response::Behaviour<Gossip>>,
}

impl Raw {
    /// Connects an attacker and completes its admission: only admitted peers count as subscribers.
    async fn join(real: &Real) -> Self {
        let config = request_response::Config::default().with_request_timeout(Duration::from_secs(60));
        let protocols = [(StreamProtocol::new(GOSSIPSUB), ProtocolSupport::Full)];
        let gossip = request_response::Behaviour::with_codec(Gossip, protocols, config);
        Raw { swarm: join_alone(real, &Forger::fake(ATTACKER), gossip).await }
    }

    /// Connects again, and completes its admission.
    async fn connect(&mut self, real: &Real) {
        connect(&mut self.swarm, real, &Forger::fake(ATTACKER)).await;
    }

    async fn until_closed(&mut self) {
        while !matches!(self.swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {}
    }

    /// Sends RPCs in a task that keeps the connection, if the node does.
    fn send(mut self, real: &Real, rpcs: Vec<Rpc>) -> tokio::task::JoinHandle<()> {
        self.swarm.behaviour_mut().attack.send_request(&real.peer(), rpcs);
        tokio::spawn(async move {
            loop {
                self.swarm.select_next_some().await;
            }
        })
    }
}

fn subscribed(topics: &[&str]) -> Rpc {
    let subscription = |topic: &&str| Subscription { subscribe: Some(true), topic: Some(wire_topic(topic)) };
    Rpc { subscriptions: topics.iter().map(subscription).collect(), control: None }
}

fn control(control: Control) -> Rpc {
    Rpc { subscriptions: Vec::new(), control: Some(control) }
}

fn ids(first: usize) -> Vec<Bytes> {
    (first..first + OF_ONE_RPC).map(|number| format!("{number:020}").into()).collect()
}

/// Sends an attack, and checks that mail and broadcasts of honest nodes pass and that memory stays.
async fn attack(rpcs: Vec<Rpc>) {
    let mut fixture = Fixture::new("full");
    let raw = Raw::join(&fixture.victim).await;
    fixture.victim.until("connected", |status| status["peers"] == 2);
    let before = fixture.victim.memory();
    let first = subscribed(&["agent-announcements", "agent-messages", TOPIC]);
    let attacker = raw.send(&fixture.victim, [vec![first], rpcs, vec![subscribed(&[LAST])]].concat());
    let deadline = Instant::now() + TIMEOUT;
    // The last RPC makes the attacker the only subscriber of a topic, so the node has read all of them.
    while fixture.victim.request(json!({"type":"send","topic":LAST,"data":1}))["peers"] != 1 {
        assert!(Instant::now() < deadline, "the node does not read the attack to its end");
        fixture.check_honest_traffic();
    }
    let grown = fixture.victim.memory().saturating_sub(before) >> 20;
    assert!(grown <= MAX_GROWN, "{grown} MiB");
    fixture.assert_no_events(&["message", "error"]);
    fixture.check_honest_traffic();
    attacker.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn prunes_with_senseless_pauses_harm_nobody() {
    let pauses = [0, 1, i64::MAX as u64 - 1, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    let topics = [TOPIC, "agent-messages", "unknown"];
    let prunes = topics.iter().flat_map(|topic| {
        pauses.map(|backoff| Prune { topic: Some(wire_topic(topic)), backoff: Some(backoff) })
    });
    let prune = Control { prune: prunes.collect(), ..Control::default() };
    attack(vec![control(prune)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn grafts_and_prunes_of_a_hundred_thousand_topics_use_bounded_memory() {
    let rpcs = (0..100_000 / OF_ONE_RPC).map(|rpc| {
        let topics = (0..OF_ONE_RPC).map(|number| Some(wire_topic(&format!("{rpc}-{number}"))));
        let (graft, prune) = topics
            .map(|topic| (Graft { topic: topic.clone() }, Prune { topic, backoff: Some(60) }))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let half = |keeps| Control {
            graft: if keeps { graft.clone() } else { Vec::new() },
            prune: if keeps { Vec::new() } else { prune.clone() },
            ..Control::default()
        };
        [control(half(true)), control(half(false))]
    });
    attack(rpcs.flatten().collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn offers_requests_and_refusals_of_unknown_messages_use_bounded_memory() {
    let rpcs = (0..30).flat_map(|rpc| {
        let ids = ids(rpc * OF_ONE_RPC);
        let have = Ids { topic: Some(wire_topic(TOPIC)), ids: ids.clone() };
        let wanted = Wanted { ids };
        [
            control(Control { ihave: vec![have], ..Control::default() }),
            control(Control { iwant: vec![wanted.clone()], ..Control::default() }),
            control(Control { idontwant: vec![wanted], ..Control::default() }),
        ]
    });
    attack(rpcs.collect()).await;
}

/// After five streams libp2p gives up gossip on a connection, and tells nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connection_on_which_libp2p_gave_up_gossip_is_renewed() {
    const STREAMS: usize = 5;
    let mut fixture = Fixture::new("full");
    let mut raw = Raw::join(&fixture.victim).await;
    for _ in 0..STREAMS {
        raw.swarm.behaviour_mut().attack.send_request(&fixture.victim.peer(), vec![subscribed(&[TOPIC])]);
    }
    tokio::time::timeout(TIMEOUT, raw.until_closed()).await.expect("the node closes the connection");
    fixture.victim.until_counted("gossip_renewed", 1);
    raw.connect(&fixture.victim).await;
    let peer = raw.send(&fixture.victim, vec![subscribed(&[LAST])]);
    let deadline = Instant::now() + TIMEOUT;
    while fixture.victim.request(json!({"type":"send","topic":LAST,"data":1}))["peers"] != 1 {
        assert!(Instant::now() < deadline, "there is no gossip on the new connection");
    }
    assert_eq!(fixture.victim.counter("gossip_renewed"), 1);
    fixture.check_honest_traffic();
    peer.abort();
}
