//! Agent cards: the one that an agent gives to others, and the one that its own programs get.

use alloy::primitives::Address;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use libp2p::PeerId;
use p2p_node_wire::identity::{NodeKey, node_key_of};
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::canonical::canonical;

/// The version of A2A that travels between agents.
pub(super) const VERSION: &str = "1.0";

/// The fields of a card of A2A 1.x that are passed on as they are. Those of earlier versions are not, because
/// clients do not count them in the signature; nor are schemes of authentication, because the network proves
/// who calls.
const FIELDS: [&str; 10] = [
    "name",
    "description",
    "provider",
    "version",
    "documentationUrl",
    "iconUrl",
    "capabilities",
    "defaultInputModes",
    "defaultOutputModes",
    "skills",
];

/// Why a card cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CardError {
    /// The card is no object.
    #[error("the agent card is no JSON object")]
    NoObject,
    /// The server has no interface of the kind that the gateway speaks.
    #[error("the agent card names no interface with JSON-RPC of version 1.x")]
    NoInterface,
    /// The card is for another agent.
    #[error("the agent card is not for the agent {0}")]
    OtherAgent(Address),
    /// The signature is not of the node that answered.
    #[error("the agent card is not signed by the node of the agent {0}")]
    Signature(Address),
}

/// Returns the URL of the JSON-RPC interface of a card, at the origin of `server`: the gateway connects to
/// nobody else.
pub(super) fn rpc_url(card: &Value, server: &Url) -> Result<Url, CardError> {
    let interfaces = card["supportedInterfaces"].as_array().ok_or(CardError::NoInterface)?;
    let is_usable = |interface: &&Value| {
        let version = interface["protocolVersion"].as_str().unwrap_or(VERSION);
        interface["protocolBinding"] == "JSONRPC" && version.split('.').next() == Some("1")
    };
    let interface = interfaces.iter().find(is_usable).ok_or(CardError::NoInterface)?;
    let named = interface["url"].as_str().and_then(|url| server.join(url).ok());
    let named = named.ok_or(CardError::NoInterface)?;
    let mut url = server.clone();
    url.set_path(named.path());
    url.set_query(named.query());
    Ok(url)
}

