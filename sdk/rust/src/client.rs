use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{
    Allow, Answer, Block, Command, ConnectedPeer, Message, Peers, Ping, Ready, Send, Status, StatusReport,
    Subscribe, Unblock, Unsubscribe,
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
use crate::{Builder, DiscoverOptions, Error, FoundAgents};

/// The longest wait of a call: 30 years, as in tokio.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A handle on a supervised node. Cheap to clone; dropping the last one kills the process. Calls
/// are cancel-safe: dropping a `send` withdraws it while it waits in the SDK, and dropping a
/// `discover` ends its search. The node still carries out every other command.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Node")
            .field("address", &self.address())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// How long a closing node may drain before SIGTERM, and how long after that until SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) drain: Duration,
    pub(crate) terminate: Duration,
}

impl Default for Grace {
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

    /// Returns the latest `ready` event of the process.
    pub fn ready(&self) -> Ready {
        lock(&self.0.ready).clone()
    }

    /// Returns the agent's checksummed Ethereum address.
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

    /// Returns the last 64 KiB of stderr of the current or last process.
    pub fn stderr_tail(&self) -> String {
        self.0.launcher.stderr().text()
    }

    /// Sends `data`, a serde value or [`Bytes`](crate::Bytes), to the agent with this PeerId,
    /// `0x…` address or name of ENS (with `RPC_URL`). Resolves when the node has accepted the message.
    ///
    /// # Errors
    /// As [`request`](Node::request); [`Error::InvalidArgument`] names what JSON cannot hold.
    pub async fn send<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
    ) -> Result<SentMessage, Error> {
        self.send_with(to, data, SendOptions::default()).await
    }

    /// Like [`send`](Node::send), with options: priority, lifetime, route and so on.
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

    /// Sends an answer to the sender of `message`, in the same conversation. To prevent endless
    /// loops, reply only to messages without `reply_to`.
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

    /// Like [`reply`](Node::reply), with options. Always sets `reply_to`; `conversation_id`
    /// defaults to the conversation of `message`.
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

    /// Broadcasts to a topic. Resolves when the node has accepted the broadcast.
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

    /// Like [`publish`](Node::publish), with options.
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

    /// Finds agents. Returns at most 4,096 when the search ends, at the latest after `look_for` of
    /// the options; further agents arrive as events. Dropping the call ends the search.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn discover(&self, options: DiscoverOptions) -> Result<FoundAgents, Error> {
        let call_timeout = self.0.launcher.settings.call_timeout;
        let patience = call_timeout.saturating_add(options.look_for.unwrap_or_default());
        Ok(self.run(Command::Discover(options.command()?), patience, None).await?.into())
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

    /// Acknowledges a message: its sender gets `delivered`. In [`Manual`](crate::AckMode::Manual)
    /// mode only this call does so; in `Auto` mode it does so early, for example before the program
    /// exits. Sends nothing for a broadcast. Concurrent calls share a line.
    ///
    /// # Errors
    /// As [`request`](Node::request); `MESSAGE_NOT_FOUND` when the sender has given up the message,
    /// it is already acknowledged, or the node restarted and the sender has not sent it again yet.
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

    /// Lifts the rate limits of an agent or a node and marks its messages
    /// [`Allowed`](crate::Trust::Allowed), also after a restart.
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

    /// Waits for a connection and returns the connected peers. [`open`](Builder::open) succeeds
    /// even without one. A usual `timeout` is [`JOIN_TIMEOUT`](crate::JOIN_TIMEOUT), 30 s.
    ///
    /// # Errors
    /// [`Error::NotJoined`] after `timeout`, with the bootstrap peers and the node's errors;
    /// [`Error::SidecarExited`] and [`Error::NodeClosed`]. A restart does not end the wait.
    pub async fn joined(&self, timeout: Duration) -> Result<Vec<ConnectedPeer>, Error> {
        joining::joined(self, timeout).await
    }

    /// Waits until a peer is connected, the SDK buffers no message, and for `quiet`, usually
    /// [`QUIET`](crate::QUIET) = 3 s, no message came, the program acknowledged none and no peer
    /// connected. Unreachable senders may still deliver later. Another task must read the messages
    /// meanwhile; a program that reads its messages once uses [`Events::next_until_caught_up`].
    ///
    /// # Errors
    /// [`Error::NotJoined`] without a peer after `timeout`; [`Error::CallTimeout`] when messages
    /// still arrive or wait by then; [`Error::SidecarExited`] and [`Error::NodeClosed`].
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
        let missing = || Error::Contract("the answer to `status` has no `status` field".to_owned());
        self.request(Command::Status(Status {})).await?.status.map(|report| *report).ok_or_else(missing)
    }

    /// Waits until the node answers.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn ping(&self) -> Result<(), Error> {
        self.request(Command::Ping(Ping {})).await.map(drop)
    }

    /// Sends any command and waits for its answer, up to `call_timeout` in all, also while the
    /// process is down or 1,024 requests are outstanding. A `send` also waits for credit, behind
    /// earlier `send`s to its recipient; other commands overtake it. The node reports the delivery
    /// of a message sent this way as [`Event::Delivery`](crate::Event::Delivery).
    ///
    /// # Errors
    /// [`Error::CommandRefused`] when the node rejects the command; [`Error::SidecarUnavailable`]
    /// and [`Error::CallTimeout`] without a node or an answer in time; [`Error::SidecarRestarted`]
    /// when the process ends first; [`Error::SidecarExited`] when the SDK does not restart it;
    /// [`Error::WriteTimeout`], [`Error::LineTooLong`], [`Error::TooManyCalls`] and
    /// [`Error::NodeClosed`].
    pub async fn request(&self, command: Command) -> Result<Answer, Error> {
        let answered = match command {
            Command::Send(send) => self.submit(send, false).await?,
            other => self.run(other, self.0.launcher.settings.call_timeout, None).await?,
        };
        Ok(*answered.answer)
    }

    /// Submits a `send` and waits for its answer.
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

    /// Returns the connected peers; waits at most `waited` for the answer.
    pub(crate) async fn peers_within(&self, waited: Duration) -> Result<Vec<ConnectedPeer>, Error> {
        let answered = self.run(Command::Peers(Peers {}), waited, None).await?;
        Ok(answered.answer.connected.unwrap_or_default())
    }

    /// Returns the configured bootstrap peers.
    pub(crate) fn tried(&self) -> Vec<String> {
        self.0.launcher.settings.connect.bootstrap_peers.clone()
    }

    pub(crate) fn sink(&self) -> &Sink {
        self.0.sink()
    }

    /// Drains and stops the node. Later calls and waiting `send`s fail. Kills a node that exceeds
    /// [`close_timeouts`](Builder::close_timeouts), 9 s by default, even if the call is dropped.
    ///
    /// Returns the messages that the program has not read, unacknowledged: their senders report
    /// them as not delivered. [`Events`](crate::Events) yields no more. The last message read stays
    /// unacknowledged too, without [`ack`](Node::ack) or [`Events::close`](crate::Events::close).
    pub async fn close(&self) -> Vec<Message> {
        self.0.close().await
    }

    /// Returns the last exit status, if known. Code 75: the node lost accepted messages.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.0.launcher.status()
    }

    /// Returns how many messages the SDK acknowledged after their senders had given them up.
    pub fn acks_not_found(&self) -> u64 {
        self.0.sink().acks_not_found()
    }

    /// Returns how many messages beyond [`mail_buffer`](Builder::mail_buffer) the SDK dropped.
    pub fn mail_dropped(&self) -> u64 {
        self.0.sink().mail_dropped()
    }

    /// Returns how many lines of the node the SDK could not decode.
    pub fn undecodable(&self) -> u64 {
        self.0.sink().undecodable()
    }
}

/// Returns `text`, or an error if it is blank.
fn named(argument: &str, text: impl Into<String>) -> Result<String, Error> {
    let text = text.into();
    if text.trim().is_empty() { Err(Error::argument(argument, "must not be empty")) } else { Ok(text) }
}

pub(crate) fn deadline(waited: Duration) -> Instant {
    Instant::now() + waited.min(FOREVER)
}
