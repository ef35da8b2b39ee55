//! Two to nine nodes of real libp2p on 127.0.0.1.

use std::collections::VecDeque;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use p2p_node::core::effect::{Network, Verdict};
use p2p_node::core::input::{Input, PublishOutcome, Token};
use p2p_node::io::swarm::{
    AddressScope, Counters, KEY_BYTES, MAX_GOSSIP_UNJUDGED, MAX_MAIL, MAX_MAIL_ASKED, MAX_MAIL_SENT,
    MAX_QUERIES, Net, SwarmConfig,
};
use p2p_node_protocol::Role;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants of a node.
enum Order {
    /// All of them, before anything else happens.
    Apply(Vec<Network>),
    Count(oneshot::Sender<Counters>),
}

/// A node in a task of its own.
struct Node {
    peer: PeerId,
    orders: mpsc::Sender<Order>,
    inputs: mpsc::Receiver<Input>,
    /// Came before what was waited for.
    earlier: VecDeque<Input>,
    addrs: Vec<Multiaddr>,
}

fn config(number: u8, role: Role) -> SwarmConfig {
    SwarmConfig {
        // A key for tests: everyone knows it.
        seed: Zeroizing::new([number; 32]),
        network: "dev".to_owned(),
        scope: AddressScope::Loopback,
        role,
        listen: None,
        max_connections: 50,
        agent_version: "p2p-node/test".to_owned(),
    }
}

