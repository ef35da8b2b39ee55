//! What leaves the core for the crypto pool: work that a stranger could make us do again and again.

use std::sync::Arc;

use bytes::Bytes;
use hpke::rand_core::CryptoRng;

use crate::input::{Input, Token};
use p2p_node_wire::identity::SignedBinding;
use p2p_node_wire::seal::hpke::{self as once, Info, SealedFrame};
use p2p_node_wire::seal::kem::Secret;
use p2p_node_wire::seal::session::SessionKey;

/// Work for the crypto pool. Each is answered by one input.
#[derive(Clone, Debug)]
pub enum CryptoTask {
    /// Check a binding's signature; answered by `BindingChecked`.
    CheckBinding(Box<SignedBinding>),
    /// Seal a frame's content; answered by `Sealed`.
    Seal(Box<SealTask>),
    /// Open a sealed frame; answered by `Opened`.
    Open(Box<OpenTask>),
}

/// What is to be sealed.
#[derive(Clone, Debug)]
pub struct SealTask {
    /// Comes back with the result.
    pub token: Token,
    /// The recipient's KEM key.
    pub public_key: Bytes,
    /// What it is bound to.
    pub info: Info,
    /// The padded content.
    pub content: Vec<u8>,
}

/// What is to be opened.
#[derive(Clone, Debug)]
pub struct OpenTask {
    /// Comes back with the result.
    pub token: Token,
    /// Our KEM key.
    pub secret: Arc<Secret>,
    /// What it must be bound to.
    pub info: Info,
    /// The encapsulated key.
    pub enc: Bytes,
    /// The encrypted content.
    pub ciphertext: Bytes,
}

/// What was in a sealed frame.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The padded content.
    pub content: Vec<u8>,
    /// The session that begins with it.
    pub session: SessionKey,
}

/// What came of a task, or nothing when the pool was full and did not look.
pub type Outcome<T> = Option<Option<T>>;

impl CryptoTask {
    /// Does the work: a tenth of a millisecond, or two. Only a sealing takes randomness.
    pub fn run(self, rng: &mut impl CryptoRng) -> Input {
        match self {
            CryptoTask::CheckBinding(binding) => {
                Input::BindingChecked { hash: binding.hash(), valid: Some(binding.verify_signature()) }
            }
            CryptoTask::Seal(task) => {
                let sealed: Option<SealedFrame> =
                    once::seal(&task.public_key, &task.info, &task.content, rng);
                Input::Sealed { token: task.token, outcome: Some(sealed) }
            }
            CryptoTask::Open(task) => {
                let opened = once::open(&task.secret, &task.info, &task.enc, &task.ciphertext);
                let opened = opened.map(|(content, session)| Opened { content, session });
                Input::Opened { token: task.token, outcome: Some(opened) }
            }
        }
    }

    /// The answer when nobody looked.
    pub fn refused(&self) -> Input {
        match self {
            CryptoTask::CheckBinding(binding) => Input::BindingChecked { hash: binding.hash(), valid: None },
            CryptoTask::Seal(task) => Input::Sealed { token: task.token, outcome: None },
            CryptoTask::Open(task) => Input::Opened { token: task.token, outcome: None },
        }
    }
}
