use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{
    Allow, Answer, Block, Command, ConnectedPeer, Discover, Message, PeerDiscovered, Peers, Ping, Ready,
    Send, Status, StatusReport, Subscribe, Unblock, Unsubscribe,
};
use tokio::time::{Instant, timeout_at};

use crate::builder::Settings;
use crate::events::Events;
use crate::inbox::Sink;
use crate::joining;
use crate::launcher::MakeCommand;
use crate::mail::{Payload, Published, SendOptions, SentMessage, message_id};
use crate::process::lock;
use crate::shared::Answered;
use crate::supervised_node::{Inner, State};
use crate::{Builder, Error};

/// Longer than anything is waited for: 30 years, as tokio has it.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A handle on a supervised node. Cheap to clone; when the last one is dropped, its process is killed.
///
/// Every call may be dropped at any time. That takes back a `send` that still waits for room, and ends a search; other commands are carried
/// out all the same.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Node")
            .field("address", &self.address())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// How much time a node has to end: to finish what it accepted, until SIGTERM; and to obey that, until SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) drain: Duration,
    pub(crate) terminate: Duration,
}

impl Default for Grace {
    /// The node itself takes up to 5 s.
    fn default() -> Self {
        Grace { drain: Duration::from_secs(7), terminate: Duration::from_secs(2) }
    }
}

