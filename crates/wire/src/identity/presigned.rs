//! Bindings that a wallet signed: the file format, and errors that explain to a person what is
//! wrong.

use std::str::FromStr;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use super::binding::MAX_BINDING_SIGNATURE_BYTES;
use super::{AddressError, Binding, BindingError, NodePublicKey, SignedBinding, parse_address};

/// Version of the format of the binding file.
pub const BINDING_FILE_VERSION: u32 = 1;
/// Largest binding file that is read, in bytes. A file has less than 2 KiB, or 3 KiB with the
/// longest signature.
pub const MAX_BINDING_FILE_BYTES: usize = 16 << 10;

/// The reasons why a text is not a binding.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The text is longer than this number of bytes.
    #[error("it is longer than {0} bytes")]
    TooLarge(usize),
    /// The text is not JSON of the right shape.
    #[error("it is not JSON of the right form: {0}")]
    Json(#[from] serde_json::Error),
    /// This field has a value of the wrong form.
    #[error("its field `{0}` is invalid")]
    Field(&'static str),
    /// The account is not an Ethereum address.
    #[error("its field `account` is invalid: {0}")]
    Account(#[from] AddressError),
    /// The file has a version that this program does not know.
    #[error("its version is {0}, but this program supports only version {BINDING_FILE_VERSION}")]
    Version(u32),
    /// The types, the domain or the statement differ from those of a binding.
    #[error("it differs from the output of `p2p-node bind` in its types, domain or statement")]
    NotOurs,
}

/// The reasons why a pre-signed binding cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresignedError {
    /// The binding is for another network.
    #[error("the binding is for the network {binding}, but the node is for {node}")]
    OtherNetwork {
        /// The network in the binding.
        binding: String,
        /// The network of this node.
        node: String,
    },
    /// The binding becomes valid in this number of seconds.
    #[error("the binding is not valid yet: it starts in {}", span(*.0))]
    NotYetValid(u64),
    /// The binding expired this number of seconds ago.
    #[error("the binding expired {} ago: sign a new one, see `p2p-node bind --help`", span(*.0))]
    Expired(u64),
    /// Another key made the signature, or the right key signed something else.
    #[error("the signature was made by {signer}, not by {account}, or it covers another binding")]
    OtherSigner {
        /// The address recovered from the signature.
        signer: Address,
        /// The account that the binding names.
        account: Address,
    },
    /// No key can have made this signature: no address can be recovered from it.
    #[error("the signature is invalid: no key can have made it")]
    NobodysSignature,
    /// The binding breaks another rule.
    #[error("{0}")]
    Binding(#[from] BindingError),
}

/// A binding in JSON. Numbers are decimal strings.
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
    /// Converts the text to a binding, without checking whether the binding is valid.
    pub(super) fn read(self) -> Result<Binding, DocumentError> {
        let mut node_key = [0; 32];
        let digits = self.node_key.strip_prefix("0x").ok_or(DocumentError::Field("nodeKey"))?;
        hex::decode_to_slice(digits, &mut node_key).map_err(|_| DocumentError::Field("nodeKey"))?;
        Ok(Binding {
            account: parse_address(&self.account)?,
            chain_id: number(&self.chain_id, "chainId")?,
            peer_id: PeerId::from_str(&self.peer_id).map_err(|_| DocumentError::Field("peerId"))?,
            node_key: NodePublicKey(node_key),
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

/// Returns the content of a binding file. Nothing in it is secret.
pub fn binding_file(signed: &SignedBinding) -> String {
    let file = FileText {
        version: BINDING_FILE_VERSION,
        binding: BindingText::from(&signed.binding),
        signature: format!("0x{}", hex::encode(&signed.signature)),
    };
    let text = serde_json::to_string_pretty(&file);
    text.expect("strings and a number are JSON") + "\n"
}

/// Reads the output of [`binding_file`]. The caller checks the binding with [`check_presigned`].
///
/// # Errors
/// Fails when the bytes are not a binding file. No input makes it panic.
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

/// Reads a signature in hexadecimal digits, with or without `0x`, as a wallet prints it.
///
/// # Errors
/// Fails when the text is not hexadecimal or is too long.
pub fn read_signature(text: &str) -> Result<Bytes, DocumentError> {
    let text = text.trim();
    match hex::decode(text.strip_prefix("0x").unwrap_or(text)) {
        Ok(bytes) if (1..=MAX_BINDING_SIGNATURE_BYTES).contains(&bytes.len()) => Ok(bytes.into()),
        _ => Err(DocumentError::Field("signature")),
    }
}

/// What shows that a pre-signed binding is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The key of the account made the signature.
    Key,
    /// No key made it, so a contract wallet must have: its chain can say so, and was not asked.
    OnChain,
}

/// Checks that a pre-signed binding is valid on this network at `now_ms` (ms since 1970), signature
/// included, unless it is of a contract wallet.
///
/// # Errors
/// Returns the first rule that the binding breaks.
pub fn check_presigned(signed: &SignedBinding, network: &str, now_ms: u64) -> Result<Proof, PresignedError> {
    let Binding { account, not_before, not_after, .. } = signed.binding;
    let now_secs = now_ms / 1000;
    // Peers tolerate 30 s more by their clocks, but our own records end with the binding.
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
        Some(signer) if signer == account => Ok(Proof::Key),
        _ if signed.may_be_of_contract() => Ok(Proof::OnChain),
        Some(signer) => Err(PresignedError::OtherSigner { signer, account }),
        None => Err(PresignedError::NobodysSignature),
    }
}

/// Formats a duration in the largest unit of which it has at least two.
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
