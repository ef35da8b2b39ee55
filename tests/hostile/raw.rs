//! Misbehaviour of streams below the frame level. The peer negotiates the mail protocol and then
//! sends arbitrary bytes.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Codec, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use p2p_node::io::swarm::{MAIL_TIMEOUT, MAX_HELLO, MAX_MAIL};

use crate::scene::{Real, Scene};

const MAIL: &str = "/p2p-node/dev/mail/1";
const HELLO: &str = "/p2p-node/dev/hello/1";

/// What is written on a stream, and how.
#[derive(Clone, Debug)]
struct Script {
    /// What the first four bytes say of the length.
    announced: u32,
    bytes: Bytes,
    /// So many at a time; 0: all at once.
    step: usize,
    /// How long to wait between steps.
    pause: Duration,
    /// Whether the stream is closed afterwards, or left open.
    closes: bool,
}

#[derive(Clone, Default)]
struct Scripted;

impl Codec for Scripted {
    type Protocol = StreamProtocol;
    type Request = Script;
    type Response = Bytes;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Script>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut answer = Vec::new();
        io.take(1 << 20).read_to_end(&mut answer).await?;
        Ok(answer.into())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, script: Script) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&script.announced.to_be_bytes()).await?;
        let step = if script.step == 0 { script.bytes.len().max(1) } else { script.step };
        for part in script.bytes.chunks(step) {
            io.write_all(part).await?;
            io.flush().await?;
            tokio::time::sleep(script.pause).await;
        }
        io.flush().await?;
        if !script.closes {
            // Otherwise libp2p would close the stream.
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, _: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

type Behaviour = request_response::Behaviour<Scripted>;

struct Raw {
    swarm: Swarm<Behaviour>,
    ended: HashMap<OutboundRequestId, bool>,
}

impl Raw {
    async fn meet(protocol: &'static str, real: &Real) -> Self {
        let config = request_response::Config::default()
            .with_request_timeout(Duration::from_secs(60))
            .with_max_concurrent_streams(512);
        let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Outbound)];
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| Behaviour::with_codec(Scripted, protocols, config))
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        swarm.dial(real.entry().parse::<libp2p::Multiaddr>().unwrap()).unwrap();
        loop {
            if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
                return Raw { swarm, ended: HashMap::new() };
            }
        }
    }

    fn open(&mut self, real: &Real, script: Script) -> OutboundRequestId {
        self.swarm.behaviour_mut().send_request(&real.peer(), script)
    }

    /// Waits until the victim has ended one of them.
    async fn ended(&mut self, request: OutboundRequestId) {
        while !self.ended.contains_key(&request) {
            if let SwarmEvent::Behaviour(event) = self.swarm.select_next_some().await {
                match event {
                    request_response::Event::OutboundFailure { request_id, .. } => {
                        self.ended.insert(request_id, false);
                    }
                    request_response::Event::Message {
                        message: request_response::Message::Response { request_id, response },
                        ..
                    } => {
                        self.ended.insert(request_id, !response.is_empty());
                    }
                    _ => {}
                }
            }
        }
        assert!(!self.ended[&request], "it was answered");
    }
}

fn whole(bytes: &'static [u8]) -> Script {
    let announced = bytes.len() as u32;
    Script { announced, bytes: Bytes::from_static(bytes), step: 0, pause: Duration::ZERO, closes: true }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_are_too_long_or_cut_short_are_dropped_and_counted() {
    let mut scene = Scene::new("full");
    for (protocol, max, counter) in [(MAIL, MAX_MAIL, "mail_unread"), (HELLO, MAX_HELLO, "hellos_unread")] {
        let mut raw = Raw::meet(protocol, &scene.victim).await;
        let too_long = |announced| Script { announced, ..whole(b"nothing of it") };
        let scripts = [
            too_long(max as u32 + 1),
            too_long(u32::MAX),
            Script { announced: 100, ..whole(b"cut short") },
            Script { announced: 100, ..whole(b"") },
        ];
        let number = scripts.len() as u64;
        for script in scripts {
            let request = raw.open(&scene.victim, script);
            raw.ended(request).await;
        }
        scene.victim.until_counted(counter, number);
        assert_eq!(scene.victim.counter(counter), number, "{protocol}");
        assert_eq!(scene.victim.status()["peers"], 2, "still connected: a broken stream breaks no other");
    }
    scene.nothing_said(&["message", "error"]);
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn slow_streams_block_nobody_and_end_at_the_deadline() {
    // More than the victim serves on one connection.
    const STREAMS: usize = 160;
    let mut scene = Scene::new("full");
    let victim = &scene.victim;
    let before = victim.memory();
    let mut raw = Raw::meet(MAIL, victim).await;
    let slow = Script {
        announced: MAX_MAIL as u32,
        bytes: Bytes::from(vec![0; 1000]),
        step: 1,
        pause: Duration::from_millis(50),
        closes: false,
    };
    let started = Instant::now();
    let first = raw.open(victim, slow.clone());
    for _ in 1..STREAMS {
        raw.open(victim, slow.clone());
    }
    // One turn of the swarm puts them on the wire; it goes on in a task beside the honest mail.
    let cut = tokio::spawn(async move {
        raw.ended(first).await;
        (raw, started.elapsed())
    });
    let mut rounds = 0;
    while !cut.is_finished() {
        let round = Instant::now();
        scene.still_honest();
        rounds += 1;
        assert!(round.elapsed() < Duration::from_secs(2), "honest mail took {:?}", round.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < MAIL_TIMEOUT + Duration::from_secs(3), "the slow stream lives on");
    }
    let (_raw, took) = cut.await.unwrap();
    assert!(took > MAIL_TIMEOUT - Duration::from_secs(1), "too early: {took:?}");
    assert!(rounds > 10, "{rounds} rounds");
    scene.victim.until_counted("mail_unread", 1);
    let grown = scene.victim.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "an announced megabyte takes no more than has arrived: {grown}");
    scene.nothing_said(&["message", "error"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_that_stop_short_of_their_end_take_no_more_than_a_few_frames_memory() {
    const STREAMS: usize = 100;
    let mut scene = Scene::new("full");
    let before = scene.victim.memory();
    let mut raw = Raw::meet(MAIL, &scene.victim).await;
    let bytes = Bytes::from(vec![0; MAX_MAIL - 1]);
    let stalled = Script { announced: MAX_MAIL as u32, bytes, closes: false, ..whole(b"") };
    for _ in 0..STREAMS {
        raw.open(&scene.victim, stalled.clone());
    }
    // What finds no room is dropped as it comes; what found room stays until the deadline, and is
    // all that does.
    let dropped = tokio::spawn(async move {
        loop {
            raw.swarm.select_next_some().await;
        }
    });
    scene.victim.until_counted("mail_unread", STREAMS as u64 - 10);
    scene.still_honest();
    let grown = scene.victim.memory().saturating_sub(before) >> 20;
    assert!(grown < 24, "{grown} MiB for frames of which four may arrive at once");
    scene.nothing_said(&["message", "error"]);
    dropped.abort();
}