impl Node {
    fn start(config: SwarmConfig) -> Self {
        let mut net = Net::new(config).unwrap();
        let peer = net.peer_id();
        let (orders, mut ordered) = mpsc::channel(16);
        let (told, inputs) = mpsc::channel(1 << 16);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    order = ordered.recv() => match order {
                        Some(Order::Apply(effects)) => effects.into_iter().for_each(|effect| net.apply(effect)),
                        Some(Order::Count(reply)) => reply.send(net.counters()).unwrap(),
                        None => return net.close().await,
                    },
                    input = net.next() => told.send(input).await.unwrap_or_default(),
                }
            }
        });
        Self { peer, orders, inputs, earlier: VecDeque::new(), addrs: Vec::new() }
    }

    async fn listening(config: SwarmConfig) -> Self {
        let mut node = Self::start(config);
        node.apply(Network::Listen { port: 0 }).await;
        node.addrs = node
            .expect("listening", |input| match input {
                Input::Listening { addrs } => Some(addrs.clone()),
                _ => None,
            })
            .await;
        node
    }

    async fn apply(&self, effect: Network) {
        self.apply_all(vec![effect]).await;
    }

    async fn apply_all(&self, effects: Vec<Network>) {
        self.orders.send(Order::Apply(effects)).await.unwrap_or_else(|_| panic!("the node has ended"));
    }

    async fn counters(&self) -> Counters {
        let (reply, counters) = oneshot::channel();
        self.orders.send(Order::Count(reply)).await.unwrap_or_else(|_| panic!("the node has ended"));
        counters.await.unwrap()
    }

    /// The first input, of those not taken yet, that is of the kind; the others stay.
    async fn expect<T>(&mut self, what: &str, kind: impl Fn(&Input) -> Option<T>) -> T {
        if let Some(found) = self.take_earlier(&kind) {
            return found;
        }
        let waiting = async {
            loop {
                let input = self.inputs.recv().await.expect("the node runs");
                match kind(&input) {
                    Some(found) => return found,
                    None => self.earlier.push_back(input),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; instead {:?}", self.earlier),
        }
    }

    fn take_earlier<T>(&mut self, kind: impl Fn(&Input) -> Option<T>) -> Option<T> {
        let (at, found) = self.earlier.iter().enumerate().find_map(|(at, input)| Some((at, kind(input)?)))?;
        self.earlier.remove(at);
        Some(found)
    }

    /// Whether such an input has come by now and was not taken.
    fn has(&mut self, kind: impl Fn(&Input) -> bool) -> bool {
        while let Ok(input) = self.inputs.try_recv() {
            self.earlier.push_back(input);
        }
        self.earlier.iter().any(kind)
    }

    async fn dial(&self, other: &Node) {
        self.apply(Network::Dial { peer: other.peer, addrs: other.addrs.clone() }).await;
    }

    async fn connected(&mut self) -> (PeerId, bool) {
        self.expect("connection", |input| match input {
            Input::Connected { peer, dialer } => Some((*peer, *dialer)),
            _ => None,
        })
        .await
    }

    async fn mail_asked(&mut self) -> (Token, PeerId, Bytes) {
        self.expect("mail", |input| match input {
            Input::MailAsked { token, peer, frame } => Some((*token, *peer, frame.clone())),
            _ => None,
        })
        .await
    }

    async fn mail_answered(&mut self) -> (Token, Result<Bytes, String>) {
        self.expect("answer", |input| match input {
            Input::MailAnswered { token, outcome } => Some((*token, outcome.clone())),
            _ => None,
        })
        .await
    }

    async fn gossip(&mut self) -> (Token, PeerId, Bytes) {
        self.expect("gossip", |input| match input {
            Input::Gossip { token, from, topic, data } => {
                assert_eq!(topic, "news");
                Some((*token, *from, data.clone()))
            }
            _ => None,
        })
        .await
    }

    async fn published(&mut self) -> PublishOutcome {
        self.expect("publication", |input| match input {
            Input::Published { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self) -> (PeerId, String) {
        self.expect("failed dial", |input| match input {
            Input::DialFailed { peer, reason } => Some((*peer, reason.clone())),
            _ => None,
        })
        .await
    }

    /// Subscribes and waits until the other knows.
    async fn subscribe(&self, other: &mut Node) {
        self.apply(Network::Subscribe { topic: "news".to_owned() }).await;
        let subscriber = self.peer;
        other
            .expect("subscription", |input| match input {
                Input::PeerSubscribed { peer, topic } => {
                    (*peer == subscriber && topic == "news").then_some(())
                }
                _ => None,
            })
            .await;
    }

    async fn publish(&mut self, data: &'static [u8]) -> PublishOutcome {
        let data = Bytes::from_static(data);
        self.apply(Network::Publish { token: 0, topic: "news".to_owned(), data }).await;
        self.published().await
    }
}

fn is_gossip(input: &Input) -> bool {
    matches!(input, Input::Gossip { .. })
}

fn mail(token: Token, to: &Node, frame: impl Into<Bytes>) -> Network {
    Network::SendMail { token, peer: to.peer, frame: frame.into() }
}

/// Two nodes, the first of which has dialled the second.
async fn pair() -> (Node, Node) {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let mut b = Node::listening(config(2, Role::Full)).await;
    a.dial(&b).await;
    assert_eq!(a.connected().await, (b.peer, true));
    assert_eq!(b.connected().await, (a.peer, false));
    (a, b)
}

#[tokio::test]
async fn quic_listens_on_the_port_of_tcp() {
    let node = Node::listening(config(1, Role::Full)).await;
    let port = node.addrs[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let port = port.unwrap();
    let tcp: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let quic: Multiaddr = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
    assert_eq!(node.addrs, [tcp, quic]);
}

async fn listen_failure(node: &mut Node) -> String {
    node.expect("failure", |input| match input {
        Input::ListenFailed { reason } => Some(reason.clone()),
        Input::Listening { .. } => panic!("listens on a port in use"),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_port_in_use_is_a_failure() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut node = Node::start(config(1, Role::Full));
    node.apply(Network::Listen { port }).await;
    assert!(listen_failure(&mut node).await.contains(&port.to_string()));
}

#[tokio::test]
async fn a_port_of_another_node_is_a_failure_although_libp2p_would_share_it() {
    let first = Node::listening(config(1, Role::Full)).await;
    let port = first.addrs[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let mut second = Node::start(config(2, Role::Full));
    second.apply(Network::Listen { port: port.unwrap() }).await;
    listen_failure(&mut second).await;
}

#[tokio::test]
async fn without_udp_a_node_listens_all_the_same() {
    // A port that is free for TCP while UDP is taken.
    let (udp, port) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break (udp, port);
        }
    };
    let mut node = Node::start(config(1, Role::Full));
    node.apply(Network::Listen { port }).await;
    let reason = node
        .expect("degradation", |input| match input {
            Input::ListenDegraded { reason } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("quic"), "{reason}");
    let addrs = node
        .expect("listening", |input| match input {
            Input::Listening { addrs } => Some(addrs.clone()),
            _ => None,
        })
        .await;
    assert_eq!(addrs, [format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]);
    drop(udp);
}

#[tokio::test]
async fn a_listener_may_be_given_exactly() {
    let quic: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let mut a = Node::listening(config(1, Role::Full)).await;
    let b = Node::listening(SwarmConfig { listen: Some(vec![quic]), ..config(2, Role::Full) }).await;
    assert_eq!(b.addrs.len(), 1);
    a.dial(&b).await;
    assert_eq!(a.connected().await, (b.peer, true));
}

#[tokio::test]
async fn a_hello_is_answered_with_a_hello() {
    let (mut a, mut b) = pair().await;
    a.apply(Network::SendHello { peer: b.peer, body: Bytes::from_static(b"from a") }).await;
    let (token, peer, body) = b
        .expect("hello", |input| match input {
            Input::HelloAsked { token, peer, body } => Some((*token, *peer, body.clone())),
            _ => None,
        })
        .await;
    assert_eq!((peer, &body[..]), (a.peer, &b"from a"[..]));
    b.apply(Network::AnswerHello { token, body: Bytes::from_static(b"from b") }).await;
    let answer = a
        .expect("hello", |input| match input {
            Input::HelloAnswered { peer, body } => Some((*peer, body.clone())),
            _ => None,
        })
        .await;
    assert_eq!(answer, (b.peer, Bytes::from_static(b"from b")));
}

#[tokio::test]
async fn mail_is_answered_up_to_the_largest_size_and_a_byte_more_is_refused() {
    let (mut a, mut b) = pair().await;
    a.apply(mail(7, &b, vec![9; MAX_MAIL + 1])).await;
    let (token, outcome) = a.mail_answered().await;
    assert_eq!(token, 7);
    assert!(outcome.unwrap_err().contains("allowed"));

    for size in [0, 1, 60_000, MAX_MAIL] {
        a.apply(mail(8, &b, vec![9; size])).await;
        let (token, peer, frame) = b.mail_asked().await;
        assert_eq!((peer, frame.len()), (a.peer, size));
        b.apply(Network::AnswerMail { token, body: Bytes::from_static(b"stored") }).await;
        assert_eq!(a.mail_answered().await, (8, Ok(Bytes::from_static(b"stored"))));
    }
}

#[tokio::test]
async fn mail_to_one_who_is_not_connected_fails_at_once_and_dials_nobody() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let b = Node::listening(config(2, Role::Full)).await;
    a.apply(mail(7, &b, "hello")).await;
    assert_eq!(a.mail_answered().await, (7, Err("not connected".to_owned())));
    assert!(!a.has(|input| matches!(input, Input::DialFailed { .. } | Input::Connected { .. })));
}

#[tokio::test]
async fn mail_in_flight_fails_when_the_peer_goes() {
    let (mut a, mut b) = pair().await;
    a.apply(mail(7, &b, "hello")).await;
    b.mail_asked().await;
    b.apply(Network::Disconnect { peer: a.peer }).await;
    let (token, outcome) = a.mail_answered().await;
    assert!(token == 7 && outcome.is_err());
    let disconnected = |input: &Input| match input {
        Input::Disconnected { peer, .. } => Some(*peer),
        _ => None,
    };
    assert_eq!(a.expect("disconnection", disconnected).await, b.peer);
    assert_eq!(b.expect("disconnection", disconnected).await, a.peer);
}

#[tokio::test]
async fn what_has_happened_is_had_without_waiting() {
    let mut net = Net::new(config(1, Role::Full)).unwrap();
    assert!(net.try_next().is_none());
    net.apply(Network::SendMail { token: 7, peer: PeerId::random(), frame: Bytes::new() });
    assert!(matches!(net.try_next(), Some(Input::MailAnswered { token: 7, outcome: Err(_) })));
    assert!(net.try_next().is_none());
}

#[tokio::test]
async fn mail_in_flight_is_bounded() {
    let (mut a, b) = pair().await;
    let beyond = MAX_MAIL_SENT as Token;
    a.apply_all((0..=beyond).map(|token| mail(token, &b, "hello")).collect()).await;
    let (token, outcome) = a.mail_answered().await;
    assert_eq!((token, outcome), (beyond, Err("too much mail is in flight".to_owned())));
}

#[tokio::test]
async fn mail_that_waits_for_an_answer_is_bounded() {
    // On one connection at most 128 frames wait.
    const PER_SENDER: usize = 128;
    let senders = MAX_MAIL_ASKED / PER_SENDER + 1;
    let mut b = Node::listening(config(200, Role::Full)).await;
    let mut nodes = Vec::new();
    for number in 0..senders {
        let mut a = Node::listening(config(number as u8 + 1, Role::Full)).await;
        a.dial(&b).await;
        a.connected().await;
        a.apply_all((0..PER_SENDER as Token).map(|token| mail(token, &b, "hello")).collect()).await;
        for _ in 0..PER_SENDER.min(MAX_MAIL_ASKED - number * PER_SENDER) {
            b.mail_asked().await;
        }
        nodes.push(a);
    }
    let last = nodes.last_mut().unwrap();
    for _ in 0..PER_SENDER {
        assert!(last.mail_answered().await.1.is_err());
    }
    assert_eq!(b.counters().await.mail_refused, PER_SENDER as u64);
}

#[tokio::test]
async fn a_dial_that_comes_to_nothing_is_told() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let nobody = PeerId::random();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addrs = vec![format!("/ip4/127.0.0.1/tcp/{free}").parse().unwrap()];
    a.apply(Network::Dial { peer: nobody, addrs }).await;
    assert_eq!(a.dial_failed().await.0, nobody);
}

#[tokio::test]
async fn a_dial_to_another_than_expected_is_told() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let b = Node::listening(config(2, Role::Full)).await;
    let nobody = PeerId::random();
    a.apply(Network::Dial { peer: nobody, addrs: b.addrs.clone() }).await;
    assert_eq!(a.dial_failed().await.0, nobody);
}

#[tokio::test]
async fn an_address_outside_the_scope_is_not_dialled() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let nobody = PeerId::random();
    let addrs = vec!["/ip4/192.0.2.1/tcp/9".parse().unwrap(), "/dns4/localhost/tcp/9".parse().unwrap()];
    a.apply(Network::Dial { peer: nobody, addrs }).await;
    let (peer, reason) = a.dial_failed().await;
    assert_eq!(peer, nobody);
    assert!(reason.contains("scope"), "{reason}");
}

#[tokio::test]
async fn dials_of_one_peer_end_in_one_connection() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let mut b = Node::listening(config(2, Role::Full)).await;
    let dial = Network::Dial { peer: b.peer, addrs: b.addrs.clone() };
    a.apply_all(vec![dial.clone(), dial]).await;
    b.dial(&a).await;
    a.connected().await;
    b.connected().await;
    // Whatever was still to be told of the dials has been told when mail has gone each way.
    a.apply(mail(1, &b, "hello")).await;
    b.apply(mail(1, &a, "hello")).await;
    a.mail_asked().await;
    b.mail_asked().await;
    for node in [&mut a, &mut b] {
        assert!(!node.has(|input| matches!(
            input,
            Input::Connected { .. } | Input::DialFailed { .. } | Input::Disconnected { .. }
        )));
    }
}

#[tokio::test]
async fn a_blocked_peer_is_disconnected_and_stays_out_until_unblocked() {
    let (mut a, mut b) = pair().await;
    b.apply(Network::Block { peer: a.peer }).await;
    let disconnected = |input: &Input| matches!(input, Input::Disconnected { .. }).then_some(());
    a.expect("disconnection", disconnected).await;
    b.expect("disconnection", disconnected).await;
    b.dial(&a).await;
    assert_eq!(b.dial_failed().await.0, a.peer);
    b.apply(Network::Unblock { peer: a.peer }).await;
    b.dial(&a).await;
    assert_eq!(b.connected().await, (a.peer, true));
}

/// Three nodes in a row, all subscribed.
async fn row() -> (Node, Node, Node) {
    let (mut a, mut b) = pair().await;
    let mut c = Node::listening(config(3, Role::Full)).await;
    c.dial(&b).await;
    c.connected().await;
    b.subscribe(&mut a).await;
    b.subscribe(&mut c).await;
    a.subscribe(&mut b).await;
    c.subscribe(&mut b).await;
    (a, b, c)
}

#[tokio::test]
async fn gossip_is_passed_on_only_after_it_was_accepted() {
    let (mut a, mut b, mut c) = row().await;
    for data in [b"rejected".as_slice(), b"ignored", b"late", b"first"] {
        assert_eq!(a.publish(data).await, PublishOutcome::Sent);
    }
    let mut tokens = Vec::new();
    for expected in ["rejected", "ignored", "late", "first"] {
        let (token, from, data) = b.gossip().await;
        assert_eq!((from, &data[..]), (a.peer, expected.as_bytes()));
        tokens.push(token);
    }
    b.apply(Network::Judge { token: tokens[0], verdict: Verdict::Reject }).await;
    b.apply(Network::Judge { token: tokens[1], verdict: Verdict::Ignore }).await;
    b.apply(Network::Judge { token: tokens[3], verdict: Verdict::Accept }).await;
    let (_, from, data) = c.gossip().await;
    assert_eq!((from, &data[..]), (b.peer, &b"first"[..]));
    assert!(!c.has(is_gossip));
    b.apply(Network::Judge { token: tokens[2], verdict: Verdict::Accept }).await;
    assert_eq!(&c.gossip().await.2[..], b"late");
    assert!(!c.has(is_gossip));
}

#[tokio::test]
async fn a_publication_says_how_it_went() {
    let (mut a, mut b) = pair().await;
    assert_eq!(a.publish(b"unheard").await, PublishOutcome::NoPeers);
    b.subscribe(&mut a).await;
    assert_eq!(a.publish(b"unheard").await, PublishOutcome::Sent);
    assert_eq!(a.publish(b"unheard").await, PublishOutcome::Duplicate);
    assert_eq!(&b.gossip().await.2[..], b"unheard");
    let data = Bytes::from(vec![0; p2p_node::io::swarm::MAX_TRANSMIT + 1]);
    a.apply(Network::Publish { token: 0, topic: "news".to_owned(), data }).await;
    assert_eq!(a.published().await, PublishOutcome::TooLarge);
    b.apply(Network::Unsubscribe { topic: "news".to_owned() }).await;
    a.expect("unsubscription", |input| match input {
        Input::PeerUnsubscribed { peer, topic } => Some(assert!(*peer == b.peer && topic == "news")),
        _ => None,
    })
    .await;
    assert_eq!(a.publish(b"nobody left").await, PublishOutcome::NoPeers);
}

#[tokio::test]
async fn gossip_that_waits_for_a_verdict_is_bounded() {
    let (mut a, mut b) = pair().await;
    b.subscribe(&mut a).await;
    for number in 0..=MAX_GOSSIP_UNJUDGED {
        let data = Bytes::from(number.to_be_bytes().to_vec());
        a.apply(Network::Publish { token: 0, topic: "news".to_owned(), data }).await;
        b.gossip().await;
    }
    assert_eq!(b.counters().await.gossip_shed, 1);
}

const LIFETIME: Duration = Duration::from_secs(60);

async fn server_known(node: &mut Node, server: &Node) {
    node.expect("server", |input| match input {
        Input::ServerKnown { peer } => Some(assert_eq!(*peer, server.peer)),
        _ => None,
    })
    .await;
}

async fn record_put(node: &mut Node) -> bool {
    node.expect("end of put", |input| match input {
        Input::RecordPut { stored } => Some(*stored),
        _ => None,
    })
    .await
}

async fn query_ended(node: &mut Node) -> Token {
    node.expect("end of query", |input| match input {
        Input::QueryEnded { token } => Some(*token),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_record_is_found_through_a_server_that_the_core_lets_keep_it() {
    let mut server = Node::listening(config(9, Role::Bootstrap)).await;
    let (mut a, mut b) = pair().await;
    for node in [&mut a, &mut b] {
        node.dial(&server).await;
        server_known(node, &server).await;
    }
    let key = Bytes::from(vec![3; KEY_BYTES]);
    let value = Bytes::from_static(b"record");
    a.apply(Network::PutRecord { key: key.clone(), value: value.clone(), lifetime: LIFETIME }).await;
    let offered = server
        .expect("offer", |input| match input {
            Input::RecordOffered { peer, key, value } => Some((*peer, key.clone(), value.clone())),
            _ => None,
        })
        .await;
    assert_eq!(offered, (a.peer, key.clone(), value.clone()));
    assert!(record_put(&mut a).await);

    // Offered is not kept.
    b.apply(Network::GetRecord { token: 1, key: key.clone() }).await;
    assert_eq!(query_ended(&mut b).await, 1);
    assert!(!b.has(|input| matches!(input, Input::RecordFound { .. })));

    server.apply(Network::KeepRecord { key: key.clone(), value: value.clone(), lifetime: LIFETIME }).await;
    b.apply(Network::GetRecord { token: 2, key }).await;
    let found = b
        .expect("record", |input| match input {
            Input::RecordFound { token, value } => Some((*token, value.clone())),
            _ => None,
        })
        .await;
    assert_eq!(found, (2, value));
    b.apply(Network::StopQuery { token: 2 }).await;
    assert_eq!(query_ended(&mut b).await, 2);
    assert!(!b.has(|input| matches!(input, Input::QueryEnded { .. } | Input::ServerKnown { .. })));
}

#[tokio::test]
async fn without_a_server_nothing_is_stored_or_found() {
    let (mut a, mut b) = pair().await;
    let key = Bytes::from(vec![3; KEY_BYTES]);
    a.apply(Network::PutRecord { key: key.clone(), value: Bytes::new(), lifetime: LIFETIME }).await;
    assert!(!record_put(&mut a).await);
    b.apply(Network::GetRecord { token: 1, key }).await;
    assert_eq!(query_ended(&mut b).await, 1);
    assert!(!b.has(|input| matches!(input, Input::RecordOffered { .. } | Input::RecordFound { .. })));
}

#[tokio::test]
async fn queries_are_bounded() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let key = Bytes::from(vec![3; KEY_BYTES]);
    let beyond = MAX_QUERIES as Token;
    a.apply_all((0..=beyond).map(|token| Network::GetRecord { token, key: key.clone() }).collect()).await;
    assert_eq!(query_ended(&mut a).await, beyond);
    for _ in 0..MAX_QUERIES {
        assert!(query_ended(&mut a).await < beyond);
    }
}

/// Not a test: `cargo test --release --test swarm -- --ignored --nocapture round_trips`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
#[allow(clippy::disallowed_methods)] // A measurement reads the clock.
async fn round_trips() {
    use std::time::Instant;
    let mut a = Net::new(config(1, Role::Full)).unwrap();
    let mut b = Net::new(config(2, Role::Full)).unwrap();
    b.apply(Network::Listen { port: 0 });
    let addrs = loop {
        if let Input::Listening { addrs } = b.next().await {
            break addrs;
        }
    };
    let peer = b.peer_id();
    let echo = tokio::spawn(async move {
        loop {
            if let Input::MailAsked { token, .. } = b.next().await {
                b.apply(Network::AnswerMail { token, body: Bytes::from_static(&[7; 128]) });
            }
        }
    });
    let begin = Instant::now();
    a.apply(Network::Dial { peer, addrs });
    while !matches!(a.next().await, Input::Connected { .. }) {}
    println!("dial to connected: {:?}", begin.elapsed());

    for size in [300, 16 << 10, 60 << 10, 256 << 10, 1 << 20] {
        let frame = Bytes::from(vec![1; size]);
        let mut trips = Vec::new();
        for token in 0..500 {
            let begin = Instant::now();
            a.apply(Network::SendMail { token, peer, frame: frame.clone() });
            while !matches!(a.next().await, Input::MailAnswered { .. }) {}
            trips.push(begin.elapsed());
        }
        trips.sort();
        println!("{size} B, one at a time: p50 {:?} p99 {:?}", trips[250], trips[495]);

        let total = 2000;
        let begin = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < total {
            while sent < total && sent - answered < 6 {
                a.apply(Network::SendMail { token: sent, peer, frame: frame.clone() });
                sent += 1;
            }
            if let Input::MailAnswered { outcome, .. } = a.next().await {
                outcome.unwrap();
                answered += 1;
            }
        }
        let each = begin.elapsed() / total as u32;
        let rate = size as f64 / each.as_secs_f64() / 1e6;
        println!("{size} B, six in flight: {each:?} each, {rate:.0} MB/s");
    }
    echo.abort();
}
