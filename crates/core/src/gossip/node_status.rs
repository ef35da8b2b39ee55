//! The status that nodes publish on `node-status`: a bounded JSON object of a version.

use libp2p_identity::PeerId;
use p2p_node_protocol::Role;
use p2p_node_wire::record::MAX_RECORD_NAME_BYTES;
use serde::{Deserialize, Serialize};

/// Version of the status that this node writes and reads.
pub const STATUS_VERSION: u32 = 1;
/// Longest status, in bytes: 16 PeerIds take 0.9 KiB, and a name of 64 bytes up to 384 in JSON.
pub const MAX_STATUS_BYTES: usize = 2048;
/// Largest number of connected peers that a status names: our choice, enough for a map in which each
/// node has more than the 12 connections that a mesh needs.
pub const MAX_STATUS_PEERS: usize = 16;
/// Longest version, in bytes: our choice, a semantic version with the name of a build.
const MAX_VERSION_BYTES: usize = 64;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStatus {
    /// Display name. May be empty.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Version of the binary.
    pub version: String,
    /// Time since the process started, in ms.
    pub uptime_ms: u64,
    /// Number of connected peers.
    pub peers: u64,
    /// Health score, from 0 to 100.
    pub health: f64,
    /// Messages accepted from the parent.
    pub sent: u64,
    /// Messages queued for the parent.
    pub received: u64,
    /// Mail that ended as delivered.
    pub delivered: u64,
    /// Messages that were lost.
    pub dropped: u64,
    /// Some connected peers, DHT servers first.
    pub connected: Vec<PeerId>,
}

/// Why a node does not read a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// The status is of another version.
    #[error("the status has a later version")]
    LaterVersion,
    /// The status is malformed or exceeds a limit.
    #[error("the status is malformed or exceeds a limit")]
    Malformed,
}

/// The form in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    v: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    role: Role,
    version: String,
    uptime_ms: u64,
    peers: u64,
    health: f64,
    sent: u64,
    received: u64,
    delivered: u64,
    dropped: u64,
    #[serde(default)]
    connected: Vec<String>,
}

