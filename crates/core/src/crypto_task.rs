//! Tasks for the crypto pool: expensive operations that a stranger could make the node repeat.

use std::sync::Arc;

use bytes::Bytes;
use p2p_node_wire::identity::SignedBinding;
use p2p_node_wire::seal::hpke as once;
use p2p_node_wire::seal::hpke::{Info, SealedFrame};
use p2p_node_wire::seal::kem::Secret;
use p2p_node_wire::seal::session::SessionKey;

use crate::gate::pending_verification::MAX_CHECKS;
use crate::input::{Input, Token};
use crate::mail::decryption::MAX_DECRYPTIONS;
use hpke::rand_core::CryptoRng;

/// Tasks that the crypto pool queues: all checks and decryptions for others, which share their room, and
/// 64 encryptions for this node. Our choice: so others never keep this node from encrypting.
pub const POOL_QUEUE: usize = MAX_CHECKS + MAX_DECRYPTIONS + 64;

/// A task for the crypto pool. The pool answers each task with one input.
#[derive(Clone, Debug)]
pub enum CryptoTask {
    /// Verifies the signature of a binding. Answered by `BindingChecked`.
    CheckBinding(Box<SignedBinding>),
    /// Encrypts the content of a frame. Answered by `Sealed`.
    Seal(Box<SealTask>),
    /// Decrypts a sealed frame. Answered by `Opened`.
    Open(Box<OpenTask>),
}

/// Content to encrypt.
#[derive(Clone, Debug)]
pub struct SealTask {
    /// Token of the answer.
    pub token: Token,
    /// The recipient's KEM key.
    pub public_key: Bytes,
    /// The context to which the ciphertext is bound.
    pub info: Info,
    /// The padded content.
    pub content: Vec<u8>,
}

/// A sealed frame to decrypt.
#[derive(Clone, Debug)]
pub struct OpenTask {
    /// Token of the answer.
    pub token: Token,
    /// Our KEM key.
    pub secret: Arc<Secret>,
    /// The context to which the ciphertext must be bound.
    pub info: Info,
    /// The encapsulated key.
    pub enc: Bytes,
    /// The encrypted content.
    pub ciphertext: Bytes,
}

/// The content of a sealed frame.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The padded content.
    pub content: Vec<u8>,
    /// The session that starts with this frame.
    pub session: SessionKey,
}

/// The result of a task.
#[derive(Clone, Debug)]
pub enum TaskOutcome<T> {
    /// The operation succeeded.
    Done(T),
    /// The operation failed: the key or the data is invalid.
    Failed,
    /// The pool was full and did not run the task.
    PoolFull,
}

impl<T> From<Option<T>> for TaskOutcome<T> {
    fn from(result: Option<T>) -> Self {
        result.map_or(TaskOutcome::Failed, TaskOutcome::Done)
    }
}

impl CryptoTask {
    /// Runs the task, which takes 0.1 to 0.3 ms. Only encryption uses `rng`.
    pub fn run(self, rng: &mut impl CryptoRng) -> Input {
        match self {
            CryptoTask::CheckBinding(binding) => {
                Input::BindingChecked { hash: binding.hash(), valid: Some(binding.verify_signature()) }
            }
            CryptoTask::Seal(task) => {
                let sealed: Option<SealedFrame> =
                    once::seal(&task.public_key, &task.info, &task.content, rng);
                Input::Sealed { token: task.token, outcome: sealed.into() }
            }
            CryptoTask::Open(task) => {
                let opened = once::open(&task.secret, &task.info, &task.enc, &task.ciphertext);
                let opened = opened.map(|(content, session)| Opened { content, session });
                Input::Opened { token: task.token, outcome: opened.into() }
            }
        }
    }

    /// Returns the input for a task that the pool did not run.
    pub fn rejected_by_pool(&self) -> Input {
        match self {
            CryptoTask::CheckBinding(binding) => Input::BindingChecked { hash: binding.hash(), valid: None },
            CryptoTask::Seal(task) => Input::Sealed { token: task.token, outcome: TaskOutcome::PoolFull },
            CryptoTask::Open(task) => Input::Opened { token: task.token, outcome: TaskOutcome::PoolFull },
        }
    }
}
