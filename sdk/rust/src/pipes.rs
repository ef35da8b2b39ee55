//! The two tasks between a process and its channel. The reader never waits for the writer or for whoever takes events, so that
//! neither side of the pipe can stop the other.

use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::{Framed, Framer, decode_event};
use p2p_node_protocol::{Event as Told, Id, MAX_LINE_BYTES, Ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::channel::{Incoming, Reply};
use crate::child::{Answered, EXIT_GRACE, Shared};
use crate::events::{Event, Sink};
use crate::process::{Exit, Killer, lock};
use crate::wanted::Wanted;

/// Bytes read, and lines gathered, at once: what a Linux pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) kill: Killer,
    pub(crate) write_timeout: Duration,
}

impl Writer {
    /// Writes lines until every sender of them is gone, then closes the child's stdin. A child that does not read is killed.
    pub(crate) async fn run(
        self,
        mut stdin: ChildStdin,
        mut lines: mpsc::Receiver<Vec<u8>>,
        mut given_up: mpsc::Receiver<Id>,
    ) {
        let cancel = |target| lock(&self.shared.channel).cancel(target).unwrap_or_default();
        loop {
            let mut chunk = tokio::select! {
                biased;
                line = lines.recv() => match line {
                    Some(line) => line,
                    None => return,
                },
                Some(target) = given_up.recv() => cancel(target),
            };
            while chunk.len() < CHUNK_BYTES {
                let more = lines.try_recv().or_else(|_| given_up.try_recv().map(cancel));
                let Ok(more) = more else { break };
                chunk.extend_from_slice(&more);
            }
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                match timeout(self.write_timeout, stdin.write(rest)).await {
                    Ok(Ok(written)) => rest = &rest[written..],
                    // The reader finds out how the process ended.
                    Ok(Err(_)) => return,
                    Err(_) => {
                        self.shared.close(Error::WriteTimeout { waited: self.write_timeout });
                        self.kill.kill();
                        return;
                    }
                }
            }
        }
    }
}

/// Reads events until the output or the process ends; all who wait are failed when it is dropped half-way, with its runtime.
pub(crate) struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Sink,
    pub(crate) wanted: Arc<Mutex<Wanted>>,
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
            // Nothing can come of a process that has closed its output.
            kill.kill();
        }
        let status = exit.wait().await;
        // Its last words may still be on their way.
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
                    // A last line without newline was cut off by the end: nobody can tell what it was.
                    Ok(0) | Err(_) => return,
                    Ok(length) => framer.push(&buffer[..length], |framed| self.line(framed)),
                },
                () = &mut exited => return,
            }
        }
    }

    fn line(&mut self, framed: Framed<'_>) {
        let event = match framed {
            Framed::Line { bytes: line, .. } => decode_event(line),
            Framed::TooLong { .. } => return self.sink.drop_one(),
        };
        match event {
            Ok(Some(event)) => self.event(event),
            // A type of event that is newer than this crate.
            Ok(None) => {}
            Err(_) => self.sink.drop_one(),
        }
    }

    fn event(&mut self, event: Told) {
        if let Told::Ready(ready) = &event {
            self.ready.send_replace(Some(ready.clone()));
        }
        let mut channel = lock(&self.shared.channel);
        match channel.receive(event) {
            Incoming::Answer(waiter, reply) => {
                let answered = reply.map(|Reply { answer, found }| {
                    let accepted = answer.delivery.as_deref() == Some("accepted");
                    let mail = answer.message_id.clone().filter(|_| waiter.tracks && accepted);
                    let outcome = mail.map(|message_id| {
                        let (told, outcome) = watch::channel(None);
                        channel.track(message_id, told);
                        outcome
                    });
                    // Here, and not by whoever asked, who may not wait any more, or be late.
                    if let Some(command) = waiter.leaves {
                        lock(&self.wanted).carried_out(command);
                    }
                    Answered { answer, found, outcome }
                });
                // Whoever asked may not wait any more.
                let _ = waiter.answer.send(answered);
            }
            Incoming::Delivery(waiter, delivery) => {
                // Whoever sent the mail may not care any more.
                let _ = waiter.send(Some(delivery));
            }
            Incoming::Kept => {}
            Incoming::Event(event) => {
                drop(channel);
                if let Some(event) = Event::from_node(event) {
                    self.sink.tell(event);
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.close(Error::Exited { status: None, stderr_tail: self.shared.stderr.quote() });
        }
    }
}
