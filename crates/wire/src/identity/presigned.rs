//! Bindings that were signed elsewhere: the file in which one comes, and what is wrong with it, for people.

use std::str::FromStr;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use super::binding::MAX_BINDING_SIGNATURE_BYTES;
use super::{AddressError, Binding, BindingError, SignedBinding, parse_address};

/// Version of the binding file.
pub const BINDING_FILE_VERSION: u32 = 1;
/// Largest binding file that is read, in bytes: one has less than 2 KiB, or 3 with the longest signature.
pub const MAX_BINDING_FILE_BYTES: usize = 16 << 10;

/// Why a text is not a binding.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is longer than so many bytes.
    #[error("it is longer than {0} bytes")]
    TooLarge(usize),
    /// It is not JSON of the right shape.
    #[error("it is not of the right form: {0}")]
    Json(#[from] serde_json::Error),
    /// A field holds something else than it should.
    #[error("its `{0}` cannot be read")]
    Field(&'static str),
    /// Its account is no address.
    #[error("its `account` cannot be read: {0}")]
    Account(#[from] AddressError),
    /// Its version is not known.
    #[error("its version is {0}, and only {BINDING_FILE_VERSION} is known")]
    Version(u32),
    /// Types, domain or statement are not those of a binding.
    #[error("it is not what `p2p-node bind` printed: types, domain or statement differ")]
    NotOurs,
}

/// Why a binding that was signed elsewhere cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresignedError {
    /// For another network.
    #[error("the binding is for the network {binding}, and the node is for {node}")]
    OtherNetwork {
        /// The one that was signed.
        binding: String,
        /// The one that is wanted.
        node: String,
    },
    /// It begins in so many seconds.
    #[error("the binding is not valid yet, but in {}", span(*.0))]
    NotYetValid(u64),
    /// It ended so many seconds ago.
    #[error("the binding expired {} ago: have a new one signed, see `p2p-node bind --help`", span(*.0))]
    Expired(u64),
    /// Somebody else signed it, or somebody signed something else.
    #[error("this signature was made by {signer}, not by {account}, or not over this binding")]
    OtherSigner {
        /// Whose key would have to be used for that.
        signer: Address,
        /// Who was to sign.
        account: Address,
    },
    /// Nobody's key makes such a signature.
    #[error("the signature is nobody's")]
    NobodysSignature,
    /// Anything else.
    #[error("{0}")]
    Binding(#[from] BindingError),
}

/// A binding in JSON, numbers as decimal strings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BindingText {
    account: String,
    chain_id: String,
    peer_id: String,
    node_key: String,
    network: String,
    generation: String,
    not_before: String,
    not_after: String,
}

impl From<&Binding> for BindingText {
    fn from(binding: &Binding) -> Self {
        BindingText {
            account: binding.account.to_string(),
            chain_id: binding.chain_id.to_string(),
            peer_id: binding.peer_id.to_string(),
            node_key: format!("0x{}", hex::encode(binding.node_key)),
            network: binding.network.clone(),
            generation: binding.generation.to_string(),
            not_before: binding.not_before.to_string(),
            not_after: binding.not_after.to_string(),
        }
    }
}

impl BindingText {
    /// Does not judge what it reads.
    pub(super) fn read(self) -> Result<Binding, DocumentError> {
        let mut node_key = [0; 32];
        let digits = self.node_key.strip_prefix("0x").ok_or(DocumentError::Field("nodeKey"))?;
        hex::decode_to_slice(digits, &mut node_key).map_err(|_| DocumentError::Field("nodeKey"))?;
        Ok(Binding {
            account: parse_address(&self.account)?,
            chain_id: number(&self.chain_id, "chainId")?,
            peer_id: PeerId::from_str(&self.peer_id).map_err(|_| DocumentError::Field("peerId"))?,
            node_key,
            network: self.network,
            generation: number(&self.generation, "generation")?,
            not_before: number(&self.not_before, "notBefore")?,
            not_after: number(&self.not_after, "notAfter")?,
        })
    }
}

fn number(text: &str, field: &'static str) -> Result<u64, DocumentError> {
    text.parse().map_err(|_| DocumentError::Field(field))
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    version: u32,
    binding: BindingText,
    signature: String,
}

/// The content of a binding file; nothing in it is secret.
pub fn binding_file(signed: &SignedBinding) -> String {
    let file = FileText {
        version: BINDING_FILE_VERSION,
        binding: BindingText::from(&signed.binding),
        signature: format!("0x{}", hex::encode(&signed.signature)),
    };
    let text = serde_json::to_string_pretty(&file);
    text.expect("strings and a number are JSON") + "\n"
}

/// Reads what [`binding_file`] wrote. Does not judge it: [`check_presigned`] does.
///
/// # Errors
/// When it is not that; no bytes make it panic.
pub fn read_binding_file(bytes: &[u8]) -> Result<SignedBinding, DocumentError> {
    if bytes.len() > MAX_BINDING_FILE_BYTES {
        return Err(DocumentError::TooLarge(MAX_BINDING_FILE_BYTES));
    }
    let FileText { version, binding, signature } = serde_json::from_slice(bytes)?;
    if version != BINDING_FILE_VERSION {
        return Err(DocumentError::Version(version));
    }
    Ok(SignedBinding { binding: binding.read()?, signature: read_signature(&signature)? })
}

/// Reads a signature in hexadecimal digits, with or without `0x`, as a wallet gives it.
///
/// # Errors
/// When it is not that, or too long.
pub fn read_signature(text: &str) -> Result<Bytes, DocumentError> {
    let text = text.trim();
    match hex::decode(text.strip_prefix("0x").unwrap_or(text)) {
        Ok(bytes) if (1..=MAX_BINDING_SIGNATURE_BYTES).contains(&bytes.len()) => Ok(bytes.into()),
        _ => Err(DocumentError::Field("signature")),
    }
}

/// Whether a binding that was signed elsewhere may be used at `now_ms` (ms since 1970) on this network, its signature included.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_presigned(signed: &SignedBinding, network: &str, now_ms: u64) -> Result<(), PresignedError> {
    let Binding { account, not_before, not_after, .. } = signed.binding;
    let now_secs = now_ms / 1000;
    // Peers would take it for some seconds more, by their clocks; our own records end with it.
    let expired = || PresignedError::Expired(now_secs.saturating_sub(not_after));
    signed.check(network, now_ms).map_err(|error| match error {
        BindingError::WrongNetwork => {
            PresignedError::OtherNetwork { binding: signed.binding.network.clone(), node: network.to_owned() }
        }
        BindingError::NotYetValid => PresignedError::NotYetValid(not_before.saturating_sub(now_secs)),
        BindingError::Expired => expired(),
        error => error.into(),
    })?;
    if signed.left_ms(now_ms) == 0 {
        return Err(expired());
    }
    match signed.signer() {
        Some(signer) if signer == account => Ok(()),
        Some(signer) => Err(PresignedError::OtherSigner { signer, account }),
        None => Err(PresignedError::NobodysSignature),
    }
}

/// A time in the largest unit of which there are at least two.
pub fn span(secs: u64) -> String {
    let (number, unit) = match secs {
        0..120 => (secs, "second"),
        120..7_200 => (secs / 60, "minute"),
        7_200..172_800 => (secs / 3_600, "hour"),
        _ => (secs / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

#[cfg(test)]
mod tests;
