//! Starts a node's process: the first one, or the replacement of one that ended.

use std::process::{Command as Program, ExitStatus};
use std::sync::{Arc, Mutex};

use p2p_node_protocol::{Connect, ErrorEvent, Ready};

use crate::Error;
use crate::binary;
use crate::builder::Settings;
use crate::child::{Child, ChildContext, End};
use crate::events::Event;
use crate::process::{Exit, Killer, Process, Tail, lock};
use crate::shared::Failure;

/// Builds the command line of a process. The argument is the key for an agent without one.
pub(crate) type MakeCommand = Box<dyn Fn(&str) -> Program + Send + Sync>;

/// Starts the processes of one node.
pub(crate) struct Launcher {
    pub(crate) settings: Settings,
    pub(crate) make_command: MakeCommand,
    pub(crate) ephemeral_key: String,
    pub(crate) context: ChildContext,
    pub(crate) current: Mutex<Current>,
}

/// The current process, or the last one.
#[derive(Default)]
pub(crate) struct Current {
    process: Option<(Killer, Exit)>,
    stderr: Tail,
    /// `true` after the node has ended: a process that starts now is killed.
    over: bool,
}

/// A process that is ready.
pub(crate) struct Started {
    pub(crate) child: Arc<Child>,
    pub(crate) end: End,
    pub(crate) ready: Ready,
}

impl Launcher {
    /// Starts a process and waits until it is ready. If that fails, the process has ended on
    /// return.
    pub(crate) async fn start(&self, port: Option<u16>) -> Result<Started, Failure> {
        let program = &self.settings.program;
        let (process, pipes) =
            Process::spawn((self.make_command)(&self.ephemeral_key)).map_err(|source| {
                let cwd = self.settings.cwd.as_deref();
                let error = binary::unusable(program, cwd, &source).unwrap_or_else(|| Error::SpawnFailed {
                    program: program.clone(),
                    source: Arc::new(source),
                });
                Failure { error, exit: None, report: None, stderr_tail: String::new() }
            })?;
        let stderr = Tail::default();
        {
            let mut current = lock(&self.current);
            current.process = Some((process.killer(), process.exit()));
            current.stderr = stderr.clone();
            if current.over {
                process.kill();
            }
        }
        let (child, mut end) = Child::start(process, pipes, stderr, &self.context);
        let connect = Connect { port, ..self.settings.connect.clone() };
        let ready = child.connect(connect, program, self.settings.ready_timeout);
        let ready = child.until_end(&mut end, ready).await?;
        Ok(Started { child, end, ready })
    }

    /// Converts the failure of the first start to the error that `open` returns.
    pub(crate) fn start_failed(&self, failure: Failure) -> Error {
        let Failure { error, exit, report, stderr_tail } = failure;
        match error {
            Error::CommandRefused { .. } => Error::StartFailed { report, exit, stderr_tail },
            Error::SidecarExited { .. } => {
                let (program, cwd) = (&self.settings.program, self.settings.cwd.as_deref());
                let silent = exit.filter(|_| report.is_none());
                let fault = silent.and_then(|exit| binary::unusable_after(program, cwd, exit, &stderr_tail));
                fault.unwrap_or(Error::StartFailed { report, exit, stderr_tail })
            }
            other => other,
        }
    }

    /// Starts a replacement for a process that ended, and restores the subscriptions and access
    /// rules.
    pub(crate) async fn replace(&self, before: &Ready) -> Result<Started, Failure> {
        let port = port_of(before).or(self.settings.connect.port);
        let Started { child, mut end, ready } = self.start(port).await?;
        let commands = lock(&self.context.desired).replay();
        let waited = self.settings.call_timeout;
        let ask = async {
            if ready.address != before.address {
                let (before, now) = (before.address.clone(), ready.address.clone());
                return Err(Error::IdentityChanged { before, now });
            }
            for command in &commands {
                let late =
                    || Error::CallTimeout { what: command.name().to_owned(), waited, maybe_sent: false };
                match tokio::time::timeout(waited, child.ask(command)).await.unwrap_or_else(|_| Err(late())) {
                    Ok(()) => {}
                    // The earlier process accepted this command. No call waits for the answer, so
                    // report the error as an event.
                    Err(Error::CommandRefused { code, message, retryable, details }) => {
                        let message = format!("after a restart, `{}`: {message}", command.name());
                        let error = ErrorEvent { retryable, details, ..ErrorEvent::new(code, message) };
                        self.context.sink.push(Event::Error(Box::new(error)));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        child.until_end(&mut end, ask).await?;
        Ok(Started { child, end, ready })
    }

    /// Returns the exit status of the last process, if it has ended.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        lock(&self.current).process.as_ref().and_then(|(_, exit)| exit.status())
    }

    /// Returns the buffered stderr of the current process, or of the last one.
    pub(crate) fn stderr(&self) -> Tail {
        lock(&self.current).stderr.clone()
    }

    pub(crate) fn kill(&self) {
        if let Some((killer, _)) = &lock(&self.current).process {
            killer.kill();
        }
    }

    /// Kills the current process, and every process that starts later.
    pub(crate) fn end(&self) {
        lock(&self.current).over = true;
        self.kill();
    }

    /// Kills the current process and waits until it has ended.
    pub(crate) async fn kill_and_wait(&self) {
        self.kill();
        let exit = lock(&self.current).process.as_ref().map(|(_, exit)| exit.clone());
        if let Some(mut exit) = exit {
            exit.wait().await;
        }
    }
}

/// Returns the TCP port that the node listens on.
fn port_of(ready: &Ready) -> Option<u16> {
    let after_tcp = |addr: &String| addr.split_once("/tcp/")?.1.split('/').next()?.parse().ok();
    ready.addrs.iter().find_map(after_tcp)
}