impl Node {
    /// Returns a builder with the default options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn open(settings: Settings, make_command: MakeCommand) -> Result<(Node, Events), Error> {
        let (inner, events) = Inner::open(settings, make_command).await?;
        Ok((Node(inner), events))
    }

    /// The latest `ready` event of the process.
    pub fn ready(&self) -> Ready {
        lock(&self.0.ready).clone()
    }

    /// The agent's checksummed Ethereum address.
    pub fn address(&self) -> String {
        lock(&self.0.ready).address.clone()
    }

    /// Returns the process id; `None` while no process is ready.
    pub fn pid(&self) -> Option<u32> {
        match &*self.0.state.borrow() {
            State::Up(child) => Some(child.pid()),
            State::Down | State::Gone(_) => None,
        }
    }

    /// The last 64 KiB that the process, or the last one, wrote to stderr.
    pub fn stderr_tail(&self) -> String {
        self.0.launcher.stderr().text()
    }

    /// Sends mail to the agent with this PeerId or `0x…` address: anything that serde can write, or [`Bytes`](crate::Bytes). Resolves
    /// when the node has accepted it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] names what JSON cannot hold, such as `data.items[3]`; and as [`request`](Node::request).
    pub async fn send<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
    ) -> Result<SentMessage, Error> {
        self.send_with(to, data, SendOptions::default()).await
    }

    /// [`send`](Node::send), with more said: priority, lifetime, route and so on.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn send_with<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
        options: SendOptions,
    ) -> Result<SentMessage, Error> {
        let to = named("to", to)?;
        let mail = Send { peer_id: Some(to), ..options.send(data)? };
        SentMessage::new(self.submit(mail, true).await?)
    }

    /// Answers a message: mail to its sender, in its conversation. Two agents that answer answers never end: reply where the message's
    /// `reply_to` is absent.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn reply<T: Payload + ?Sized>(
        &self,
        message: &Message,
        data: &T,
    ) -> Result<SentMessage, Error> {
        self.reply_with(message, data, SendOptions::default()).await
    }

    /// [`reply`](Node::reply), with more said. `reply_to` is always the message's, and `conversation_id` where none is said.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn reply_with<T: Payload + ?Sized>(
        &self,
        message: &Message,
        data: &T,
        options: SendOptions,
    ) -> Result<SentMessage, Error> {
        let reply_to = Some(message.message_id.clone());
        let conversation_id = options.conversation_id.or_else(|| message.conversation_id.clone());
        let options = SendOptions { reply_to, conversation_id, ..options };
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
        self.publish_with(topic, data, SendOptions::default()).await
    }

    /// [`publish`](Node::publish), with more said.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn publish_with<T: Payload + ?Sized>(
        &self,
        topic: impl Into<String>,
        data: &T,
        options: SendOptions,
    ) -> Result<Published, Error> {
        let topic = named("topic", topic)?;
        let broadcast = Send { topic: Some(topic), ..options.send(data)? };
        let answer = self.request(Command::Send(broadcast)).await?;
        Ok(Published { message_id: message_id(&answer)?, peers: answer.peers.unwrap_or(0) })
    }

    /// Finds agents. Resolves when the node has looked everywhere, or for the `timeout_ms` of `what` (milliseconds), with all that it found,
    /// at most 4,096; those beyond are events. Dropped, it ends the search.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn discover(&self, what: Discover) -> Result<Vec<PeerDiscovered>, Error> {
        let patience = Duration::from_millis(what.timeout_ms.unwrap_or(0));
        let patience = patience.saturating_add(self.0.launcher.settings.call_timeout);
        Ok(self.ask(Command::Discover(what), patience).await?.found)
    }

    /// Subscribes to a topic, also after a restart. Its broadcasts arrive as events.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn subscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Subscribe(Subscribe { topic: named("topic", topic)? })).await.map(drop)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Unsubscribe(Unsubscribe { topic: named("topic", topic)? })).await.map(drop)
    }

    /// Acknowledges mail, so that its sender is told `delivered`. With [`AckMode::Manual`](crate::AckMode::Manual) nothing else does;
    /// otherwise this does so early, for example for the last mail that the program takes. A broadcast needs no `ack`, and none is written.
    /// Calls at the same time share a line.
    ///
    /// # Errors
    /// As [`request`](Node::request); `MESSAGE_NOT_FOUND` when its sender has given it up, it was acknowledged before, or the node was
    /// started again since and the message has not come again yet.
    pub async fn ack(&self, message: &Message) -> Result<(), Error> {
        if message.topic.is_some() {
            return Ok(());
        }
        let waited = self.0.launcher.settings.call_timeout;
        let deadline = deadline(waited);
        let late = |_| Error::CallTimeout { what: "ack".to_owned(), waited, maybe_sent: false };
        let _permit =
            timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await.map_err(late)?;
        timeout_at(deadline, self.0.up(None)).await.map_err(|_| Error::SidecarUnavailable { waited })??;
        let answer = self.0.sink().ack(&message.message_id);
        timeout_at(deadline, answer).await.map_err(late)?.unwrap_or(Err(Error::NodeClosed))
    }

    /// Rejects everything from an agent (`0x…`) or a node (PeerId), also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn block(&self, peer: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Block(Block { peer_id: named("peer", peer)? })).await.map(drop)
    }

    /// Lifts the limits for an agent or a node, and marks what it sends as [`Trust::Allowed`](crate::Trust::Allowed); also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn allow(&self, peer: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Allow(Allow { peer_id: named("peer", peer)? })).await.map(drop)
    }

    /// Removes the rule of [`block`](Node::block) or [`allow`](Node::allow).
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unblock(&self, peer: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Unblock(Unblock { peer_id: named("peer", peer)? })).await.map(drop)
    }

    /// Waits until a peer is connected, and returns those that are: [`open`](Builder::open) succeeds also where no peer can be reached.
    /// A usual `timeout` is [`JOIN_TIMEOUT`](crate::JOIN_TIMEOUT), 30 s.
    ///
    /// # Errors
    /// [`Error::NotJoined`] after `timeout`, with the bootstrap peers and what the node told about them; [`Error::SidecarExited`] and
    /// [`Error::NodeClosed`]. It goes on while the node is started again.
    pub async fn joined(&self, timeout: Duration) -> Result<Vec<ConnectedPeer>, Error> {
        joining::joined(self, timeout).await
    }

    /// Waits until the program has the mail that waited for it on the network: a peer is connected, no mail waits in the SDK, and for
    /// `quiet` no mail came, none was acknowledged and no peer was connected anew. A usual `quiet` is [`QUIET`](crate::QUIET), 3 s. A
    /// sender that is out of reach now may deliver later all the same. The program takes its mail meanwhile, in another task; one that
    /// reads its mail once uses [`Events::next_until_caught_up`].
    ///
    /// # Errors
    /// [`Error::NotJoined`] where no peer is connected within `timeout`; [`Error::CallTimeout`] when mail still comes then, or waits for
    /// the program; [`Error::SidecarExited`] and [`Error::NodeClosed`].
    pub async fn caught_up(&self, quiet: Duration, timeout: Duration) -> Result<(), Error> {
        joining::caught_up(self, quiet, timeout, Some(timeout)).await
    }

    /// Returns the connected peers.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn peers(&self) -> Result<Vec<ConnectedPeer>, Error> {
        Ok(self.request(Command::Peers(Peers {})).await?.connected.unwrap_or_default())
    }

    /// Returns the state and the counters of the node.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn status(&self) -> Result<StatusReport, Error> {
        let status = self.request(Command::Status(Status {})).await?.status;
        status.map(|report| *report).ok_or_else(|| Error::Contract("`status` has no status".to_owned()))
    }

    /// Waits for an answer of the node.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn ping(&self) -> Result<(), Error> {
        self.request(Command::Ping(Ping {})).await.map(drop)
    }

    /// Has the node carry out any command, and waits for its answer. While its process is down the request waits for the next one, and
    /// with 1,024 requests outstanding for one of them, up to the builder's `call_timeout` in all. A `send` waits until the node has room
    /// for it, behind those to the same recipient; all other commands go past it. The delivery of mail sent this way is told by
    /// [`Event::Delivery`](crate::Event::Delivery).
    ///
    /// # Errors
    /// [`Error::CommandRefused`] when the node refuses; [`Error::SidecarUnavailable`] when it was not there in time, and [`Error::CallTimeout`] when it did
    /// not answer in time; [`Error::SidecarRestarted`] when its process ended before it had answered, and [`Error::SidecarExited`] when it is not
    /// started again; [`Error::WriteTimeout`], [`Error::LineTooLong`], [`Error::TooManyCalls`] and [`Error::NodeClosed`].
    pub async fn request(&self, command: Command) -> Result<Answer, Error> {
        let answered = match command {
            Command::Send(send) => self.submit(send, false).await?,
            other => self.ask(other, self.0.launcher.settings.call_timeout).await?,
        };
        Ok(*answered.answer)
    }

    /// Has the node send something.
    async fn submit(&self, send: Send, tracks: bool) -> Result<Answered, Error> {
        let waited = self.0.launcher.settings.call_timeout;
        let mut sending = self.0.outgoing().send(send, tracks)?;
        if let Ok(answered) = timeout_at(deadline(waited), sending.answered()).await {
            return answered;
        }
        let maybe_sent = !sending.withdraw();
        if !maybe_sent && matches!(&*self.0.state.borrow(), State::Down) {
            return Err(Error::SidecarUnavailable { waited });
        }
        Err(Error::CallTimeout { what: "send".to_owned(), waited, maybe_sent })
    }

    /// The connected peers, asked for at most so long.
    pub(crate) async fn peers_within(&self, waited: Duration) -> Result<Vec<ConnectedPeer>, Error> {
        let answered = self.ask(Command::Peers(Peers {}), waited).await?;
        Ok(answered.answer.connected.unwrap_or_default())
    }

    /// The addresses that the program gave to join through.
    pub(crate) fn tried(&self) -> Vec<String> {
        self.0.launcher.settings.connect.bootstrap_peers.clone()
    }

    pub(crate) fn sink(&self) -> &Sink {
        self.0.sink()
    }

    /// Has the node carry out a command that is no `send`.
    async fn ask(&self, command: Command, waited: Duration) -> Result<Answered, Error> {
        let deadline = deadline(waited);
        let late = |_| Error::CallTimeout { what: command.name().to_owned(), waited, maybe_sent: false };
        let permit = timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await.map_err(late)?;
        let (mut permit, mut gone) = (permit.ok(), None);
        loop {
            let up = timeout_at(deadline, self.0.up(gone.as_ref())).await;
            let child = up.map_err(|_| Error::SidecarUnavailable { waited })??;
            if let Some(pending) = child.begin(&command, &mut permit)?
                && let Some(answered) = timeout_at(deadline, pending.answered()).await.map_err(late)??
            {
                return Ok(answered);
            }
            // It ended before it could see the command: the next one will do.
            gone = Some(child);
        }
    }

    /// Has the node finish what it accepted and end; later calls fail, and so do `send`s that still wait for room. A node that takes
    /// longer than [`close_timeouts`](Builder::close_timeouts) allow, 9 s in all by default, is killed, also when the caller does not wait
    /// for that.
    ///
    /// Returns the mail that the program has not taken. It is not acknowledged: its senders have it, and learn that it was not delivered.
    /// From the call on [`Events`](crate::Events) gives no more mail. Nor is the mail acknowledged that the program took last, if it did
    /// not say [`ack`](Node::ack) or [`Events::close`](crate::Events::close) before.
    pub async fn close(&self) -> Vec<Message> {
        self.0.close().await
    }

    /// How the last process ended, if it has and the system tells: code 75 means that accepted mail was lost.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.0.launcher.status()
    }

    /// Mail that the program finished when its sender had given it up, so that the sender was told that it was not delivered.
    pub fn acks_not_found(&self) -> u64 {
        self.0.sink().acks_not_found()
    }

    /// Mail that a defective node handed over beyond the builder's [`mail_buffer`](crate::Builder::mail_buffer). It is not acknowledged.
    pub fn mail_dropped(&self) -> u64 {
        self.0.sink().mail_dropped()
    }

    /// Number of lines of the node that the SDK could not decode.
    pub fn undecodable(&self) -> u64 {
        self.0.sink().undecodable()
    }
}

/// A name, address or topic, which is not empty.
fn named(argument: &str, text: impl Into<String>) -> Result<String, Error> {
    let text = text.into();
    if text.trim().is_empty() { Err(Error::argument(argument, "it is empty")) } else { Ok(text) }
}

pub(crate) fn deadline(waited: Duration) -> Instant {
    Instant::now() + waited.min(FOREVER)
}