/// The version alone.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl NodeStatus {
    /// Encodes the status. The health score has one digit.
    pub fn encode(&self) -> String {
        let connected = self.connected.iter().take(MAX_STATUS_PEERS).map(ToString::to_string).collect();
        serde_json::json!(Wire {
            v: STATUS_VERSION,
            name: self.name.clone(),
            role: self.role,
            version: self.version.clone(),
            uptime_ms: self.uptime_ms,
            peers: self.peers,
            health: (self.health * 10.0).round() / 10.0,
            sent: self.sent,
            received: self.received,
            delivered: self.delivered,
            dropped: self.dropped,
            connected,
        })
        .to_string()
    }

    /// Decodes a status of another node. Everything in it is a claim.
    ///
    /// # Errors
    /// Fails for another version, and for anything that is malformed or exceeds a limit.
    pub fn decode(data: &[u8]) -> Result<Self, StatusError> {
        let malformed = |_| StatusError::Malformed;
        if data.len() > MAX_STATUS_BYTES {
            return Err(StatusError::Malformed);
        }
        let Version { v } = serde_json::from_slice(data).map_err(malformed)?;
        if v != STATUS_VERSION {
            return Err(StatusError::LaterVersion);
        }
        let wire: Wire = serde_json::from_slice(data).map_err(malformed)?;
        let is_text = |text: &str, most| text.len() <= most && !text.chars().any(char::is_control);
        let fits = is_text(&wire.name, MAX_RECORD_NAME_BYTES)
            && is_text(&wire.version, MAX_VERSION_BYTES)
            && (0.0..=100.0).contains(&wire.health)
            && wire.connected.len() <= MAX_STATUS_PEERS;
        if !fits {
            return Err(StatusError::Malformed);
        }
        let connected: Result<Vec<PeerId>, _> = wire.connected.iter().map(|peer| peer.parse()).collect();
        Ok(NodeStatus {
            name: wire.name,
            role: wire.role,
            version: wire.version,
            uptime_ms: wire.uptime_ms,
            peers: wire.peers,
            health: wire.health,
            sent: wire.sent,
            received: wire.received,
            delivered: wire.delivered,
            dropped: wire.dropped,
            connected: connected.map_err(|_| StatusError::Malformed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::identity::NodeKey;
    use proptest::prelude::*;

    use super::*;

    fn peer(number: u8) -> PeerId {
        NodeKey::from_seed([number; 32]).peer_id()
    }

    fn status(peers: usize, name: String, numbers: [u64; 6], tenths: u32) -> NodeStatus {
        let [uptime_ms, peers_in_all, sent, received, delivered, dropped] = numbers;
        NodeStatus {
            name,
            role: Role::Light,
            version: "1.2.3".to_owned(),
            uptime_ms,
            peers: peers_in_all,
            health: f64::from(tenths) / 10.0,
            sent,
            received,
            delivered,
            dropped,
            connected: (0..peers as u8).map(peer).collect(),
        }
    }

    proptest! {
        #[test]
        fn status_round_trips_within_its_longest_form(
            peers in 0..=MAX_STATUS_PEERS, name in "[^\\p{Cc}]{0,16}", numbers: [u64; 6], tenths in 0..=1000_u32,
        ) {
            let status = status(peers, name, numbers, tenths);
            let encoded = status.encode();
            prop_assert!(encoded.len() <= MAX_STATUS_BYTES, "{}", encoded.len());
            prop_assert_eq!(NodeStatus::decode(encoded.as_bytes()), Ok(status));
        }

        #[test]
        fn decoder_accepts_no_bytes_beyond_its_limits(
            data in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
                    let mut data = status(3, "name".to_owned(), [1, 2, 3, 4, 5, 6], 987).encode().into_bytes();
                    let at = at.index(data.len());
                    data[at] = byte;
                    data
                }),
            ],
        ) {
            if let Ok(status) = NodeStatus::decode(&data) {
                prop_assert!(status.name.len() <= MAX_RECORD_NAME_BYTES && status.version.len() <= MAX_VERSION_BYTES);
                prop_assert!(status.connected.len() <= MAX_STATUS_PEERS);
                prop_assert!((0.0..=100.0).contains(&status.health));
                prop_assert!(![status.name, status.version].concat().chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn status_beyond_a_limit_or_of_another_version_is_refused() {
        let good = status(2, "name".to_owned(), [1; 6], 500).encode();
        let change = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            NodeStatus::decode(good.replace(from, to).as_bytes())
        };
        assert!(change("name", "another").is_ok());
        assert_eq!(change("\"v\":1", "\"v\":2"), Err(StatusError::LaterVersion));
        let too_many = format!("\"connected\":[{}", format!("\"{}\",", peer(9)).repeat(MAX_STATUS_PEERS));
        for (from, to) in [
            ("\"connected\":[", too_many.as_str()),
            ("\"health\":50.0", "\"health\":100.1"),
            ("\"health\":50.0", "\"health\":-1"),
            ("\"peers\":1", "\"peers\":-1"),
            ("\"peers\":1", "\"peers\":1,\"peers\":2"),
            ("1.2.3", "1.2.3\\n"),
            ("1.2.3", &"1".repeat(MAX_VERSION_BYTES + 1)),
            ("\"name\":\"name\"", "\"name\":\"\\u001b[2J\""),
            ("\"name\":\"name\"", &format!("\"name\":\"{}\"", "n".repeat(MAX_RECORD_NAME_BYTES + 1))),
            ("12D3KooW", "nobody"),
            ("\"v\":1", &format!("\"v\":1,\"x\":\"{}\"", "x".repeat(MAX_STATUS_BYTES))),
        ] {
            assert_eq!(change(from, to), Err(StatusError::Malformed), "{to}");
        }
        assert!(change("\"v\":1", "\"v\":1,\"later\":[1]").is_ok(), "fields of later versions are ignored");
    }
}
