//! Names of ENS: which of them the node accepts, and their hashes.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{Address, B256, hex, keccak256};

/// Longest name, in bytes: as DNS has it (RFC 1035 §2.3.4).
pub const MAX_ENS_NAME_BYTES: usize = 255;
/// Longest label of a name, in bytes: as DNS has it (RFC 1035 §2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// Name under which ENS keeps the names of addresses (ENSIP-3).
const REVERSE: &str = "addr.reverse";

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidName {
    /// The text is too long.
    #[error("a name may have at most {MAX_ENS_NAME_BYTES} bytes")]
    TooLong,
    /// The text has other characters.
    #[error(
        "a name may have only ASCII letters, digits, hyphens and dots, because other letters look alike; use the `0x` address"
    )]
    Characters,
    /// The text has too few labels, or an empty or too long one.
    #[error(
        "a name has at least two labels of 1 to {MAX_LABEL_BYTES} bytes with a dot between them, such as `alice.eth`"
    )]
    Labels,
    /// A label has hyphens where those of encoded Unicode have them.
    #[error("the third and fourth character of a label must not both be hyphens; use the `0x` address")]
    Hyphens,
}

/// A name of ENS in lower case. Names with characters outside of ASCII have a normal form that only the
/// tables of ENSIP-15 define, and many of them look alike, so the node has no such names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnsName(String);

impl EnsName {
    /// Returns the text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the hash by which the contracts know the name.
    pub fn hash(&self) -> B256 {
        name_hash(&self.0)
    }
}

impl FromStr for EnsName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() > MAX_ENS_NAME_BYTES {
            return Err(InvalidName::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
            return Err(InvalidName::Characters);
        }
        if !text.contains('.') || text.split('.').any(|label| !(1..=MAX_LABEL_BYTES).contains(&label.len())) {
            return Err(InvalidName::Labels);
        }
        if text.split('.').any(|label| label.get(2..4) == Some("--")) {
            return Err(InvalidName::Hyphens);
        }
        Ok(EnsName(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for EnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the hash under which ENS keeps the name of an address (ENSIP-3).
pub fn reverse_hash(address: &Address) -> B256 {
    name_hash(&format!("{}.{REVERSE}", hex::encode(address)))
}

/// Hashes a name as ENSIP-1 (EIP-137) says.
fn name_hash(name: &str) -> B256 {
    let with_label = |parent: B256, label: &str| keccak256([parent.0, keccak256(label).0].concat());
    name.rsplit('.').fold(B256::ZERO, with_label)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, InvalidName> {
        text.parse().map(|name: EnsName| name.to_string())
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        // EIP-137.
        assert_eq!(
            name_hash("eth"),
            b256!("93cdeb708b7545dc668eb9280176169d1c33cfd8ed6f04690a0bcc88a93fc4ae")
        );
        let name: EnsName = "foo.eth".parse().unwrap();
        assert_eq!(name.hash(), b256!("de9b09fd7c5f901e23a3f19fecc54828e9c848539801e86591bd9801b019f84f"));
        // ENSIP-3: the namespace of reverse names.
        assert_eq!(
            name_hash(REVERSE),
            b256!("91d1777781884d03a6757a803996e38de2a42967fb37eeaca72729271025a9e2")
        );
        let label = "00000000000c2e074ec69a0dfb2997ba6c7d2e1e";
        let address = address!("00000000000C2E074eC69A0dFb2997BA6C7d2e1e");
        assert_eq!(reverse_hash(&address), name_hash(&format!("{label}.addr.reverse")));
    }

    #[test]
    fn name_has_two_ascii_labels_and_becomes_lower_case() {
        let long = "a".repeat(MAX_LABEL_BYTES);
        let longest = [long.as_str(); 4].join(".");
        assert_eq!(longest.len(), MAX_ENS_NAME_BYTES);
        for text in ["alice.eth", "0xa1.b-c.eth", &longest] {
            assert_eq!(parsed(text).as_deref(), Ok(text));
        }
        assert_eq!(parsed("Alice.ETH").as_deref(), Ok("alice.eth"));
        for (text, error) in [
            ("alice", InvalidName::Labels),
            ("", InvalidName::Labels),
            (".eth", InvalidName::Labels),
            ("alice.", InvalidName::Labels),
            ("alice..eth", InvalidName::Labels),
            (&format!("{long}a.eth"), InvalidName::Labels),
            (&format!("{longest}a"), InvalidName::TooLong),
            ("ali ce.eth", InvalidName::Characters),
            ("ali_ce.eth", InvalidName::Characters),
            // A Cyrillic letter in the place of the first one.
            ("\u{430}lice.eth", InvalidName::Characters),
            ("alice\u{3002}eth", InvalidName::Characters),
            ("alice.eth\0", InvalidName::Characters),
            ("xn--80ak6aa92e.eth", InvalidName::Hyphens),
        ] {
            assert_eq!(parsed(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_a_name_in_its_only_form(text in "\\PC{0,12}(\\.[-a-zA-Z0-9]{0,70}){0,4}") {
            if let Ok(name) = text.parse::<EnsName>() {
                prop_assert!(name.as_str().eq_ignore_ascii_case(&text));
                prop_assert!(!name.as_str().bytes().any(|byte| byte.is_ascii_uppercase()));
                prop_assert_eq!(name.as_str().parse::<EnsName>(), Ok(name.clone()));
            }
        }

        #[test]
        fn different_names_have_different_hashes(one in "[a-z]{1,3}\\.[a-z]{1,3}", other in "[a-z]{1,3}(\\.[a-z]{1,2}){1,2}") {
            prop_assert_eq!(one == other, name_hash(&one) == name_hash(&other));
        }
    }
}
