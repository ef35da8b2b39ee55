//! What a round trip of mail costs.

use std::time::Instant;

use bytes::Bytes;
use p2p_node::core::effect::Network;
use p2p_node::core::input::Input;
use p2p_node::io::swarm::Net;
use p2p_node_protocol::Role;

use super::node::config;

/// Not a test: `cargo test --release --test swarm -- --ignored --nocapture round_trips`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
#[allow(clippy::disallowed_methods)] // A measurement reads the clock.
async fn round_trips() {
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
