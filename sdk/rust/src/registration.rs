//! Registers the agent in the registry on its chain, by `p2p-node register`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt;

use crate::builder::Builder;
use crate::process::{Pipes, Process, Tail};
use crate::{Error, binary};

/// How [`Builder::register`] registers the agent.
#[derive(Clone, Debug)]
pub struct RegisterOptions {
    /// `true`: shows the transaction and sends nothing. Default: `false`.
    pub dry_run: bool,
    /// How long to wait for a block, up to an hour, rounded up to seconds. Default: 5 minutes.
    pub timeout: Duration,
}

impl Default for RegisterOptions {
    fn default() -> Self {
        RegisterOptions { dry_run: false, timeout: Duration::from_secs(300) }
    }
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Registration {
    /// The agent's Ethereum address.
    pub address: String,
    /// The address of the registry.
    pub registry: String,
    /// The id of the chain.
    pub chain_id: u64,
    /// What became of it.
    pub state: RegistrationState,
    /// The name of the entry.
    pub name: Option<String>,
    /// The metadata of the entry.
    pub metadata: Option<String>,
    /// The most that the transaction can cost, in decimal.
    pub max_cost_wei: Option<String>,
    /// The hash of the transaction.
    pub transaction: Option<String>,
    /// The number of the block.
    pub block: Option<u64>,
    /// The id of the new entry in a registry of ERC-8004, in decimal: set `REGISTRY_AGENT_ID` to it.
    pub agent_id: Option<String>,
}

/// The state of a [`Registration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RegistrationState {
    /// A block has the transaction.
    Registered,
    /// The agent was registered, so nothing was sent.
    Already,
    /// An earlier transaction of the agent waits for a block, so nothing was sent.
    Waiting,
    /// A dry run, which sends nothing.
    Shown,
}

impl Builder {
    /// Registers the agent in the registry on its chain, by one transaction, and waits until a block
    /// has it. The agent's account pays. An agent that is registered already stays as it is. If the
    /// future is dropped, the SDK kills the process; a transaction that it has sent may still get
    /// into a block.
    ///
    /// # Errors
    /// As [`open`](Builder::open) for the options and the binary. [`Error::StartFailed`], with the
    /// exit status and the text of stderr: the registration failed.
    pub async fn register(mut self, options: RegisterOptions) -> Result<Registration, Error> {
        self.find()?;
        let seconds = options.timeout.as_millis().div_ceil(1000).to_string();
        let mut subcommand = vec!["register", "--json", "--timeout", &seconds];
        subcommand.extend(options.dry_run.then_some("--dry-run"));
        let (program, cwd) = (&self.settings.program, self.settings.cwd.as_deref());
        let spawned = Process::spawn(self.command(&subcommand, None));
        let (process, Pipes { stdin, mut stdout, stderr }) = spawned.map_err(|source| {
            let failed = |source| Error::SpawnFailed { program: program.clone(), source: Arc::new(source) };
            binary::unusable(program, cwd, &source).unwrap_or_else(|| failed(source))
        })?;
        drop(stdin);
        let tail = Tail::default();
        let drained = tail.drain(stderr, self.settings.on_stderr.clone());
        let mut output = Vec::new();
        let read = stdout.read_to_end(&mut output).await;
        let exit = process.exit().wait().await;
        // A failure means that the task panicked, and then the tail has what it read before.
        let _ = drained.await;
        if !exit.is_some_and(|exit| exit.success()) {
            return Err(Error::StartFailed { report: None, exit, stderr_tail: tail.quote() });
        }
        let invalid =
            |error: String| Error::Contract(format!("the output of `register` is invalid: {error}"));
        read.map_err(|error| invalid(error.to_string()))?;
        serde_json::from_slice(&output).map_err(|error| invalid(error.to_string()))
    }
}
