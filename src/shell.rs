//! One-shot commands for shells and cron: `send`, `listen`, `ask`, `discover` and `whoami`. They use the
//! daemon of the agent if one runs, else a node of their own that ends with them.

mod ask;
mod data;
mod discover;
mod error;
mod listen;
mod output;
mod send;
mod session;
mod whoami;

use std::io::{ErrorKind, Write, stderr};

use p2p_node_core::effect::ExitCode;

use crate::config::OneShot;
use crate::pipe;
pub use error::ShellError;
use output::Output;

/// Runs a command and returns the exit code.
pub fn run(command: OneShot) -> ExitCode {
    let is_json = command.node().json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, out) = match (runtime, pipe::stdout()) {
        (Ok(runtime), Ok(out)) => (runtime, out),
        (Err(error), _) | (_, Err(error)) => {
            tell(&error);
            return ExitCode::Io;
        }
    };
    let mut out = Output::new(out, is_json);
    let result = runtime.block_on(execute(command, &mut out));
    // A read of stdin cannot be cancelled.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::Ok,
        // Whoever read the output has seen enough.
        Err(ShellError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::Ok,
        Err(error) => {
            tell(&error);
            // The exit code tells it too.
            let _ = out.error(&error);
            error.exit_code()
        }
    }
}

async fn execute(command: OneShot, out: &mut Output) -> Result<(), ShellError> {
    match command {
        OneShot::Send(args) => send::run(args, out).await,
        OneShot::Listen(args) => listen::run(args, out).await,
        OneShot::Ask(args) => ask::run(args, out).await,
        OneShot::Discover(args) => discover::run(args, out).await,
        OneShot::Whoami(args) => whoami::run(args, out).await,
    }
}

/// Writes a notice for the user.
pub(crate) fn tell(what: &dyn std::fmt::Display) {
    let _ = writeln!(stderr(), "p2p-node: {}", crate::terminal::escaped(&what.to_string()));
}
