use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{
    Ack, Allow, Answer, Block, Command, ConnectedPeer, Discover, Message, PeerDiscovered, Peers, Ping, Ready,
    Send, Status, StatusReport, Subscribe, Unblock, Unsubscribe,
};
use tokio::time::{Instant, timeout_at};

use crate::builder::Settings;
use crate::child::{Answered, Shared};
use crate::events::Events;
use crate::mail::{Options, Payload, Published, SentMail, message_id};
use crate::process::lock;
use crate::sidecar::{Inner, MakeCommand, State};
use crate::{Builder, Error};

/// Longer than anything is waited for: 30 years, as tokio has it.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

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

    /// The last 64 KiB that the process, or the last one, wrote to stderr.
    pub fn stderr_tail(&self) -> String {
        self.0.launch.stderr().text()
    }

    /// Sends mail to the agent with this PeerId or `0x…` address: anything that serde can write, or [`Bytes`](crate::Bytes). Resolves
    /// when the node has accepted it.
    ///
    /// # Errors
    /// [`Error::Data`], and as [`request`](Node::request).
    pub async fn send<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
    ) -> Result<SentMail, Error> {
        self.send_with(to, data, Options::default()).await
    }

    /// [`send`](Node::send), with more said: priority, lifetime, route and so on.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn send_with<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
        options: Options,
    ) -> Result<SentMail, Error> {
        self.post(Send { peer_id: Some(to.into()), ..options.send(data)? }).await
    }

    /// Sends mail that is put together already.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn post(&self, mail: Send) -> Result<SentMail, Error> {
        let (answered, shared) =
            self.ask(Command::Send(mail), true, self.0.launch.settings.call_timeout).await?;
        SentMail::new(answered, shared)
    }

    /// Answers a message: mail to its sender, in its conversation.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn reply<T: Payload + ?Sized>(&self, message: &Message, data: &T) -> Result<SentMail, Error> {
        let (reply_to, conversation_id) = (Some(message.message_id.clone()), message.conversation_id.clone());
        let options = Options { reply_to, conversation_id, ..Options::default() };
        self.send_with(&message.from, data, options).await
    }

    /// Broadcasts to a topic. Resolves when the node has accepted it.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn publish<T: Payload + ?Sized>(
        &self,
        topic: impl Into<String>,
        data: &T,
    ) -> Result<Published, Error> {
        self.publish_with(topic, data, Options::default()).await
    }

    /// [`publish`](Node::publish), with more said.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn publish_with<T: Payload + ?Sized>(
        &self,
        topic: impl Into<String>,
        data: &T,
        options: Options,
    ) -> Result<Published, Error> {
        let broadcast = Send { topic: Some(topic.into()), ..options.send(data)? };
        let answer = self.request(Command::Send(broadcast)).await?;
        Ok(Published { message_id: message_id(&answer)?, peers: answer.peers.unwrap_or(0) })
    }

    /// Finds agents. Resolves when the node has looked everywhere, or as long as it was told to; dropped, it ends the search.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn discover(&self, what: Discover) -> Result<Vec<PeerDiscovered>, Error> {
        let patience = Duration::from_millis(what.timeout_ms.unwrap_or(0));
        let patience = patience.saturating_add(self.0.launch.settings.call_timeout);
        Ok(self.ask(Command::Discover(what), false, patience).await?.0.found)
    }

    /// Has broadcasts on a topic come as events; also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn subscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Subscribe(Subscribe { topic: topic.into() })).await.map(drop)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Unsubscribe(Unsubscribe { topic: topic.into() })).await.map(drop)
    }

    /// Says that this program has done with a message, so that its sender is told that it was delivered. Only with
    /// [`manual_ack`](crate::Builder::manual_ack). Of a broadcast, which needs no `ack`, it does nothing, so that nobody has to tell the
    /// two apart.
    ///
    /// # Errors
    /// As [`request`](Node::request); `MESSAGE_NOT_FOUND` when its sender has given it up, it has had its `ack`, or the node was started
    /// again since and the message has yet to come again.
    pub async fn ack(&self, message: &Message) -> Result<(), Error> {
        if message.topic.is_some() {
            return Ok(());
        }
        self.request(Command::Ack(Ack::one(message.message_id.clone()))).await.map(drop)
    }

    /// Takes nothing more from an agent (`0x…`) or a node (PeerId); also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn block(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Block(Block { peer_id: peer_id.into() })).await.map(drop)
    }

    /// Lifts the limits for an agent or a node, and marks what it sends as [`Trust::Allowed`](crate::Trust::Allowed); also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn allow(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Allow(Allow { peer_id: peer_id.into() })).await.map(drop)
    }

    /// Takes back [`block`](Node::block) and [`allow`](Node::allow).
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unblock(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Unblock(Unblock { peer_id: peer_id.into() })).await.map(drop)
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
    /// told by [`Event::Delivery`](crate::Event::Delivery).
    ///
    /// # Errors
    /// [`Error::Command`] when the node refuses; [`Error::Unavailable`] when it was not there in time, and [`Error::Timeout`] when it did
    /// not answer in time; [`Error::Restarted`] when its process ended before it had answered, and [`Error::Exited`] when it is not
    /// started again; [`Error::WriteTimeout`], [`Error::TooLong`] and [`Error::ShutDown`].
    pub async fn request(&self, command: Command) -> Result<Answer, Error> {
        Ok(*self.ask(command, false, self.0.launch.settings.call_timeout).await?.0.answer)
    }

    async fn ask(
        &self,
        command: Command,
        tracks: bool,
        waited: Duration,
    ) -> Result<(Answered, Arc<Shared>), Error> {
        let deadline = Instant::now() + waited.min(FOREVER);
        let late = |_| Error::Timeout { what: command.name().to_owned(), waited };
        let permit = timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await.map_err(late)?;
        let (mut permit, mut gone) = (permit.ok(), None);
        let pending = loop {
            let up = timeout_at(deadline, self.0.up(gone.as_ref())).await;
            let child = up.map_err(|_| Error::Unavailable { waited })??;
            let begun = timeout_at(deadline, child.begin(&command, tracks, &mut permit)).await;
            if let Some(pending) = begun.map_err(late)?? {
                break pending;
            }
            // It ended before anything was sent: the next one will do.
            gone = Some(child);
        };
        let shared = pending.shared();
        let answered = timeout_at(deadline, pending.answered()).await.map_err(late)??;
        Ok((answered, shared))
    }

    /// Has the node finish what it accepted and end; later requests fail. A node that takes longer than `grace` allows is killed, also
    /// when the caller does not wait for that. Of several calls the least patient counts. Returns how the last process ended, if the
    /// system tells that: code 75 means that accepted mail was lost.
    pub async fn shutdown(&self, grace: Grace) -> Option<ExitStatus> {
        self.0.closing.send_replace(true);
        let closer = match &*self.0.state.borrow() {
            State::Up(child) => Some(child.closer()),
            State::Down | State::Gone(_) => None,
        };
        if let Some(closer) = closer {
            tokio::spawn(closer.run(grace));
        }
        // The sender lives as long as `self`.
        let _ = self.0.state.subscribe().wait_for(|state| matches!(state, State::Gone(_))).await;
        self.0.launch.status()
    }
}
