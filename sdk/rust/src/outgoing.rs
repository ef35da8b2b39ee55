//! The commands of a node that survive a restart of its process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use p2p_node_protocol::line::encode_request;
use p2p_node_protocol::{Command, Id, MAX_LINE_BYTES, Request};
use tokio::sync::{oneshot, watch};

use crate::Error;
use crate::lane::{Lane, Recipient, Waiting};
use crate::process::lock;
use crate::shared::{Answered, Caller};

/// The `send`s of a node, which survive a restart, and the signal that wakes the writer.
pub(crate) struct Outgoing {
    last_id: AtomicI64,
    pub(crate) lane: Mutex<Lane<Caller>>,
    wake: watch::Sender<()>,
}

impl Outgoing {
    pub(crate) fn new(wake: watch::Sender<()>) -> Self {
        Outgoing { last_id: AtomicI64::new(0), lane: Mutex::new(Lane::new()), wake }
    }

    /// Returns an id that no other command of this node has.
    pub(crate) fn next_id(&self) -> i64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Encodes a command. Returns its id and its line.
    pub(crate) fn encode(&self, command: Command) -> Result<(i64, Vec<u8>), Error> {
        let (id, mut line) = (self.next_id(), Vec::new());
        encode_request(&Request { id: Some(Id::Number(id)), command }, &mut line);
        let bytes = line.len() - 1; // without the newline
        if bytes > MAX_LINE_BYTES { Err(Error::LineTooLong { bytes }) } else { Ok((id, line)) }
    }

    /// Wakes the writer because there may be something to write.
    pub(crate) fn wake(&self) {
        self.wake.send_replace(());
    }

    /// Returns the signal that wakes the writer.
    pub(crate) fn woken(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    /// Adds a `send` to the queue.
    pub(crate) fn send(
        self: &Arc<Self>,
        send: p2p_node_protocol::Send,
        tracks: bool,
    ) -> Result<Sending, Error> {
        let (to, bytes) = (Recipient::of(&send), send.data.get().len());
        let (id, line) = self.encode(Command::Send(send))?;
        let (sender, answer) = oneshot::channel();
        let waiter = Caller { answer: sender, tracks, is_send: true, state_change: None, _permit: None };
        lock(&self.lane).push(to.clone(), Waiting { id, line, bytes, waiter })?;
        self.wake();
        Ok(Sending { outgoing: Arc::clone(self), to, id, answer, is_answered: false })
    }

    /// Fails every waiting `send` and every later one. Only the first error counts.
    pub(crate) fn fail_all(&self, error: &Error) {
        let callers = lock(&self.lane).fail_all(error.clone());
        for caller in callers {
            caller.answer(Err(error.clone()));
        }
    }
}

/// A `send` whose caller waits for the answer. Dropping it withdraws the `send`, unless the SDK has
/// already written it.
pub(crate) struct Sending {
    outgoing: Arc<Outgoing>,
    to: Recipient,
    id: i64,
    answer: oneshot::Receiver<Result<Answered, Error>>,
    is_answered: bool,
}

impl Sending {
    pub(crate) async fn answered(&mut self) -> Result<Answered, Error> {
        let answered = (&mut self.answer).await;
        self.is_answered = true;
        // The queue and the channel answer every waiter before they drop it.
        answered.unwrap_or(Err(Error::NodeClosed))
    }

    /// Withdraws the `send`. Returns `false` if the SDK has already written it.
    pub(crate) fn withdraw(&mut self) -> bool {
        self.is_answered = true;
        lock(&self.outgoing.lane).withdraw(&self.to, self.id)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.is_answered {
            self.withdraw();
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::Send;

    use super::*;

    fn outgoing() -> Arc<Outgoing> {
        Arc::new(Outgoing::new(watch::Sender::new(())))
    }

    fn send(length: usize) -> Send {
        Send::to_topic("t", serde_json::value::to_raw_value(&"x".repeat(length)).unwrap())
    }

    #[test]
    fn line_above_limit_is_rejected() {
        let outgoing = outgoing();
        let encode = |length: usize| outgoing.encode(Command::Send(send(length)));
        let (_, line) = encode(MAX_LINE_BYTES - 100).unwrap();
        let room = MAX_LINE_BYTES - (line.len() - 1) + (MAX_LINE_BYTES - 100);
        encode(room).unwrap();
        assert!(matches!(encode(room + 1), Err(Error::LineTooLong { bytes }) if bytes == MAX_LINE_BYTES + 1));
    }

    #[tokio::test]
    async fn dropped_send_is_withdrawn_unless_written() {
        let outgoing = outgoing();
        drop(outgoing.send(send(1), false).unwrap());
        assert!(lock(&outgoing.lane).pop().is_none());
        let mut sending = outgoing.send(send(1), false).unwrap();
        let seen = lock(&outgoing.lane).pop().unwrap();
        assert!(!sending.withdraw());
        seen.waiter.answer(Err(Error::NodeClosed));
        assert!(matches!(sending.answered().await, Err(Error::NodeClosed)));
    }
}
