//! Admission of attackers that speak no other protocol of a node but the one of their attack.

use std::fmt::Debug;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::gossipsub;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Codec, Event, Message, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use p2p_node_wire::envelope::{Accepted, Admission, SignedResponse, Step, strict_decode};

use crate::fixture::Real;
use crate::forge::Forger;
use crate::peer::{introduction, signature};

const ADMISSION: &str = "/p2p-node/dev/admission/1";

/// Sends steps of admission, each with a length prefix, and answers none.
#[derive(Clone, Default)]
pub struct Steps;

impl Codec for Steps {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut length = [0; 4];
        io.read_exact(&mut length).await?;
        let mut step = vec![0; u32::from_be_bytes(length) as usize];
        io.read_exact(&mut step).await?;
        Ok(step.into())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, step: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[&(step.len() as u32).to_be_bytes(), &step[..]].concat()).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, _: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The protocols of an attacker.
#[derive(NetworkBehaviour)]
pub struct Protocols<B>
where
    B: NetworkBehaviour,
    <B as NetworkBehaviour>::ToSwarm: Debug,
{
    pub attack: B,
    admission: request_response::Behaviour<Steps>,
    gossip: Toggle<gossipsub::Behaviour>,
}

pub type RawSwarm<B> = Swarm<Protocols<B>>;

/// Returns the name of a topic in gossipsub.
pub fn wire_topic(topic: &str) -> String {
    format!("/p2p-node/dev/topic/1/{topic}")
}

/// Connects an attacker that subscribes to the announcements, as every node does, and completes its admission.
pub async fn join<B>(real: &Real, forger: &Forger, attack: B) -> RawSwarm<B>
where
    B: NetworkBehaviour,
    <B as NetworkBehaviour>::ToSwarm: Debug,
{
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .build()
        .unwrap();
    let mut gossip = gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config).unwrap();
    gossip.subscribe(&gossipsub::IdentTopic::new(wire_topic("agent-announcements"))).unwrap();
    join_with(real, forger, attack, Some(gossip)).await
}

/// Connects an attacker whose attack is on gossipsub, and completes its admission.
pub async fn join_alone<B>(real: &Real, forger: &Forger, attack: B) -> RawSwarm<B>
where
    B: NetworkBehaviour,
    <B as NetworkBehaviour>::ToSwarm: Debug,
{
    join_with(real, forger, attack, None).await
}

async fn join_with<B>(
    real: &Real,
    forger: &Forger,
    attack: B,
    gossip: Option<gossipsub::Behaviour>,
) -> RawSwarm<B>
where
    B: NetworkBehaviour,
    <B as NetworkBehaviour>::ToSwarm: Debug,
{
    let protocols = [(StreamProtocol::new(ADMISSION), ProtocolSupport::Outbound)];
    let admission = request_response::Behaviour::new(protocols, request_response::Config::default());
    let key = Keypair::ed25519_from_bytes(forger.node.seed().to_vec()).unwrap();
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| Protocols { attack, admission, gossip: gossip.into() })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    connect(&mut swarm, real, forger).await;
    swarm
}

/// Connects an attacker and completes its admission.
pub async fn connect<B>(swarm: &mut RawSwarm<B>, real: &Real, forger: &Forger)
where
    B: NetworkBehaviour,
    <B as NetworkBehaviour>::ToSwarm: Debug,
{
    swarm.dial(real.entry().parse::<Multiaddr>().unwrap()).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
            break;
        }
    }
    let connect = Step::Connect(introduction(forger.early_record()));
    let Step::Challenge(challenge) = step(swarm, real, connect).await else { panic!("no challenge") };
    let signature = signature(forger, real.peer(), &challenge, |_| {});
    let response = Step::SignedResponse(SignedResponse { signature });
    assert_eq!(step(swarm, real, response).await, Step::Accepted(Accepted {}));
}

/// Sends a step of admission and returns the answer.
async fn step<B>(swarm: &mut RawSwarm<B>, real: &Real, step: Step) -> Step
where
    B: NetworkBehaviour,
    <B as NetworkBehaviour>::ToSwarm: Debug,
{
    swarm.behaviour_mut().admission.send_request(&real.peer(), Admission::encode(step));
    loop {
        let event = swarm.select_next_some().await;
        if let SwarmEvent::Behaviour(ProtocolsEvent::Admission(Event::Message { message, .. })) = event
            && let Message::Response { response, .. } = message
        {
            return strict_decode::<Admission>(&response).unwrap().step.unwrap();
        }
    }
}
