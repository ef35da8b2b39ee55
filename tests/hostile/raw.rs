//! Misbehaviour of streams below the frame level. The peer negotiates the mail protocol and then
//! sends arbitrary bytes.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::StreamProtocol;
use libp2p::request_response::{self, Codec, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use p2p_node::io::swarm::{MAIL_TIMEOUT, MAX_ADMISSION, MAX_MAIL};

use crate::fixture::{Fixture, Real};
use crate::forge::Forger;
use crate::raw_admission::{ProtocolsEvent, RawSwarm, join};

const MAIL: &str = "/p2p-node/dev/mail/1";
const ADMISSION: &str = "/p2p-node/dev/admission/1";

/// Streams that the victim serves on one connection. A further stream ends the oldest.
const SERVED: usize = 4;

/// The bytes for a stream, and how to write them.
#[derive(Clone, Debug)]
struct Script {
    /// The length in the first four bytes.
    announced: u32,
    bytes: Bytes,
    /// Bytes for each step; 0: all in one step.
    step: usize,
    /// Time between two steps.
    pause: Duration,
    /// `true` if the stream is closed afterwards.
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

    async fn write_request<T>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        script: Script,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&script.announced.to_be_bytes()).await?;
        if protocol.as_ref() == MAIL {
            // The id of the request.
            io.write_all(&[0; 4]).await?;
        }
        let step = if script.step == 0 { script.bytes.len().max(1) } else { script.step };
        for part in script.bytes.chunks(step) {
            io.write_all(part).await?;
            io.flush().await?;
            tokio::time::sleep(script.pause).await;
        }
        io.flush().await?;
        if !script.closes {
            // libp2p closes the stream when this function returns.
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
    swarm: RawSwarm<Behaviour>,
    ended: HashMap<OutboundRequestId, bool>,
}

impl Raw {
    /// Connects an admitted attacker: the connection of another one ends too early.
    async fn join(protocol: &'static str, number: u64, real: &Real) -> Self {
        let config = request_response::Config::default()
            .with_request_timeout(Duration::from_secs(60))
            .with_max_concurrent_streams(512);
        let protocols = [(StreamProtocol::new(protocol), ProtocolSupport::Outbound)];
        let attack = Behaviour::with_codec(Scripted, protocols, config);
        Raw { swarm: join(real, &Forger::fake(number), attack).await, ended: HashMap::new() }
    }

    fn open(&mut self, real: &Real, script: Script) -> OutboundRequestId {
        self.swarm.behaviour_mut().attack.send_request(&real.peer(), script)
    }

    /// Waits until the victim has ended a request.
    async fn ended(&mut self, request: OutboundRequestId) {
        while !self.ended.contains_key(&request) {
            if let SwarmEvent::Behaviour(ProtocolsEvent::Attack(event)) = self.swarm.select_next_some().await
            {
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
        assert!(!self.ended[&request], "the request was answered");
    }
}

fn whole(bytes: &'static [u8]) -> Script {
    let announced = bytes.len() as u32;
    Script { announced, bytes: Bytes::from_static(bytes), step: 0, pause: Duration::ZERO, closes: true }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn too_long_or_truncated_requests_are_dropped_and_counted() {
    let mut fixture = Fixture::new("full");
    for (attacker, protocol, max, counter) in
        [(1, MAIL, MAX_MAIL, "mail_reads_failed"), (2, ADMISSION, MAX_ADMISSION, "admission_reads_failed")]
    {
        let mut raw = Raw::join(protocol, attacker, &fixture.victim).await;
        let too_long = |announced| Script { announced, ..whole(b"a short body") };
        let scripts = [
            too_long(max as u32 + 1),
            too_long(u32::MAX),
            Script { announced: 100, ..whole(b"cut short") },
            Script { announced: 100, ..whole(b"") },
        ];
        let number = scripts.len() as u64;
        for script in scripts {
            let request = raw.open(&fixture.victim, script);
            raw.ended(request).await;
        }
        fixture.victim.until_counted(counter, number);
        assert_eq!(fixture.victim.counter(counter), number, "{protocol}");
        assert_eq!(fixture.victim.status()["peers"], 2, "a broken stream does not end the connection");
    }
    fixture.assert_no_events(&["message", "error"]);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn slow_streams_delay_no_honest_mail_and_end_at_the_timeout() {
    const STREAMS: usize = 60;
    let mut fixture = Fixture::new("full");
    let victim = &fixture.victim;
    let before = victim.memory();
    let mut raw = Raw::join(MAIL, 1, victim).await;
    let slow = Script {
        announced: MAX_MAIL as u32,
        bytes: Bytes::from(vec![0; 1000]),
        step: 1,
        pause: Duration::from_millis(50),
        closes: false,
    };
    let started = Instant::now();
    let streams: Vec<_> = (0..STREAMS).map(|_| raw.open(victim, slow.clone())).collect();
    // The streams run in a task beside the honest mail.
    let slow_stream = tokio::spawn(async move {
        for stream in streams {
            raw.ended(stream).await;
        }
        (raw, started.elapsed())
    });
    let mut rounds = 0;
    while !slow_stream.is_finished() {
        let round = Instant::now();
        fixture.check_honest_traffic();
        rounds += 1;
        assert!(round.elapsed() < Duration::from_secs(2), "honest mail took {:?}", round.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < MAIL_TIMEOUT + Duration::from_secs(3), "the slow stream does not end");
    }
    let (_raw, elapsed) = slow_stream.await.unwrap();
    assert!(elapsed > MAIL_TIMEOUT - Duration::from_secs(1), "too early: {elapsed:?}");
    assert!(rounds > 10, "{rounds} rounds");
    // The victim may end the others before their first byte, which counts nothing.
    fixture.victim.until_counted("mail_reads_failed", SERVED as u64);
    let grown = fixture.victim.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "an announced length allocates memory: {grown}");
    fixture.assert_no_events(&["message", "error"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn stalled_frames_use_the_memory_of_a_few_frames() {
    const STREAMS: usize = 60;
    let mut fixture = Fixture::new("full");
    let before = fixture.victim.memory();
    let mut raw = Raw::join(MAIL, 1, &fixture.victim).await;
    let bytes = Bytes::from(vec![0; MAX_MAIL - 1]);
    let stalled = Script { announced: MAX_MAIL as u32, bytes, closes: false, ..whole(b"") };
    let mut streams: Vec<_> = (0..STREAMS).map(|_| raw.open(&fixture.victim, stalled.clone())).collect();
    streams.truncate(STREAMS - SERVED);
    for stream in streams {
        raw.ended(stream).await;
    }
    // The frames that are left stay until the timeout.
    let driver = tokio::spawn(async move {
        loop {
            raw.swarm.select_next_some().await;
        }
    });
    fixture.check_honest_traffic();
    let grown = fixture.victim.memory().saturating_sub(before) >> 20;
    assert!(grown < 24, "{grown} MiB for frames, of which the budget allows four");
    fixture.assert_no_events(&["message", "error"]);
    driver.abort();
}
