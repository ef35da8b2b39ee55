//! The two tasks between a process and its channel. The reader never waits for the writer or for
//! the program, so that neither side of the pipe can block the other.

use std::pin::pin;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::{Framed, Framer, decode_event, encode_request};
use p2p_node_protocol::{Cancel, Command, Event as NodeEvent, Id, MAX_LINE_BYTES, Ready, Request, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::Error;
use crate::channel::{Incoming, Reply};
use crate::child::EXIT_GRACE;
use crate::desired_state::DesiredState;
use crate::events::Event;
use crate::inbox::Sink;
use crate::process::{Exit, Killer, lock};
use crate::requests::Hub;
use crate::shared::{Answered, Caller, Queued, Shared, Stage, Waiter};

/// The number of bytes that one read, or one write of lines, handles: the capacity of a Linux pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// The SDK kills a process that neither reads nor writes for this many times its longest pause. Our
/// choice: several times the longest pause that the node promises. The writer counts the pauses one
/// by one, so that a program that blocks its runtime adds only one of them.
const STALL_PAUSES: u32 = 5;

/// The pause before the SDK repeats an `ack` that a busy node rejected. Our choice: long enough for
/// a disk write.
const ACK_RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Sink,
    pub(crate) kill: Killer,
}

impl Writer {
    /// Writes lines until the process or the node ends, then closes stdin. Kills a process that
    /// stalls.
    pub(crate) async fn run(self, mut stdin: ChildStdin) {
        let mut woken = self.shared.outgoing.woken();
        loop {
            woken.mark_unchanged();
            let Some(Gathered { lines, is_last }) = self.gather() else { return };
            if !self.write(&mut stdin, &lines).await || is_last {
                return;
            }
            if lines.is_empty() && woken.changed().await.is_err() {
                return;
            }
        }
    }

    /// Collects the lines to write: `ack`s and commands before `send`s. Returns `None` if the
    /// process has ended.
    fn gather(&self) -> Option<Gathered> {
        let (shared, outgoing) = (&self.shared, &self.shared.outgoing);
        let mut lines = Vec::new();
        let add = |lines: &mut Vec<u8>, id: i64, command| {
            encode_request(&Request { id: Some(Id::Number(id)), command }, lines);
        };
        let mut channel = lock(&shared.channel);
        let mut queue = lock(&shared.queue);
        if channel.closed().is_some() || queue.stage == Stage::Ended {
            return None;
        }
        let is_closing = queue.stage == Stage::Closing;
        let serves = shared.serves.load(Ordering::Acquire);
        while serves
            && lines.len() < CHUNK_BYTES
            && let Some((id, ack)) = self.sink.next_ack(|| outgoing.next_id(), is_closing)
        {
            channel.register(id, Waiter::Acks(id));
            add(&mut lines, id, Command::Ack(ack));
        }
        while lines.len() < CHUNK_BYTES
            && let Some(Queued { id, line, caller, responses }) = queue.commands.pop_front()
        {
            channel.register(id, Waiter::Caller(id, caller));
            responses.into_iter().for_each(|responses| channel.expect_responses(id, responses));
            lines.extend_from_slice(&line);
        }
        while lines.len() < CHUNK_BYTES
            && let Some(target) = queue.cancels.pop_front()
        {
            let id = outgoing.next_id();
            if channel.cancel(target, id) {
                add(&mut lines, id, Command::Cancel(Cancel { target: Id::Number(target) }));
            }
        }
        // While the node closes, its queue of `send`s is empty.
        while serves
            && lines.len() < CHUNK_BYTES
            && let Some(send) = lock(&outgoing.lane).pop()
        {
            channel.register(send.id, Waiter::Caller(send.id, send.waiter));
            lines.extend_from_slice(&send.line);
        }
        let is_last = is_closing && lines.len() < CHUNK_BYTES;
        if is_last {
            // The end of stdin also stops a node, but not one that is set to outlive its parent.
            encode_request(&Request { id: None, command: Command::Shutdown(Shutdown {}) }, &mut lines);
        }
        Some(Gathered { lines, is_last })
    }

    /// Writes `lines`. Returns `false` if the process no longer reads.
    async fn write(&self, stdin: &mut ChildStdin, lines: &[u8]) -> bool {
        let pause = Duration::from_millis(self.shared.max_pause_ms.load(Ordering::Relaxed).max(1));
        let (mut rest, mut stalled, mut chunks) = (lines, 0, 0);
        while !rest.is_empty() {
            match timeout(pause, stdin.write(rest)).await {
                Ok(Ok(written)) => (rest, stalled) = (&rest[written..], 0),
                // The reader reports how the process ended.
                Ok(Err(_)) => return false,
                Err(_) => {
                    let before = std::mem::replace(&mut chunks, self.shared.chunks.load(Ordering::Relaxed));
                    stalled = if chunks == before { stalled + 1 } else { 1 };
                }
            }
            if stalled >= STALL_PAUSES {
                self.shared.close(Error::WriteTimeout { waited: pause * STALL_PAUSES, maybe_sent: false });
                self.kill.kill();
                return false;
            }
        }
        true
    }
}

