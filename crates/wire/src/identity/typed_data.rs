//! The typed data of a binding: the JSON that a wallet signs with `eth_signTypedData_v4` (EIP-712).

use alloy_sol_types::SolStruct;
use serde_json::{Value, json};

use super::Binding;
use super::binding::{STATEMENT, domain, typed::PeerBinding};
use super::presigned::{BindingText, DocumentError};

/// Largest typed data that is read, in bytes. The node prints about 2 KiB, and wallets may indent
/// it.
pub const MAX_TYPED_DATA_BYTES: usize = 64 << 10;

/// Returns the typed data for the wallet of the binding's account. Numbers are decimal strings,
/// because JavaScript's numbers are not exact.
pub fn typed_data(binding: &Binding) -> Value {
    let mut message = json!(BindingText::from(binding));
    message["statement"] = STATEMENT.into();
    // The types come from the struct that is hashed, so that the two cannot differ.
    let ours = PeerBinding::eip712_root_type();
    let domains = domain().encode_type();
    json!({
        "types": { "EIP712Domain": members(&domains), (PeerBinding::NAME): members(&ours) },
        "primaryType": PeerBinding::NAME,
        "domain": { "name": domain().name, "version": domain().version },
        "message": message,
    })
}

/// Reads the output of [`typed_data`] and rejects every addition or change, because the signature
/// would not cover it.
///
/// # Errors
/// Fails when the bytes are anything else.
pub fn read_typed_data(bytes: &[u8]) -> Result<Binding, DocumentError> {
    if bytes.len() > MAX_TYPED_DATA_BYTES {
        return Err(DocumentError::TooLarge(MAX_TYPED_DATA_BYTES));
    }
    let whole: Value = serde_json::from_slice(bytes)?;
    let mut message = whole["message"].clone();
    if let Some(message) = message.as_object_mut() {
        message.remove("statement");
    }
    let binding = serde_json::from_value::<BindingText>(message)?.read()?;
    if typed_data(&binding) == whole { Ok(binding) } else { Err(DocumentError::NotOurs) }
}

/// Returns the members of `Name(type name,type name)`.
fn members(encoded: &str) -> Vec<Value> {
    let list = encoded.split_once('(').map_or("", |(_, list)| list.trim_end_matches(')'));
    let pairs = list.split(',').filter_map(|member| member.split_once(' '));
    pairs.map(|(kind, name)| json!({ "name": name, "type": kind })).collect()
}

#[cfg(test)]
mod tests {
    use alloy_dyn_abi::TypedData;

    use super::*;
    use crate::identity::testing::binding;

    fn printed(binding: &Binding) -> Vec<u8> {
        serde_json::to_vec_pretty(&typed_data(binding)).unwrap()
    }

    /// Computes the hash as a wallet does: from the JSON alone.
    #[test]
    fn hash_computed_from_json_matches_verified_hash() {
        for binding in [
            binding(),
            Binding { chain_id: u64::MAX, generation: u64::MAX, not_after: u64::MAX - 1, ..binding() },
            Binding { network: "a-network-of-its-own".to_owned(), generation: 1_790_000_000, ..binding() },
        ] {
            let wallet: TypedData = serde_json::from_slice(&printed(&binding)).unwrap();
            assert_eq!(wallet.primary_type, "PeerBinding");
            assert_eq!(wallet.eip712_signing_hash().unwrap(), binding.signing_hash());
        }
    }

    #[test]
    fn json_has_format_of_eth_sign_typed_data_v4() {
        let data = typed_data(&binding());
        let mut keys: Vec<_> = data.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["domain", "message", "primaryType", "types"]);
        assert_eq!(data["domain"], json!({"name": "p2p-node", "version": "1"}));
        let domain = json!([{"name": "name", "type": "string"}, {"name": "version", "type": "string"}]);
        assert_eq!(data["types"]["EIP712Domain"], domain);
        let fields = data["types"]["PeerBinding"].as_array().unwrap();
        let named: Vec<_> = fields.iter().map(|field| field["name"].as_str().unwrap()).collect();
        assert_eq!(
            named,
            [
                "statement",
                "account",
                "chainId",
                "peerId",
                "nodeKey",
                "network",
                "generation",
                "notBefore",
                "notAfter"
            ]
        );
        for number in ["chainId", "generation", "notBefore", "notAfter"] {
            assert!(data["message"][number].as_str().unwrap().parse::<u64>().is_ok());
        }
        assert_eq!(data["message"]["statement"], STATEMENT);
        assert_eq!(data["message"]["account"], binding().account.to_string());
    }

    #[test]
    fn printed_typed_data_is_accepted_and_changed_data_rejected() {
        assert_eq!(read_typed_data(&printed(&binding())).unwrap(), binding());
        let changes: [fn(&mut Value); 6] = [
            |data| data["message"]["statement"] = "I give everything away.".into(),
            |data| data["domain"]["version"] = "2".into(),
            |data| data["types"]["PeerBinding"][2]["type"] = "uint64".into(),
            |data| data["message"]["extra"] = "1".into(),
            |data| data["message"]["notAfter"] = "01".into(),
            |data| data["primaryType"] = "Permit".into(),
        ];
        for change in changes {
            let mut data = typed_data(&binding());
            change(&mut data);
            assert!(read_typed_data(data.to_string().as_bytes()).is_err(), "{data}");
        }
        for bytes in [&b""[..], b"{}", b"[]", b"null", b"\xFF", &[b' '; MAX_TYPED_DATA_BYTES + 1]] {
            assert!(read_typed_data(bytes).is_err());
        }
    }
}
