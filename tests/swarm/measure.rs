//! Measures a round trip of a message: as a mail request, and on a bare Yamux stream.
//!
//! Not tests: `cargo test --release --test swarm -- --ignored --nocapture --test-threads 1
//! round_trips`.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::identity::Keypair;
use libp2p::{noise, tcp, yamux};
use p2p_node::io::swarm::SwarmDriver;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;

use super::node::config;

const SIZES: [usize; 5] = [300, 16 << 10, 60 << 10, 256 << 10, 1 << 20];

/// Returns 6, or fewer large frames, which a connection accepts at the same time.
fn most_in_flight(size: usize) -> u64 {
    if size > 256 << 10 { 3 } else { 6 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
#[allow(clippy::disallowed_methods)] // A measurement reads the clock.
async fn round_trips_of_requests() {
    let mut a = SwarmDriver::new(config(1, Role::Full)).unwrap();
    let mut b = SwarmDriver::new(config(2, Role::Full)).unwrap();
    b.apply(NetworkCommand::Listen { port: 0 });
    let addrs = loop {
        if let Input::Listening { addrs } = b.next().await {
            break addrs;
        }
    };
    let peer = b.peer_id();
    let echo = tokio::spawn(async move {
        loop {
            if let Input::MailRequestReceived { token, .. } = b.next().await {
                b.apply(NetworkCommand::AnswerMail { token, body: Bytes::from_static(&[7; 128]) });
            }
        }
    });
    let begin = Instant::now();
    a.apply(NetworkCommand::Dial { peer, addrs });
    while !matches!(a.next().await, Input::Connected { .. }) {}
    println!("dial to connected: {:?}", begin.elapsed());

    for size in SIZES {
        let frame = Bytes::from(vec![1; size]);
        let mut trips = Vec::new();
        for token in 0..500 {
            let begin = Instant::now();
            a.apply(NetworkCommand::SendMail { token, peer, frame: frame.clone() });
            while !matches!(a.next().await, Input::MailResponseReceived { .. }) {}
            trips.push(begin.elapsed());
        }
        trips.sort();
        println!("{size} B, one at a time: p50 {:?} p99 {:?}", trips[250], trips[495]);

        let total = 2000;
        let begin = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < total {
            while sent < total && sent - answered < most_in_flight(size) {
                a.apply(NetworkCommand::SendMail { token: sent, peer, frame: frame.clone() });
                sent += 1;
            }
            if let Input::MailResponseReceived { outcome, .. } = a.next().await {
                outcome.unwrap();
                answered += 1;
            }
        }
        let each = begin.elapsed() / total as u32;
        let rate = size as f64 / each.as_secs_f64() / 1e6;
        println!("{size} B, with the most frames in flight: {each:?} each, {rate:.0} MB/s");
    }
    echo.abort();
}

type Boxed = libp2p::core::transport::Boxed<(libp2p::PeerId, StreamMuxerBox)>;

fn transport() -> Boxed {
    let keypair = Keypair::generate_ed25519();
    tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed()
}

/// Opens or accepts a stream of a connection, and drives the connection in a task.
async fn stream_of(mut muxer: StreamMuxerBox, opens: bool) -> SubstreamBox {
    let stream = poll_fn(|context| {
        if let Poll::Ready(Err(error)) = muxer.poll_unpin(context) {
            panic!("{error}");
        }
        if opens { muxer.poll_outbound_unpin(context) } else { muxer.poll_inbound_unpin(context) }
    });
    let stream = stream.await.unwrap();
    tokio::spawn(async move {
        let drive = poll_fn(|context| {
            while let Poll::Ready(Ok(_)) = muxer.poll_inbound_unpin(context) {}
            std::pin::Pin::new(&mut muxer).poll(context)
        });
        let _ = drive.await;
    });
    stream
}

async fn write(stream: &mut (impl futures::AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(&(bytes.len() as u32).to_be_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

async fn read(stream: &mut (impl futures::AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// A plain stream without swarm, handler, timeouts or limits: the lower bound for any protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
#[allow(clippy::disallowed_methods)] // A measurement reads the clock.
async fn round_trips_on_one_stream() {
    let (mut near, mut far) = (transport(), transport());
    far.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let addr =
        poll_fn(|context| std::pin::Pin::new(&mut far).poll(context)).await.into_new_address().unwrap();
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = near.dial(addr, opts).unwrap();
    // Lazy negotiation arrives with the first bytes, so that neither end waits for the other.
    let echo = tokio::spawn(async move {
        let accepted = loop {
            let event = poll_fn(|context| std::pin::Pin::new(&mut far).poll(context)).await;
            if let TransportEvent::Incoming { upgrade, .. } = event {
                break upgrade.await.unwrap().1;
            }
        };
        let mut stream = stream_of(accepted, false).await;
        while read(&mut stream).await.is_some() {
            write(&mut stream, &[7; 128]).await;
        }
    });
    let mut stream = stream_of(dial.await.unwrap().1, true).await;
    for size in SIZES {
        let frame = vec![1; size];
        let mut trips = Vec::new();
        for _ in 0..500 {
            let begin = Instant::now();
            write(&mut stream, &frame).await;
            read(&mut stream).await.unwrap();
            trips.push(begin.elapsed());
        }
        trips.sort();
        println!("{size} B, one at a time: p50 {:?} p99 {:?}", trips[250], trips[495]);

        let total = 2000;
        let begin = Instant::now();
        let (mut reader, mut writer) = stream.split();
        let permits = tokio::sync::Semaphore::new(most_in_flight(size) as usize);
        let send = async {
            for _ in 0..total {
                permits.acquire().await.unwrap().forget();
                write(&mut writer, &frame).await;
            }
        };
        let receive = async {
            for _ in 0..total {
                read(&mut reader).await.unwrap();
                permits.add_permits(1);
            }
        };
        futures::join!(send, receive);
        stream = reader.reunite(writer).unwrap();
        let each = begin.elapsed() / total as u32;
        let rate = size as f64 / each.as_secs_f64() / 1e6;
        println!("{size} B, with the most frames in flight: {each:?} each, {rate:.0} MB/s");
    }
    echo.abort();
}