/// Lines to write.
struct Gathered {
    lines: Vec<u8>,
    /// `true` if these are the last lines.
    is_last: bool,
}

/// Reads events until stdout or the process ends. If the runtime drops it early, all waiting calls
/// fail.
pub(crate) struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Sink,
    pub(crate) desired: Arc<Mutex<DesiredState>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) ready: watch::Sender<Option<Box<Ready>>>,
    pub(crate) finished: bool,
}

impl Reader {
    pub(crate) async fn run(
        mut self,
        stdout: ChildStdout,
        mut exit: Exit,
        kill: Killer,
        mut stderr: JoinHandle<()>,
    ) -> Option<ExitStatus> {
        self.read(stdout, exit.clone()).await;
        if timeout(EXIT_GRACE, exit.wait()).await.is_err() {
            // A process that has closed its stdout can report nothing.
            kill.kill();
        }
        let status = exit.wait().await;
        // The rest of stderr may still be in the pipe.
        if timeout(EXIT_GRACE, &mut stderr).await.is_err() {
            stderr.abort();
        }
        self.finished = true;
        status
    }

    async fn read(&mut self, mut stdout: ChildStdout, mut exit: Exit) {
        let mut framer = Framer::new(MAX_LINE_BYTES);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut exited = pin!(async {
            exit.wait().await;
            tokio::time::sleep(EXIT_GRACE).await;
        });
        loop {
            tokio::select! {
                read = stdout.read(&mut buffer) => match read {
                    // Ignore a last line without newline: the end of the process may have truncated
                    // it.
                    Ok(0) | Err(_) => return,
                    Ok(length) => {
                        self.shared.chunks.fetch_add(1, Ordering::Relaxed);
                        framer.push(&buffer[..length], |framed| self.line(framed));
                    }
                },
                () = &mut exited => return,
            }
        }
    }

    fn line(&mut self, framed: Framed<'_>) {
        let event = match framed {
            Framed::Line { bytes, .. } => decode_event(bytes),
            Framed::TooLong { .. } => return self.sink.count_undecodable(),
        };
        match event {
            Ok(Some(event)) => self.event(event),
            // An event type of a later contract version.
            Ok(None) => {}
            Err(_) => self.sink.count_undecodable(),
        }
    }

    fn event(&mut self, event: NodeEvent) {
        if let NodeEvent::Ready(ready) = &event {
            self.shared.max_pause_ms.store(ready.limits.max_pause_ms, Ordering::Relaxed);
            self.ready.send_replace(Some(ready.clone()));
        }
        let mut channel = lock(&self.shared.channel);
        match channel.receive(event) {
            Incoming::Answer(Waiter::Acks(id), reply) => {
                drop(channel);
                if self.sink.ack_answered(id, reply.map(drop)) {
                    let sink = self.sink.clone();
                    tokio::spawn(async move {
                        sleep(ACK_RETRY).await;
                        sink.resume_acks();
                    });
                }
            }
            Incoming::Answer(Waiter::Caller(id, caller), reply) => {
                let outgoing = &self.shared.outgoing;
                if caller.is_send && lock(&outgoing.lane).answered(id) {
                    outgoing.wake();
                }
                let Caller { answer: asked, tracks, state_change, .. } = caller;
                let answered = reply.map(|Reply { answer, found }| {
                    let accepted = answer.delivery.as_deref() == Some("accepted");
                    let mail = answer.message_id.clone().filter(|_| tracks && accepted);
                    let outcome = mail.map(|message_id| {
                        let (sender, outcome) = watch::channel(None);
                        channel.track(message_id, sender);
                        outcome
                    });
                    // Record it here, because the calling future may already be dropped.
                    if let Some(command) = state_change {
                        lock(&self.desired).record(*command);
                    }
                    Answered { answer, found, outcome, shared: Arc::clone(&self.shared) }
                });
                // The caller may have dropped the call.
                let _ = asked.send(answered);
            }
            Incoming::Delivery(waiter, delivery) => {
                // The program may have dropped the receiver.
                let _ = waiter.send(Some(delivery));
            }
            Incoming::Consumed => {}
            Incoming::Event(event) => {
                drop(channel);
                if let NodeEvent::Error(error) = &event {
                    self.shared.note(error);
                }
                if let Some(event) = self.hub.receive(event).and_then(Event::from_node) {
                    self.sink.push(event);
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.close(self.shared.failure(None).error);
        }
    }
}
