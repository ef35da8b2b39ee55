use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{
    Allow, Answer, Block, Command, ConnectedPeer, Delivery, DeliveryState, Discover, Message, PeerDiscovered,
    Peers, Ping, Ready, Send, Status, StatusReport, Subscribe, Unblock, Unsubscribe,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::channel::MAX_TRACKED;
use crate::child::{Answered, Shared};
#[cfg(doc)]
use crate::events::Event;
use crate::events::Events;
use crate::process::lock;
use crate::running::{Inner, MakeCommand, Settings, State};
use crate::{Builder, Error};

/// A handle on a supervised node. Cheap to clone; when the last one is dropped, its process is killed.
///
/// Every call may be dropped at any time, which does not take the command back (but ends a search).
#[derive(Clone)]
pub struct Node(Arc<Inner>);

/// How much time a node has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// To finish what it accepted; then it gets SIGTERM. 7 s by default: the node itself takes up to 5.
    pub drain: Duration,
    /// To obey SIGTERM; then it gets SIGKILL. 2 s by default.
    pub terminate: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Grace { drain: Duration::from_secs(7), terminate: Duration::from_secs(2) }
    }
}

impl Node {
    /// Says how a node is to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn open(settings: Settings, make_command: MakeCommand) -> Result<(Node, Events), Error> {
        let (inner, events) = Inner::open(settings, make_command).await?;
        Ok((Node(inner), events))
    }

    /// What the process said when it was ready last.
    pub fn ready(&self) -> Ready {
        lock(&self.0.ready).clone()
    }

    /// The agent's checksummed Ethereum address.
    pub fn address(&self) -> String {
        lock(&self.0.ready).address.clone()
    }

    /// The process's id, while there is one.
    pub fn process_id(&self) -> Option<u32> {
        match &*self.0.state.borrow() {
            State::Up(child) => Some(child.pid()),
            State::Down | State::Gone(_) => None,
        }
    }

    /// The last 64 KiB that the process wrote to stderr; empty while there is none.
    pub fn stderr_tail(&self) -> String {
        match &*self.0.state.borrow() {
            State::Up(child) => child.shared.stderr.text(),
            State::Down | State::Gone(_) => String::new(),
        }
    }

    /// Sends mail to the agent with this PeerId or `0x…` address. Resolves when the node has accepted it.
    ///
    /// # Errors
    /// [`Error::Data`], and as [`request`](Node::request).
    pub async fn send<T: Serialize + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
    ) -> Result<SentMail, Error> {
        self.post(Send::to_peer(to, json(data)?)).await
    }

    /// Sends mail of which more is to be said than recipient and data: priority, lifetime, route and so on.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn post(&self, mail: Send) -> Result<SentMail, Error> {
        let patience = self.0.settings.call_timeout;
        let (answered, shared) = self.ask(Command::Send(mail), true, patience).await?;
        let message_id = message_id(&answered.answer)?;
        let outcome = answered.delivery.ok_or_else(|| {
            Error::Contract("the answer to a mail does not say that it was accepted".to_owned())
        })?;
        Ok(SentMail { message_id, outcome, shared })
    }

    /// Answers a message: mail to its sender, in its conversation.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn reply<T: Serialize + ?Sized>(&self, message: &Message, data: &T) -> Result<SentMail, Error> {
        let mail = Send {
            reply_to: Some(message.message_id.clone()),
            conversation_id: message.conversation_id.clone(),
            ..Send::to_peer(&message.from, json(data)?)
        };
        self.post(mail).await
    }

    /// Broadcasts to a topic. Resolves when the node has accepted it.
    ///
    /// # Errors
    /// [`Error::Data`], and as [`request`](Node::request).
    pub async fn publish<T: Serialize + ?Sized>(
        &self,
        topic: impl Into<String>,
        data: &T,
    ) -> Result<Published, Error> {
        let answer = self.request(Command::Send(Send::to_topic(topic, json(data)?))).await?;
        Ok(Published { message_id: message_id(&answer)?, peers: answer.peers.unwrap_or(0) })
    }

    /// Finds agents. Resolves when the node has looked everywhere, or as long as it was told to; dropped, it ends the search.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn discover(&self, what: Discover) -> Result<Vec<PeerDiscovered>, Error> {
        let patience = self.0.settings.call_timeout + Duration::from_millis(what.timeout_ms.unwrap_or(0));
        Ok(self.ask(Command::Discover(what), false, patience).await?.0.found)
    }

    /// Has broadcasts on a topic come as events; also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn subscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        let topic = topic.into();
        self.request(Command::Subscribe(Subscribe { topic: topic.clone() })).await?;
        lock(&self.0.wanted).topics.insert(topic);
        Ok(())
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        let topic = topic.into();
        lock(&self.0.wanted).topics.remove(&topic);
        self.request(Command::Unsubscribe(Unsubscribe { topic })).await.map(drop)
    }

    /// Takes nothing more from an agent (`0x…`) or a node (PeerId).
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn block(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        let peer_id = peer_id.into();
        self.stand(&peer_id, Command::Block(Block { peer_id: peer_id.clone() })).await
    }

    /// Marks what an agent or a node sends as trusted.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn allow(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        let peer_id = peer_id.into();
        self.stand(&peer_id, Command::Allow(Allow { peer_id: peer_id.clone() })).await
    }

    /// Takes back [`block`](Node::block) and [`allow`](Node::allow).
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unblock(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        let peer_id = peer_id.into();
        self.request(Command::Unblock(Unblock { peer_id: peer_id.clone() })).await?;
        lock(&self.0.wanted).standings.remove(&peer_id);
        Ok(())
    }

    async fn stand(&self, of: &str, command: Command) -> Result<(), Error> {
        self.request(command.clone()).await?;
        lock(&self.0.wanted).standings.insert(of.to_owned(), command);
        Ok(())
    }

    /// The peers that are connected.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn peers(&self) -> Result<Vec<ConnectedPeer>, Error> {
        Ok(self.request(Command::Peers(Peers {})).await?.connected.unwrap_or_default())
    }

    /// What the node knows and has counted.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn status(&self) -> Result<StatusReport, Error> {
        let status = self.request(Command::Status(Status {})).await?.status;
        status.map(|report| *report).ok_or_else(|| Error::Contract("`status` has no status".to_owned()))
    }

    /// Resolves when the node answers.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn ping(&self) -> Result<(), Error> {
        self.request(Command::Ping(Ping {})).await.map(drop)
    }

    /// Has the node carry out any command, and waits for its answer. While its process is down the request waits for the next one, and
    /// with 1,024 requests outstanding for one of them, up to the builder's `call_timeout` in all. The delivery of mail sent this way is
    /// told by [`Event::Delivery`].
    ///
    /// # Errors
    /// [`Error::Command`] when the node refuses; [`Error::Unavailable`] when it was not there in time, and [`Error::Timeout`] when it did
    /// not answer in time; [`Error::Restarted`] when its process ended before it had answered, and [`Error::Exited`] when it is not
    /// started again; [`Error::WriteTimeout`], [`Error::TooLong`] and [`Error::ShutDown`].
    pub async fn request(&self, command: Command) -> Result<Answer, Error> {
        Ok(*self.ask(command, false, self.0.settings.call_timeout).await?.0.answer)
    }

    async fn ask(
        &self,
        command: Command,
        tracks: bool,
        waited: Duration,
    ) -> Result<(Answered, Arc<Shared>), Error> {
        let deadline = Instant::now() + waited;
        let what = command.name();
        let late = |_| Error::Timeout { what: what.to_owned(), waited };
        let child = timeout_at(deadline, self.0.up()).await.map_err(|_| Error::Unavailable { waited })??;
        let permit = timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await.map_err(late)?;
        let permit = permit.map_err(|_| Error::ShutDown)?;
        let asked = child.ask(command, tracks, Some(permit));
        let answered = timeout_at(deadline, asked).await.map_err(late)??;
        Ok((answered, Arc::clone(&child.shared)))
    }

    /// Has the node finish what it accepted and end; later requests fail. A node that takes longer than `grace`
    /// allows is killed. Returns how its process ended, if there was one: 75 means that accepted mail was lost.
    pub async fn shutdown(&self, grace: Grace) -> Option<ExitStatus> {
        self.0.closing.send_replace(true);
        let child = match &*self.0.state.borrow() {
            State::Up(child) => Some(Arc::clone(child)),
            State::Down | State::Gone(_) => None,
        };
        let status = match child {
            Some(child) => child.shut_down(grace).await,
            None => None,
        };
        self.0.finish(None);
        status
    }
}