/// Returns the card with one interface, at `url`, and without signatures.
pub(super) fn at(card: &Value, url: &str) -> Result<Map<String, Value>, CardError> {
    let Value::Object(card) = card else { return Err(CardError::NoObject) };
    let kept = card.iter().filter(|(name, _)| FIELDS.contains(&name.as_str()));
    let mut kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let interface = json!([{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": VERSION}]);
    kept.insert("supportedInterfaces".to_owned(), interface);
    Ok(kept)
}

/// Returns the name of an agent as the URL of its interface.
pub(super) fn name_of(agent: Address) -> String {
    format!("p2p:{agent}")
}

/// Returns what a signature covers (RFC 7515).
fn signed(protected: &str, card: &Map<String, Value>) -> serde_json::Result<String> {
    Ok(format!("{protected}.{}", URL_SAFE_NO_PAD.encode(canonical(card)?)))
}

/// Signs a card as the node: JWS with Ed25519, over the canonical JSON of the card. The key is in the PeerId.
///
/// # Errors
/// Fails if the card has no canonical form: a number that a double cannot hold.
pub(super) fn sign(mut card: Map<String, Value>, key: &NodeKey) -> serde_json::Result<Map<String, Value>> {
    let header = json!({"alg": "EdDSA", "kid": key.peer_id().to_string(), "typ": "JOSE"});
    let protected = URL_SAFE_NO_PAD.encode(header.to_string());
    // What the node signs elsewhere begins with a length, and this with a letter.
    let signature = SigningKey::from_bytes(&key.seed()).sign(signed(&protected, &card)?.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature.to_bytes());
    card.insert("signatures".to_owned(), json!([{"protected": protected, "signature": signature}]));
    Ok(card)
}

/// Checks that a card is for this agent, and signed by the node that sent it, which speaks for the agent.
pub(super) fn verify(card: &Value, agent: Address, node: &str) -> Result<(), CardError> {
    let Value::Object(card) = card else { return Err(CardError::NoObject) };
    let mut card = card.clone();
    let signatures = card.remove("signatures").unwrap_or_default();
    let is_genuine = |signature: &Value| is_signature_of(node, &card, signature).unwrap_or(false);
    if !signatures.as_array().is_some_and(|signatures| signatures.iter().any(is_genuine)) {
        return Err(CardError::Signature(agent));
    }
    // A card that the node signed for another of its agents is genuine as well.
    let interfaces = card.get("supportedInterfaces").unwrap_or(&Value::Null);
    match interfaces[0]["url"] == name_of(agent) {
        true => Ok(()),
        false => Err(CardError::OtherAgent(agent)),
    }
}

fn is_signature_of(node: &str, card: &Map<String, Value>, signature: &Value) -> Option<bool> {
    let protected = signature["protected"].as_str()?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(protected).ok()?).ok()?;
    if header["alg"] != "EdDSA" || header["kid"] != node {
        return Some(false);
    }
    let key = VerifyingKey::from_bytes(&node_key_of(&node.parse::<PeerId>().ok()?)?.0).ok()?;
    let bytes = URL_SAFE_NO_PAD.decode(signature["signature"].as_str()?).ok()?;
    let signature = Signature::from_slice(&bytes).ok()?;
    Some(key.verify_strict(signed(protected, card).ok()?.as_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    fn signed_for(agent: Address, key: &NodeKey) -> Value {
        let card = json!({"name": "é", "skills": [{"id": "", "tags": []}], "url": "http://older.example/"});
        Value::Object(sign(at(&card, &name_of(agent)).unwrap(), key).unwrap())
    }

    #[test]
    fn card_is_of_an_agent_if_the_node_that_answered_signed_it_for_this_agent() {
        let [key, other] = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]));
        let node = key.peer_id().to_string();
        let card = signed_for(agent(1), &key);
        assert_eq!(verify(&card, agent(1), &node), Ok(()));
        assert_eq!(verify(&card, agent(2), &node), Err(CardError::OtherAgent(agent(2))));
        let unsigned = Err(CardError::Signature(agent(1)));
        assert_eq!(verify(&card, agent(1), &other.peer_id().to_string()), unsigned);
        assert_eq!(verify(&signed_for(agent(1), &other), agent(1), &node), unsigned);
        for wrong in
            [json!({"name": "x"}), json!({"signatures": []}), json!({"signatures": [{"protected": 1}]})]
        {
            assert_eq!(verify(&wrong, agent(1), &node), unsigned, "{wrong}");
        }
        let mut changed = card.clone();
        changed["description"] = json!("better");
        assert_eq!(verify(&changed, agent(1), &node), unsigned);
        // What A2A leaves out of the signature may be there or not.
        let mut padded = card;
        padded["description"] = json!("");
        assert_eq!(verify(&padded, agent(1), &node), Ok(()));
    }

    #[test]
    fn interface_is_at_the_origin_of_the_server_also_if_the_card_names_another() {
        let server = Url::parse("http://127.0.0.1:9999/base/").unwrap();
        let card = |url: &str, version: &str| {
            let old = json!({"url": "http://a.example/old", "protocolBinding": "JSONRPC", "protocolVersion": "0.3.0"});
            let grpc = json!({"url": "a.example:1", "protocolBinding": "GRPC", "protocolVersion": "1.0"});
            let used = json!({"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version});
            json!({"supportedInterfaces": [old, grpc, used]})
        };
        for (named, url) in [
            ("https://a.example/rpc?x=1", "http://127.0.0.1:9999/rpc?x=1"),
            ("http://u:p@a.example", "http://127.0.0.1:9999/"),
            ("//a.example/rpc", "http://127.0.0.1:9999/rpc"),
            ("rpc", "http://127.0.0.1:9999/base/rpc"),
        ] {
            assert_eq!(rpc_url(&card(named, "1.0"), &server).unwrap().as_str(), url);
        }
        assert_eq!(rpc_url(&card("rpc", "2.0"), &server), Err(CardError::NoInterface));
        assert_eq!(rpc_url(&json!({}), &server), Err(CardError::NoInterface));
    }
}