/// Mail that the node has accepted. Its delivery is told here alone; dropped, it is told nowhere.
pub struct SentMail {
    /// Names the message across the network.
    pub message_id: String,
    outcome: oneshot::Receiver<Box<Delivery>>,
    shared: Arc<Shared>,
}

impl SentMail {
    /// Waits until the recipient's node has signed for it, for as long as the mail lives.
    ///
    /// # Errors
    /// [`Error::Undelivered`] when it did not arrive; [`Error::Restarted`] or [`Error::Exited`] when the node's process ended before it
    /// could tell; [`Error::TooMany`] when 65,536 other mails were under way when it was accepted: [`Event::Delivery`] tells then.
    pub async fn delivered(self) -> Result<Delivery, Error> {
        match self.outcome.await {
            Ok(delivery) if delivery.state == DeliveryState::Delivered => Ok(*delivery),
            Ok(delivery) => Err(Error::Undelivered(delivery)),
            Err(_) => {
                let closed = lock(&self.shared.channel).closed().cloned();
                Err(closed.unwrap_or(Error::TooMany { what: "mails", limit: MAX_TRACKED }))
            }
        }
    }
}

/// A broadcast that the node has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Names the message across the network.
    pub message_id: String,
    /// Subscribers that it went to at once; with none, the node holds it for a while.
    pub peers: usize,
}

fn json<T: Serialize + ?Sized>(data: &T) -> Result<Box<RawValue>, Error> {
    to_raw_value(data).map_err(|error| Error::Data(Arc::new(error)))
}

fn message_id(answer: &Answer) -> Result<String, Error> {
    let id = answer.message_id.clone();
    id.ok_or_else(|| Error::Contract("the answer to `send` has no messageId".to_owned()))
}
